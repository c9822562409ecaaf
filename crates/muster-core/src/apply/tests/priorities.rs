//! Orders of priorities, and priorities that change.

use super::{enqueue, refused};
use crate::testing::*;
use crate::*;

fn with(id: u128, priority: Priority) -> JobSpec {
    JobSpec { priority, ..job(id) }
}

fn set(jobs: &[u128], priority: Priority) -> Command {
    Command::SetPriority {
        tenant: "default".into(),
        jobs: jobs.iter().map(|id| JobId(*id)).collect(),
        priority,
    }
}

fn changed(reply: Reply) -> u32 {
    match reply {
        Reply::Prioritised { changed } => changed,
        other => panic!("{other:?}"),
    }
}

/// Jobs as they start, one by one, with 10 s between their acceptances; the first is the most lowly.
fn order_of(aging: Millis) -> Vec<u128> {
    let mut bed = Bed::new();
    bed.set_tenant(
        "default",
        TenantSettings {
            aging,
            ..TenantSettings::default()
        },
    );
    for (id, priority) in [(1, Priority::Bulk), (2, Priority::Normal), (3, Priority::Critical)] {
        bed.enqueue(with(id, priority));
        bed.now += 10_000;
    }
    bed.open(1, 3);
    bed.started()
}

#[test]
fn a_tenant_has_its_order() {
    assert_eq!(order_of(0), [1, 2, 3], "first come, first served");
    assert_eq!(order_of(5_000), [1, 2, 3], "ten seconds are worth two levels");
    assert_eq!(order_of(5_001), [3, 2, 1]);
    assert_eq!(order_of(30_000), [3, 2, 1]);
    assert_eq!(order_of(AGING_STRICT), [3, 2, 1]);
    for aging in [AGING_STRICT - 1, AGING_STRICT + 1, u64::MAX, 32 * 86_400_000] {
        let settings = TenantSettings {
            aging,
            ..TenantSettings::default()
        };
        let Refusal::OutOfRange { field, value, .. } = refused(Bed::new().set_tenant("default", settings)) else {
            panic!("another refusal");
        };
        assert_eq!((&*field, value), ("aging", aging.to_string().as_str().into()));
    }
}

#[test]
fn strict_levels_never_age() {
    let mut bed = Bed::new();
    let strict = TenantSettings {
        aging: AGING_STRICT,
        ..TenantSettings::default()
    };
    bed.set_tenant("default", strict);
    bed.enqueue(with(1, Priority::High));
    bed.now += 400 * 86_400_000;
    bed.enqueue(with(2, Priority::Critical));
    bed.enqueue(with(3, Priority::High));
    bed.open(1, 3);
    assert_eq!(bed.started(), [2, 1, 3]);
}

#[test]
fn a_priority_can_be_changed_while_a_job_lives() {
    let mut bed = Bed::new();
    bed.all((1..=4).map(|id| enqueue(with(id, Priority::Normal))).collect());
    bed.enqueue(JobSpec {
        available_at: bed.now + 5_000,
        ..job(5)
    });
    assert_eq!(
        changed(bed.one(set(&[3, 5, 99], Priority::Critical))),
        2,
        "one is not there"
    );
    assert_eq!(
        changed(bed.one(set(&[3, 5], Priority::Critical))),
        0,
        "a repeat changes nothing"
    );
    assert_eq!(changed(bed.one(set(&[1], Priority::Bulk))), 1);
    assert_eq!(bed.row(5).spec.priority, Priority::Critical);
    bed.open(1, 2);
    assert_eq!(bed.started(), [3, 2]);
    let before = bed.row(3).changed_index;
    assert_eq!(changed(bed.one(set(&[3], Priority::Low))), 1);
    assert_eq!(bed.state(3), Some(JobState::Running), "what runs goes on");
    assert!(bed.row(3).changed_index > before, "watchers see it");
    assert!(
        bed.events
            .iter()
            .any(|event| matches!(event, Event::PriorityChanged { job: JobId(3), .. }))
    );
    bed.end(3, AttemptOutcome::Preempted);
    bed.report(1, vec![], 9);
    assert_eq!(bed.started(), [4, 3, 1], "and it counts when it starts again");
}

#[test]
fn only_the_owner_changes_a_priority_and_within_bounds() {
    let mut bed = Bed::new();
    bed.set_tenant("other", TenantSettings::default());
    bed.enqueue(job(1));
    let by_other = Command::SetPriority {
        tenant: "other".into(),
        jobs: vec![JobId(1)],
        priority: Priority::Bulk,
    };
    assert_eq!(changed(bed.one(by_other)), 0);
    assert_eq!(bed.row(1).spec.priority, Priority::Normal);
    let many: Vec<u128> = (0..10_001).collect();
    assert!(matches!(
        refused(bed.one(set(&many, Priority::Low))),
        Refusal::OutOfRange { .. }
    ));
}

/// A job that waits at a limit keeps its place in the room up to date.
#[test]
fn a_job_at_a_limit_is_reordered_where_it_waits() {
    let mut bed = Bed::new();
    bed.limit(LimitLevel::Queue, "q", None, 1);
    bed.open(1, 10);
    bed.all((1..=2).map(|id| enqueue(with_keys(job(id), &["a"]))).collect());
    bed.enqueue(with_keys(job(3), &["b"]));
    assert_eq!(bed.limiter(LimitLevel::Queue, "q").waiters, [JobId(2), JobId(3)]);
    bed.one(set(&[3], Priority::High));
    assert_eq!(bed.limiter(LimitLevel::Queue, "q").waiters, [JobId(3), JobId(2)]);
    bed.end(1, succeeded());
    assert_eq!(bed.started(), [3]);
}

/// Urgent jobs with a limit key leave room for others, whatever the order.
#[test]
fn a_limit_key_caps_urgent_jobs() {
    let mut bed = Bed::new();
    let strict = TenantSettings {
        aging: AGING_STRICT,
        ..TenantSettings::default()
    };
    bed.set_tenant("default", strict);
    bed.limit(LimitLevel::Key, "urgent", None, 1);
    for id in 1..=5 {
        bed.enqueue(with_keys(with(id, Priority::Critical), &["urgent"]));
        bed.enqueue(with(10 + id, Priority::Normal));
    }
    bed.open(1, 3);
    assert_eq!(bed.started(), [1, 11, 12]);
}

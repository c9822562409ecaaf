//! Ordering keys.

use super::{enqueue, refused};
use crate::testing::*;
use crate::*;

fn ordered(id: u128, key: &str, policy: OrderingPolicy) -> JobSpec {
    let mut spec = job(id);
    spec.options.max_attempts = 2;
    JobSpec {
        ordering: Some(OrderingKey {
            key: key.into(),
            policy,
        }),
        ..spec
    }
}

fn skipping(id: u128) -> JobSpec {
    ordered(id, "k", OrderingPolicy::SkipDead)
}

fn strict(id: u128) -> JobSpec {
    ordered(id, "k", OrderingPolicy::Strict)
}

fn states(bed: &Bed, ids: std::ops::RangeInclusive<u128>) -> Vec<JobState> {
    ids.filter_map(|id| bed.state(id)).collect()
}

#[test]
fn jobs_of_a_key_run_one_at_a_time_in_order() {
    use JobState::{Blocked, Running};
    let mut bed = Bed::new();
    bed.open(1, 100);
    bed.all((1..=3).map(|id| enqueue(skipping(id))).collect());
    bed.enqueue(ordered(10, "other", OrderingPolicy::Strict));
    bed.enqueue(JobSpec {
        queue: "q2".into(),
        ..skipping(20)
    });
    assert_eq!(states(&bed, 1..=3), [Running, Blocked, Blocked]);
    assert_eq!(
        (bed.state(10), bed.state(20)),
        (Some(Running), Some(Running)),
        "neither another key nor another queue waits"
    );
    bed.end(1, succeeded());
    assert_eq!(bed.started(), [2], "the next one goes on in the same entry");
    let sequence = |bed: &Bed| {
        bed.events.iter().find_map(|event| match event {
            Event::Assigned(given) => Some(given.sequence),
            _ => None,
        })
    };
    let first = sequence(&bed);
    bed.end(2, succeeded());
    assert!(sequence(&bed) > first, "the worker can see the order");
    bed.end(3, succeeded());
    assert_eq!(bed.core.live().blocked, 0);
    assert!(
        bed.core.order(TenantId(1), "q", &"k".into()).is_none(),
        "gone with its jobs"
    );
}

#[test]
fn whatever_its_priority_a_job_keeps_its_place() {
    let mut bed = Bed::new();
    bed.enqueue(JobSpec {
        priority: Priority::Bulk,
        ..skipping(1)
    });
    bed.enqueue(JobSpec {
        priority: Priority::Critical,
        ..skipping(2)
    });
    bed.open(1, 100);
    assert_eq!(bed.started(), [1]);
}

#[test]
fn a_job_that_waits_holds_up_those_behind_it() {
    let mut bed = Bed::new();
    bed.open(1, 100);
    bed.enqueue(JobSpec {
        available_at: bed.now + 500,
        ..skipping(1)
    });
    bed.enqueue(skipping(2));
    bed.enqueue(JobSpec {
        available_at: bed.now + 100,
        ..skipping(3)
    });
    assert_eq!(bed.tick(), 100);
    assert_eq!(
        states(&bed, 1..=3),
        [JobState::Scheduled, JobState::Blocked, JobState::Blocked]
    );
    assert_eq!(bed.tick(), 400);
    assert_eq!(bed.started(), [1]);
    bed.end(1, failed(true, 0));
    assert_eq!(bed.state(2), Some(JobState::Blocked), "while it waits for its backoff");
    bed.tick();
    assert_eq!(bed.started(), [1]);
    bed.end(1, AttemptOutcome::Preempted);
    assert_eq!(bed.started(), [1], "handed back, it is still the first");
    bed.one(Command::LoseSession { session: SessionId(1) });
    bed.open(2, 100);
    assert_eq!(bed.started(), [1], "also when its worker vanished");
    let cancel = |job| Command::Cancel {
        tenant: "default".into(),
        job: JobId(job),
    };
    bed.one(cancel(2));
    bed.end(1, succeeded());
    assert_eq!(bed.started(), [3], "a cancelled one is passed over");
}

#[test]
fn a_blocked_job_expires_as_others_do() {
    let mut bed = Bed::new();
    bed.open(1, 100);
    bed.enqueue(skipping(1));
    let mut spec = skipping(2);
    spec.options.expires_in = 50;
    bed.enqueue(spec);
    bed.enqueue(skipping(3));
    assert_eq!(bed.tick(), 50);
    assert_eq!(bed.ended(2).state, JobState::Expired);
    bed.end(1, succeeded());
    assert_eq!(bed.started(), [3]);
}

#[test]
fn a_dead_job_lets_the_next_one_go_unless_the_order_is_strict() {
    let mut bed = Bed::new();
    bed.open(1, 100);
    bed.all((1..=2).map(|id| enqueue(skipping(id))).collect());
    bed.end(1, failed(false, 0));
    assert_eq!(bed.started(), [2]);
    bed.end(2, succeeded());

    bed.all((3..=5).map(|id| enqueue(strict(id))).collect());
    let place = bed.row(3).sequence;
    bed.end(3, failed(false, 0));
    assert_eq!((bed.ended(3).state, bed.started().len()), (JobState::Dead, 0));
    assert!(bed.events.contains(&Event::OrderHeld {
        tenant: TenantId(1),
        queue: "q".into(),
        key: "k".into(),
        job: JobId(3)
    }));
    let held = bed.core.held_orders(TenantId(1), "q", "", 10);
    assert_eq!(
        (held.len(), held[0].held_by, held[0].first, held[0].jobs),
        (1, Some(JobId(3)), Some(JobId(4)), 2)
    );
    // A redriven job takes its place, before all others.
    let redrive = |from, id| Command::Redrive {
        from: JobId(from),
        spec: Box::new(strict(id)),
    };
    bed.one(redrive(3, 6));
    assert_eq!((bed.started(), bed.row(6).sequence), (vec![6], place));
    bed.end(6, failed(false, 0));
    assert_eq!(bed.state(4), Some(JobState::Blocked), "dead again");
    bed.one(redrive(6, 7));
    bed.end(7, succeeded());
    assert_eq!(bed.started(), [4]);
    bed.end(4, failed(false, 0));
    assert_eq!(bed.state(5), Some(JobState::Blocked));
    let release = |key: &str| Command::ReleaseOrder {
        tenant: "default".into(),
        queue: "q".into(),
        key: key.into(),
    };
    assert_eq!(bed.one(release("unknown")), Reply::Done);
    assert_eq!(bed.one(release("k")), Reply::Done);
    assert_eq!(bed.started(), [5], "an operator let them go on");
    assert_eq!(bed.one(release("k")), Reply::Done);
    bed.end(5, failed(false, 0));
    // Nothing waits, and the key is held all the same.
    bed.enqueue(strict(8));
    assert_eq!(bed.state(8), Some(JobState::Blocked));
    bed.one(Command::Cancel {
        tenant: "default".into(),
        job: JobId(8),
    });
    assert_eq!(bed.core.queues(TenantId(1)).len(), 1, "its queue stays");
    bed.one(release("k"));
    assert_eq!(bed.core.queues(TenantId(1)), []);
    let stranger = Command::ReleaseOrder {
        tenant: "nobody".into(),
        queue: "q".into(),
        key: "k".into(),
    };
    assert_eq!(refused(bed.one(stranger)), Refusal::UnknownTenant("nobody".into()));
}

//! Why a job does not run: each reason.

use super::enqueue;
use crate::testing::*;
use crate::*;

fn explain(bed: &Bed, job: u128) -> Explanation {
    bed.core.explain(TenantId(1), JobId(job)).expect("it lives")
}

fn reasons(bed: &Bed, job: u128) -> Vec<WaitReason> {
    explain(bed, job).reasons
}

fn expected(bed: &Bed, job: u128) -> Option<u64> {
    let at = explain(bed, job).expected_start?;
    Some(at - bed.now)
}

/// The only reason, which is a limit.
fn limit(bed: &Bed, job: u128) -> LimitWait {
    match &reasons(bed, job)[..] {
        [WaitReason::Limit(limit)] => limit.clone(),
        other => panic!("{other:?}"),
    }
}

fn pause(queue: &str, paused: bool) -> Command {
    Command::PauseQueue {
        tenant: "default".into(),
        queue: queue.into(),
        paused,
        note: "migration".into(),
    }
}

fn paused_queue() -> WaitReason {
    WaitReason::Paused {
        level: LimitLevel::Queue,
        name: "q".into(),
        note: "migration".into(),
    }
}

#[test]
fn a_job_whose_time_has_not_come() {
    let mut bed = Bed::new();
    bed.open(1, 10);
    let at = bed.now + 5_000;
    bed.enqueue(JobSpec {
        available_at: at,
        ..job(1)
    });
    let delayed = WaitReason::NotDue { at, backoff: false };
    assert_eq!(reasons(&bed, 1), std::slice::from_ref(&delayed));
    assert_eq!(expected(&bed, 1), Some(5_000), "a worker has room");
    bed.one(pause("q", true));
    assert_eq!(
        reasons(&bed, 1),
        [delayed, paused_queue()],
        "it would not start then either"
    );
    assert_eq!(expected(&bed, 1), None);
    bed.one(pause("q", false));

    bed.enqueue(job(2));
    bed.end(2, failed(true, 700));
    let at = bed.now + 700;
    assert_eq!(reasons(&bed, 2), [WaitReason::NotDue { at, backoff: true }]);
}

#[test]
fn a_job_of_a_paused_queue() {
    let mut bed = Bed::new();
    bed.open(1, 10);
    bed.one(pause("q", true));
    bed.enqueue(job(1));
    assert_eq!(reasons(&bed, 1), [paused_queue()]);
    assert_eq!(expected(&bed, 1), None);
    bed.one(pause("q", false));
    assert_eq!(reasons(&bed, 1), []);
}

#[test]
fn a_job_that_runs_and_one_that_is_not_there() {
    let mut bed = Bed::new();
    bed.open(7, 1);
    bed.enqueue(job(1));
    let explained = explain(&bed, 1);
    let holder = explained.holder.expect("it runs");
    assert_eq!(
        (holder.session, &*holder.worker, holder.node),
        (SessionId(7), "worker", 1)
    );
    assert_eq!((explained.reasons, explained.expected_start), (vec![], None));
    assert_eq!(bed.core.explain(TenantId(2), JobId(1)), None, "another tenant's");
    assert_eq!(bed.core.explain(TenantId(1), JobId(2)), None);
}

#[test]
fn a_job_behind_others_of_its_ordering_key() {
    let mut bed = Bed::new();
    bed.open(1, 1);
    let ordered = |id| JobSpec {
        ordering: Some(OrderingKey {
            key: "k".into(),
            policy: OrderingPolicy::Strict,
        }),
        ..job(id)
    };
    bed.all((1..=3).map(|id| enqueue(ordered(id))).collect());
    let wait = |held_by, first: (u128, JobState), before| {
        WaitReason::Ordering(OrderWait {
            key: "k".into(),
            held_by,
            first: Some((JobId(first.0), first.1)),
            before,
        })
    };
    assert_eq!(reasons(&bed, 3), [wait(None, (1, JobState::Running), 2)]);
    assert_eq!(expected(&bed, 3), None);
    bed.end(1, failed(false, 0));
    assert_eq!(reasons(&bed, 2), [wait(Some(JobId(1)), (2, JobState::Blocked), 0)]);
}

#[test]
fn a_job_that_no_worker_accepts() {
    let mut bed = Bed::new();
    bed.open(1, 10);
    let mut picky = hello(2, bed.index);
    picky.class.tenants = vec!["_system".into()];
    bed.one(Command::OpenSession(Box::new(picky)));
    let mut elsewhere = hello(3, bed.index);
    elsewhere.class.queues = vec!["other-*".into()];
    bed.one(Command::OpenSession(Box::new(elsewhere)));
    let labelled = |mut spec: JobSpec| {
        spec.options.required_labels = vec![("gpu".into(), "a100".into())];
        spec
    };
    let other_kind = JobSpec {
        kind: "video".into(),
        ..job(1)
    };
    let other_version = JobSpec {
        schema_version: 9,
        ..job(2)
    };
    for (spec, counts) in [
        (other_kind, [3, 2, 1, 0, 0, 0]),
        (other_version, [3, 2, 1, 1, 0, 0]),
        (labelled(job(3)), [3, 2, 1, 1, 1, 0]),
    ] {
        let id = spec.id.0;
        bed.enqueue(spec);
        let explained = explain(&bed, id);
        let workers = explained.workers;
        assert_eq!(explained.reasons, [WaitReason::NoWorker], "{workers:?}");
        let seen = [
            workers.open,
            workers.tenant,
            workers.queue,
            workers.kind,
            workers.version,
            workers.accept,
        ];
        assert_eq!(seen, counts);
        assert_eq!((explained.share, explained.expected_start), (None, None));
    }
    let mut gpu = hello(4, bed.index);
    gpu.class.labels = vec![("gpu".into(), "a100".into())];
    bed.one(Command::OpenSession(Box::new(gpu)));
    assert_eq!(reasons(&bed, 3), [WaitReason::NoSlot], "accepted, but without credits");
}

#[test]
fn a_job_that_waits_for_a_slot_has_a_position_and_a_share() {
    let mut bed = Bed::new();
    for (tenant, weight) in [("heavy", 300), ("light", 100)] {
        bed.set_tenant(
            tenant,
            TenantSettings {
                weight,
                ..TenantSettings::default()
            },
        );
    }
    bed.open(1, 1);
    bed.all((1..=5).map(|id| enqueue(job(id))).collect());
    for (id, tenant) in [(10, "heavy"), (20, "light")] {
        bed.enqueue(JobSpec {
            tenant: tenant.into(),
            ..job(id)
        });
    }
    let explained = explain(&bed, 4);
    assert_eq!(explained.reasons, [WaitReason::NoSlot]);
    let position = explained.position.expect("it is available");
    assert_eq!((position.before, position.exact, position.available), (2, true, 4));
    let share = explained.share.expect("a worker accepts it");
    assert_eq!((share.weight, share.tenants, share.weights), (100, 3, Some(500)));
    assert_eq!(share.before, Some(2), "its tenant has had a start already");
    let workers = explained.workers;
    assert_eq!((workers.accept, workers.running, workers.free), (1, 1, 0));
    assert_eq!(explained.expected_start, None, "when the running job ends is unknown");
    bed.one(Command::QuietSession { session: SessionId(1) });
    assert_eq!(explain(&bed, 4).workers.quiet, 1);
}

#[test]
fn a_job_at_a_full_limit() {
    let mut bed = Bed::new();
    bed.limit(LimitLevel::Kind, "mail", None, 1);
    bed.open(1, 10);
    bed.enqueue(job(1));
    bed.enqueue(job(2));
    let wait = limit(&bed, 2);
    assert_eq!(
        (wait.level, &*wait.name, wait.cause),
        (LimitLevel::Kind, "mail", LimitCause::Full)
    );
    assert_eq!((wait.running, wait.waiting, wait.parked), (1, 1, true));
    assert_eq!(wait.rule.expect("a rule").concurrency, 1);
    assert_eq!(expected(&bed, 2), None);
}

#[test]
fn a_job_that_waits_for_tokens_knows_when_it_starts() {
    let mut bed = Bed::new();
    bed.limit(LimitLevel::Queue, "q", Some((2, 1_000, 1)), 0);
    bed.open(1, 100);
    bed.all((1..=5).map(|id| enqueue(job(id))).collect());
    let wait = limit(&bed, 2);
    assert_eq!((wait.cause, wait.opens_at - bed.now), (LimitCause::Rate, 500));
    assert_eq!((wait.tokens, wait.cost), (Some(0), 1));
    let told: Vec<_> = (2..=5).map(|id| expected(&bed, id)).collect();
    assert_eq!(told, [Some(500), Some(1_000), Some(1_500), Some(2_000)]);
    for id in 2..=5 {
        assert_eq!(bed.tick(), 500);
        assert_eq!(bed.started(), [id], "as it was told");
    }
}

#[test]
fn jobs_of_several_lanes_at_one_rate_are_told_their_times() {
    let mut bed = Bed::new();
    bed.limit(LimitLevel::Key, "api", Some((10, 1_000, 3)), 0);
    bed.open(1, 100);
    let costing = |id, keys: &[&str], cost: u32| {
        let mut spec = with_keys(job(id), keys);
        spec.options.limits.keys[0].cost = cost;
        enqueue(spec)
    };
    bed.all(vec![
        costing(1, &["api"], 3),
        costing(2, &["api"], 2),
        costing(3, &["api", "b"], 3),
    ]);
    bed.all(vec![costing(4, &["api"], 2), costing(5, &["api"], 3)]);
    let mut told: Vec<_> = (2..=5).map(|id| (expected(&bed, id).expect("known"), id)).collect();
    told.sort_unstable();
    let from = bed.now;
    let mut starts = Vec::new();
    while starts.len() < 4 {
        bed.tick();
        starts.extend(bed.started().into_iter().map(|id| (bed.now - from, id)));
    }
    assert_eq!(told, starts);
}

#[test]
fn a_job_of_a_throttled_key() {
    let mut bed = Bed::new();
    bed.open(1, 1);
    bed.enqueue(with_keys(job(1), &["api"]));
    bed.end(
        1,
        AttemptOutcome::Throttled {
            key: "api".into(),
            retry_after: 3_000,
        },
    );
    bed.report(1, vec![], 5);
    let wait = limit(&bed, 1);
    assert_eq!((wait.cause, wait.opens_at - bed.now), (LimitCause::Throttled, 3_000));
    assert_eq!((wait.rule, wait.parked), (None, true));
    assert_eq!(expected(&bed, 1), Some(3_000));
}

#[test]
fn a_job_that_costs_more_than_the_burst() {
    let mut bed = Bed::new();
    bed.open(1, 10);
    let mut spec = job(1);
    spec.options.limits.cost = 5;
    spec.available_at = bed.now + 10;
    bed.enqueue(spec);
    bed.limit(LimitLevel::Tenant, "*", Some((1, 1_000, 4)), 0);
    bed.tick();
    let wait = limit(&bed, 1);
    assert_eq!(
        (wait.level, wait.cause, wait.opens_at),
        (LimitLevel::Tenant, LimitCause::TooCostly, 0)
    );
    assert_eq!(expected(&bed, 1), None);
}

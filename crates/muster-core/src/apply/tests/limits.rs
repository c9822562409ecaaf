//! Limits.

use super::{enqueue, refused};
use crate::testing::*;
use crate::*;

use LimitLevel::{Cluster, Key, Kind, Queue, Tenant};

fn of(tenant: &str, spec: JobSpec) -> JobSpec {
    JobSpec {
        tenant: tenant.into(),
        ..spec
    }
}

fn in_queue(queue: &str, spec: JobSpec) -> JobSpec {
    JobSpec {
        queue: queue.into(),
        ..spec
    }
}

fn costing(cost: u32, mut spec: JobSpec) -> JobSpec {
    spec.options.limits.cost = cost;
    spec
}

fn sorted(mut ids: Vec<u128>) -> Vec<u128> {
    ids.sort_unstable();
    ids
}

#[test]
fn limits_hold_and_block_nobody_else() {
    let mut bed = Bed::new();
    for tenant in ["slow", "narrow"] {
        bed.set_tenant(tenant, TenantSettings::default());
    }
    let slow = |rate| Command::SetLimit(Box::new(rule(Tenant, "slow", "*", rate, 0)));
    bed.one(slow(Some((2, 1000, 2))));
    bed.one(Command::SetLimit(Box::new(rule(Tenant, "narrow", "*", None, 1))));
    bed.open(1, 100);
    let all = |tenant: &str, ids: std::ops::Range<u128>| -> Vec<Command> {
        ids.map(|id| enqueue(of(tenant, job(id)))).collect()
    };
    bed.all([all("slow", 10..15), all("narrow", 20..23), all("default", 30..33)].concat());
    assert_eq!(sorted(bed.started()), [10, 11, 20, 30, 31, 32]);
    assert_eq!(bed.tick(), 500);
    assert_eq!(bed.started(), [12]);
    bed.end(20, succeeded());
    assert_eq!(bed.started(), [21]);
    bed.one(slow(None));
    assert_eq!(bed.started(), [13, 14], "a changed limit wakes its tenant");
    let wide = rule(Tenant, "narrow", "*", None, 0).selector;
    bed.one(Command::DeleteLimit(wide));
    assert_eq!(bed.started(), [22]);
}

#[test]
fn each_level_limits_what_it_is_for() {
    // Two jobs each of the same name and one of another; the limit of 1 lets one of the two and the other one run.
    let jobs = |id: u128| match id {
        0 | 1 => job(id + 1),
        _ => JobSpec {
            kind: "other".into(),
            ..in_queue("other", job(id + 1))
        },
    };
    for (level, names, started) in [
        (Cluster, "*", &[1][..]),
        (Tenant, "*", &[1]),
        (Queue, "q", &[1, 3]),
        (Queue, "*", &[1, 3]),
        (Kind, "mail", &[1, 3]),
        (Kind, "m*", &[1, 3]),
        (Key, "k1", &[1, 2, 3]),
    ] {
        let mut bed = Bed::new();
        bed.limit(level, names, None, 1);
        let mut all = hello(1, 0);
        all.class.kinds.push(KindVersions {
            kind: "other".into(),
            ..all.class.kinds[0].clone()
        });
        bed.one(Command::OpenSession(Box::new(all)));
        bed.report(1, vec![], 10);
        bed.all((0..3).map(|id| enqueue(jobs(id))).collect());
        assert_eq!(sorted(bed.started()), started, "{level:?} {names}");
        let mut left: Vec<u128> = (1..=3).filter(|id| !started.contains(id)).collect();
        bed.end(1, succeeded());
        if !left.is_empty() {
            assert_eq!(bed.started(), [left.remove(0)], "{level:?}: an end frees a place");
        }
    }
}

#[test]
fn several_keys_are_taken_together_or_not_at_all() {
    let mut bed = Bed::new();
    bed.limit(Key, "a", None, 1);
    bed.limit(Key, "b", Some((1, 1_000, 1)), 0);
    bed.open(1, 10);
    bed.enqueue(with_keys(job(1), &["a"]));
    bed.enqueue(with_keys(job(2), &["a", "b"]));
    bed.enqueue(with_keys(job(3), &["b"]));
    assert_eq!(
        (bed.state(2), bed.state(3)),
        (Some(JobState::Available), Some(JobState::Running)),
        "a job that waits for a holds no token of b"
    );
    assert_eq!(bed.limiter(Key, "a").waiters, [JobId(2)]);
    bed.end(1, succeeded());
    assert_eq!(bed.state(2), Some(JobState::Available), "b is used up now");
    let a = bed.limiter(Key, "a");
    assert_eq!(
        (a.running, a.full),
        (0, false),
        "a job that waits for b has no place at a"
    );
    bed.enqueue(with_keys(job(4), &["a"]));
    assert_eq!(bed.started(), [4]);
    assert_eq!(bed.tick(), 1_000);
    assert_eq!(bed.started(), [] as [u128; 0]);
    bed.end(4, succeeded());
    assert_eq!(bed.started(), [2]);
}

#[test]
fn a_blocked_key_never_delays_a_neighbour() {
    let mut bed = Bed::new();
    bed.limit(Key, "*", None, 1);
    bed.open(1, 1_000);
    let mut commands = Vec::new();
    for id in 0..300 {
        commands.push(enqueue(with_keys(job(id), &["busy"])));
    }
    for id in 300..400 {
        commands.push(enqueue(with_keys(job(id), &[&format!("key-{id}")])));
    }
    bed.all(commands);
    assert_eq!(bed.started().len(), 101, "one of the busy key, all others");
    assert_eq!(bed.limiter(Key, "busy").waiting, 299);
}

#[test]
fn a_costly_start_takes_its_tokens_and_is_not_overtaken() {
    let mut bed = Bed::new();
    bed.limit(Queue, "q", Some((10, 1_000, 10)), 0);
    bed.enqueue(costing(7, job(1)));
    bed.enqueue(costing(7, job(2)));
    bed.enqueue(job(3));
    bed.open(1, 10);
    assert_eq!(bed.started(), [1]);
    let view = bed.limiter(Queue, "q");
    assert_eq!(
        (view.tokens, view.shut_until),
        (Some(3), bed.now + 400),
        "the second one waits for four more tokens, the third one behind it"
    );
    assert_eq!(bed.tick(), 400);
    assert_eq!(bed.started(), [2]);
    assert_eq!(bed.tick(), 100);
    assert_eq!(bed.started(), [3]);
}

#[test]
fn what_costs_more_than_the_burst_is_refused_or_waits_for_another_rule() {
    let mut bed = Bed::new();
    bed.open(1, 10);
    for (level, names) in [(Cluster, "*"), (Tenant, "*"), (Queue, "q"), (Kind, "mail")] {
        bed.limit(level, names, Some((10, 1_000, 4)), 0);
        let refusal = refused(bed.one(enqueue(costing(5, job(9)))));
        let Refusal::OutOfRange { field, value, allowed } = refusal else {
            panic!("{refusal:?}")
        };
        assert_eq!((&*field, &*value), ("cost", "5"));
        assert!(allowed.contains("at most 4"), "{allowed}");
        let selector = rule(level, "default", names, None, 0).selector;
        bed.one(Command::DeleteLimit(selector));
    }
    bed.limit(Key, "k", Some((1, 1_000, 1)), 0);
    bed.enqueue(with_keys(job(8), &["k"]));
    bed.enqueue(with_keys(costing(5, job(1)), &["k"]));
    // The burst becomes smaller than what an accepted job costs.
    bed.limit(Tenant, "*", Some((10, 1_000, 4)), 0);
    bed.tick();
    assert_eq!(bed.started(), [] as [u128; 0]);
    assert_eq!(bed.limiter(Tenant, "").too_costly, [JobId(1)]);
    bed.enqueue(job(2));
    assert_eq!(bed.started(), [2], "it holds up nobody");
    bed.limit(Tenant, "*", Some((10, 1_000, 5)), 0);
    assert_eq!(bed.tick(), 100);
    assert_eq!(bed.started(), [1]);
}

#[test]
fn the_most_specific_rule_applies_and_changes_at_once() {
    let mut bed = Bed::new();
    let any = |rate, concurrency| Command::SetLimit(Box::new(rule(Key, "*", "*", rate, concurrency)));
    bed.one(any(None, 1));
    bed.limit(Key, "vip*", None, 2);
    bed.limit(Key, "vip-1", None, 0);
    bed.open(1, 100);
    let mut commands = Vec::new();
    for (at, key) in ["other", "vip-2", "vip-1"].iter().enumerate() {
        for id in 0..4 {
            commands.push(enqueue(with_keys(job(at as u128 * 10 + id), &[key])));
        }
    }
    bed.all(commands);
    assert_eq!(sorted(bed.started()), [0, 10, 11, 20, 21, 22, 23]);
    let rules = bed.limiter(Key, "vip-1").rules;
    assert_eq!(
        rules.iter().map(|rule| &*rule.selector.names).collect::<Vec<_>>(),
        ["vip-1", "vip*", "*"]
    );
    bed.one(any(None, 3));
    assert_eq!(bed.started(), [1, 2], "raised");
    bed.one(Command::DeleteLimit(rule(Key, "default", "vip*", None, 0).selector));
    assert_eq!(bed.started(), [12], "the next one applies");
    bed.one(any(None, 2));
    bed.end(0, succeeded());
    assert_eq!(bed.started(), [] as [u128; 0], "lowered: two still run");
    bed.end(1, succeeded());
    assert_eq!(bed.started(), [3]);
}

#[test]
fn a_throttled_key_is_closed_and_the_attempt_not_counted() {
    let mut bed = Bed::new();
    bed.open(1, 100);
    bed.enqueue(with_keys(job(1), &["api"]));
    bed.enqueue(with_keys(job(2), &["api", "other"]));
    bed.enqueue(with_keys(job(3), &["other"]));
    let throttled = |key: &str, retry_after| AttemptOutcome::Throttled {
        key: key.into(),
        retry_after,
    };
    assert_eq!(
        bed.end(1, throttled("api", 5_000)),
        ReportReply::Accepted(JobState::Available)
    );
    assert!(bed.events.contains(&Event::LimitClosed {
        level: Key,
        tenant: TenantId(1),
        name: "api".into(),
        until: bed.now + 5_000,
        throttled: true
    }));
    assert_eq!((bed.row(1).attempts, bed.row(1).failures), (0, 0));
    bed.enqueue(with_keys(job(4), &["api"]));
    bed.enqueue(with_keys(job(5), &["other"]));
    assert_eq!(
        (bed.state(4), bed.state(5)),
        (Some(JobState::Available), Some(JobState::Running))
    );
    // A shorter report of another job does not open it earlier.
    bed.end(2, throttled("api", 1_000));
    assert_eq!(bed.tick(), 5_000);
    assert_eq!(bed.started(), [1, 2, 4]);
    bed.end(1, throttled("api", 1_000_000));
    bed.one(Command::OpenKey {
        tenant: "default".into(),
        key: "api".into(),
    });
    assert_eq!(bed.started(), [1], "an operator opened it");
    assert_eq!(
        bed.end(3, throttled("api", 700)),
        ReportReply::Accepted(JobState::Scheduled),
        "it does not carry the key: it waits alone"
    );
    bed.enqueue(with_keys(job(6), &["api"]));
    assert_eq!(bed.started(), [6]);
    assert_eq!(bed.tick(), 700);
    assert_eq!(bed.started(), [3]);
}

/// A semaphore that is given back by its holder, or by whoever thinks the holder is gone, is given back twice after a
/// short loss of heartbeats. Here what runs is what is counted, so nothing can be given back.
#[test]
fn a_limit_of_one_survives_lost_heartbeats() {
    let mut bed = Bed::new();
    bed.limit(Key, "*", None, 1);
    let mut commands: Vec<Command> = (0..12)
        .map(|id| enqueue(with_keys(poison_proof(id), &["account-7"])))
        .collect();
    bed.all(std::mem::take(&mut commands));
    let running = |bed: &Bed| {
        (0..12)
            .filter(|id| bed.state(*id) == Some(JobState::Running))
            .collect::<Vec<_>>()
    };
    let mut late = Vec::new();
    for round in 0..11_u128 {
        let session = 100 + round;
        bed.open(session, 5);
        let ran = running(&bed);
        assert_eq!(ran.len(), 1, "round {round}: {ran:?}");
        let lease = bed.row(ran[0]).lease.expect("it runs").id;
        late.push(AttemptReport {
            job: JobId(ran[0]),
            lease,
            outcome: succeeded(),
        });
        // Its worker is silent for too long, but goes on working.
        bed.one(Command::LoseSession {
            session: SessionId(session),
        });
        assert_eq!(running(&bed).len(), 0);
    }
    bed.open(1, 20);
    for report in late {
        let replies = bed.report(1, vec![report.clone(), report], 0);
        assert_eq!(replies, [ReportReply::LeaseLost, ReportReply::LeaseLost]);
        assert_eq!(running(&bed).len(), 1, "a late report frees nothing");
        assert_eq!(bed.limiter(Key, "account-7").running, 1);
    }
}

/// A job that may lose any number of workers.
fn poison_proof(id: u128) -> JobSpec {
    let mut spec = job(id);
    spec.options.max_crashes = 100;
    spec.options.backoff = Backoff::Fixed { delay: 0 };
    spec
}

#[test]
fn a_limiter_is_forgotten_once_it_says_nothing() {
    let mut bed = Bed::new();
    let quiet = bed.core.rows().len();
    bed.limit(Key, "*", Some((1, 1_000, 2)), 0);
    bed.open(1, 10);
    bed.enqueue(with_keys(job(1), &["k"]));
    bed.end(1, succeeded());
    let gates = |bed: &Bed| bed.core.rows().iter().filter(|row| matches!(row, Row::Gate(_))).count();
    assert_eq!(gates(&bed), 1, "a token is used");
    bed.core.take_changes();
    assert_eq!(bed.tick(), 1_000);
    assert_eq!(gates(&bed), 0, "the bucket is full again");
    let deleted = RowKey::Gate(Key, TenantId(1), "k".into());
    assert!(bed.core.take_changes().delete.contains(&deleted));
    assert_eq!(bed.limiter(Key, "k").tokens, Some(2));
    assert!(bed.core.rows().len() > quiet);
}

#[test]
fn rules_are_checked() {
    let mut bed = Bed::new();
    let mut field = |rule: LimitRule| match bed.one(Command::SetLimit(Box::new(rule))) {
        Reply::Refused(Refusal::OutOfRange { field, .. }) => field.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(field(rule(Key, "default", "a*b", None, 1)), "names");
    assert_eq!(field(rule(Key, "default", "", None, 1)), "names");
    assert_eq!(field(rule(Key, "*a", "b", None, 1)), "tenants");
    assert_eq!(field(rule(Tenant, "default", "a", None, 1)), "names");
    assert_eq!(field(rule(Key, "default", "a", Some((0, 1, 1)), 1)), "rate.count");
    assert_eq!(field(rule(Key, "default", "a", Some((1, 0, 1)), 1)), "rate.period");
    assert_eq!(
        field(rule(Key, "default", "a", Some((1, u64::MAX, 1)), 1)),
        "rate.period"
    );
    assert_eq!(field(rule(Key, "default", "a", Some((1, 1, 0)), 1)), "rate.burst");
    let mut wrong = rule(Cluster, "*", "*", None, 1);
    wrong.selector.tenants = "default".into();
    assert_eq!(field(wrong), "tenants");
    let stranger = Command::SetLimit(Box::new(rule(Key, "nobody", "a", None, 1)));
    assert_eq!(refused(bed.one(stranger)), Refusal::UnknownTenant("nobody".into()));
    assert_eq!(bed.core.limits(), []);
    for names in ["a", "a*", "a"] {
        bed.limit(Key, names, None, 1);
    }
    assert_eq!(bed.core.limits().len(), 2);
    let gone = rule(Key, "default", "a", None, 1).selector;
    for _ in 0..2 {
        assert_eq!(bed.one(Command::DeleteLimit(gone.clone())), Reply::Done);
    }
    assert_eq!(bed.core.limits().len(), 1);
}

#[test]
fn keys_and_costs_of_jobs_are_checked() {
    let mut bed = Bed::new();
    let mut field = |change: fn(&mut JobLimits)| {
        let mut spec = job(1);
        change(&mut spec.options.limits);
        match bed.one(enqueue(spec)) {
            Reply::Refused(Refusal::OutOfRange { field, .. }) => field.to_string(),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(field(|limits| limits.cost = 0), "cost");
    assert_eq!(field(|limits| limits.cost = LIMIT_COST_MAX + 1), "cost");
    assert_eq!(
        field(|limits| limits.keys = vec![LimitKey {
            key: "a".into(),
            cost: 0
        }]),
        "limit_keys.cost"
    );
    assert_eq!(
        field(|limits| limits.keys = vec![
            LimitKey {
                key: "a".into(),
                cost: 1
            };
            2
        ]),
        "limit_keys"
    );
    assert_eq!(
        field(|limits| {
            limits.keys = (0..9)
                .map(|i| LimitKey {
                    key: format!("{i}").into(),
                    cost: 1,
                })
                .collect();
        }),
        "limit_keys"
    );
}

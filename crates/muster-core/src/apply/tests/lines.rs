//! Weights of queues.

use super::*;

fn weigh(bed: &mut Bed, queue: &str, weight: u32) {
    let command = Command::SetQueueWeight {
        tenant: "default".into(),
        queue: queue.into(),
        weight,
    };
    assert_eq!(bed.one(command), Reply::Done);
}

fn in_queue(id: u128, queue: &str) -> JobSpec {
    let mut spec = job(id);
    spec.queue = queue.into();
    spec
}

/// Ends what runs after 100 ms, `rounds` times; returns how many jobs of each hundred of ids have ended.
fn work(bed: &mut Bed, rounds: usize) -> [u64; 4] {
    let mut ended = [0; 4];
    for round in 0..rounds {
        bed.now += 100;
        let running: Vec<u128> = (0..400)
            .filter(|id| bed.state(*id) == Some(JobState::Running))
            .collect();
        let results: Vec<_> = running
            .iter()
            .map(|id| AttemptReport {
                job: JobId(*id),
                lease: bed.row(*id).lease.expect("it runs").id,
                outcome: succeeded(),
            })
            .collect();
        for id in running {
            ended[(id / 100) as usize] += 1;
        }
        bed.report(1, results, 2 + 2 * (round as u64 + 1));
    }
    ended
}

#[test]
fn queues_share_by_weight_and_the_others_stand_in_one_line() {
    let mut bed = Bed::new();
    weigh(&mut bed, "a", 300);
    weigh(&mut bed, "b", 100);
    for id in 0..99 {
        for (queue, base) in [("a", 0), ("b", 100), ("c", 200), ("d", 300)] {
            bed.enqueue(in_queue(base + id, queue));
        }
    }
    bed.open(1, 2);
    let [a, b, c, d] = work(&mut bed, 50);
    assert_eq!(a + b + c + d, 100);
    assert!(a.abs_diff(60) <= 2 && b.abs_diff(20) <= 2, "{a} {b} {c} {d}");
    assert!(c.abs_diff(d) <= 2, "first come, first served: {c} {d}");
}

#[test]
fn priorities_count_within_a_line() {
    let mut bed = Bed::new();
    weigh(&mut bed, "a", 100);
    bed.set_tenant(
        "default",
        TenantSettings {
            aging: AGING_STRICT,
            ..TenantSettings::default()
        },
    );
    for id in 0..20 {
        bed.enqueue(in_queue(id, "a"));
        let mut urgent = in_queue(100 + id, "b");
        urgent.priority = Priority::Critical;
        bed.enqueue(urgent);
        bed.enqueue(in_queue(200 + id, "c"));
    }
    bed.open(1, 2);
    let [a, b, c, _] = work(&mut bed, 10);
    assert_eq!((a, b, c), (10, 10, 0));
}

/// Urgent jobs in a queue with a weight have at most its part while others wait, and everything when none do.
#[test]
fn a_queue_with_a_weight_caps_urgent_jobs() {
    let ended = |others: u128, rounds| {
        let mut bed = Bed::new();
        weigh(&mut bed, "urgent", 25);
        let strict = TenantSettings {
            aging: AGING_STRICT,
            ..TenantSettings::default()
        };
        bed.set_tenant("default", strict);
        for id in 0..100 {
            let mut urgent = in_queue(id, "urgent");
            urgent.priority = Priority::Critical;
            bed.enqueue(urgent);
        }
        for id in 0..others {
            bed.enqueue(in_queue(100 + id, "other"));
        }
        bed.open(1, 2);
        let [urgent, others, ..] = work(&mut bed, rounds);
        (urgent, others)
    };
    let (urgent, others) = ended(80, 40);
    assert!(
        urgent.abs_diff(16) <= 2 && others.abs_diff(64) <= 2,
        "{urgent} and {others}"
    );
    assert_eq!(ended(40, 50), (60, 40), "nothing else waits any more");
}

#[test]
fn a_weight_comes_and_goes_while_jobs_wait() {
    let mut bed = Bed::new();
    let mut limited = in_queue(1, "a");
    limited.options.limits.keys = vec![LimitKey {
        key: "k".into(),
        cost: 1,
    }];
    bed.limit(LimitLevel::Key, "k", None, 1);
    for id in 0..3 {
        let mut spec = limited.clone();
        spec.id = JobId(id);
        bed.enqueue(spec);
        bed.enqueue(in_queue(100 + id, "a"));
        bed.enqueue(in_queue(200 + id, "b"));
    }
    bed.open(1, 2);
    weigh(&mut bed, "a", 500);
    let queues = bed.core.queues(TenantId(1));
    assert_eq!(queues.iter().map(|queue| queue.weight).collect::<Vec<_>>(), [500, 0]);
    let explained = bed.core.explain(TenantId(1), JobId(201)).expect("it lives");
    assert_eq!(explained.share.and_then(|share| share.line), Some((100, 600)));
    work(&mut bed, 2);
    weigh(&mut bed, "a", 0);
    assert_eq!(bed.core.queues(TenantId(1))[0].weight, 0);
    work(&mut bed, 5);
    assert_eq!(bed.core.live().total(), 0);
}

#[test]
fn weights_have_bounds() {
    let mut bed = Bed::new();
    let set = |queue: String, weight| Command::SetQueueWeight {
        tenant: "default".into(),
        queue: queue.as_str().into(),
        weight,
    };
    let Refusal::OutOfRange { field, value, .. } = refused(bed.one(set("q".into(), 10_001))) else {
        panic!("another refusal")
    };
    assert_eq!((&*field, &*value), ("weight", "10001"));
    for number in 0..64 {
        assert_eq!(bed.one(set(format!("q{number}"), 1)), Reply::Done);
    }
    let Refusal::OutOfRange { field, .. } = refused(bed.one(set("more".into(), 1))) else {
        panic!("another refusal")
    };
    assert_eq!(&*field, "queue");
    assert_eq!(bed.one(set("q7".into(), 0)), Reply::Done);
    assert_eq!(bed.one(set("more".into(), 1)), Reply::Done);
}

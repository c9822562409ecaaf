//! The bound of priorities: how much may start before a job.
//!
//! With aging `a`, a job of level `l` that became available at `t` starts before every job of its tenant of level `m` that
//! became available after `t + (l - m) × a`, if both could start. So of all that comes later than `t + 4a`, whatever its level,
//! nothing starts before it; what comes in that time is finite, so nothing starves. Strict and first-come orders have bounds
//! of their own.

use std::collections::BTreeMap;

use muster_core::{
    AGING_STRICT, AttemptOutcome, AttemptReport, Batch, Command, Core, Event, JobId, LeaseId, Millis, Priority,
    SessionId, TenantSettings, Timestamp,
};
use proptest::prelude::*;

use crate::plain::{plain_job, plain_session};

#[derive(Clone, Debug)]
struct Arrival {
    after: Millis,
    priority: usize,
    run: Millis,
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    // More work than two slots can do, so that a line builds up.
    let one = (0..900_u64, 0..5_usize, 1..4_000_u64);
    let one = one.prop_map(|(after, priority, run)| Arrival { after, priority, run });
    prop::collection::vec(one, 1..120)
}

/// Numbers of the jobs in the order of their starts.
fn starts(arrivals: &[Arrival], aging: Millis) -> Vec<usize> {
    let mut core = Core::new();
    let mut index = 0;
    let mut now: Timestamp = 1_700_000_000_000;
    let mut running: BTreeMap<(Timestamp, JobId), LeaseId> = BTreeMap::new();
    let mut order = Vec::new();
    let session = SessionId(1);
    let mut apply = |now: Timestamp, commands: Vec<Command>, running: &mut BTreeMap<_, _>| {
        index += 1;
        let applied = core.apply(
            index,
            Batch {
                stamped_at: now,
                commands,
            },
        );
        for event in applied.events {
            if let Event::Assigned(given) = event {
                let number = given.spec.id.0 as usize;
                order.push(number);
                running.insert((now + arrivals[number].run, given.spec.id), given.lease);
            }
        }
    };
    let settings = TenantSettings {
        aging,
        ..TenantSettings::default()
    };
    let hello = plain_session(session, 1);
    let mut credits = 2;
    let report = |results, credit_total| Command::Report {
        session,
        results,
        credit_total,
    };
    let founding = vec![
        Command::SetTenant {
            name: "default".into(),
            settings,
            create_only: false,
        },
        Command::OpenSession(Box::new(hello)),
        report(vec![], credits),
    ];
    apply(now, founding, &mut running);
    let mut next = 0;
    let mut due = now;
    while next < arrivals.len() || !running.is_empty() {
        let ends = running.first_key_value().map(|((at, _), _)| *at);
        let arrives = arrivals.get(next).map(|arrival| due + arrival.after);
        now = ends
            .into_iter()
            .chain(arrives)
            .min()
            .expect("something happens")
            .max(now);
        if arrives.is_some_and(|at| ends.is_none_or(|end| at <= end)) {
            let mut spec = plain_job(JobId(next as u128));
            spec.priority = Priority::ALL[arrivals[next].priority];
            due = now;
            next += 1;
            apply(now, vec![Command::Enqueue(Box::new(spec))], &mut running);
        } else if let Some(((_, job), lease)) = running.pop_first() {
            let outcome = AttemptOutcome::Succeeded {
                result: bytes::Bytes::new(),
            };
            credits += 1;
            let results = vec![AttemptReport { job, lease, outcome }];
            apply(now, vec![report(results, credits)], &mut running);
        }
    }
    order
}

/// When each arrives.
fn times(arrivals: &[Arrival]) -> Vec<Timestamp> {
    let mut at = 1_700_000_000_000;
    let times = arrivals.iter().map(|arrival| {
        at += arrival.after;
        at
    });
    times.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_starts_before_a_job_that_came_long_enough_before_it(arrivals in arrivals(), aging in 1..6_000_u64) {
        let order = starts(&arrivals, aging);
        let at = times(&arrivals);
        prop_assert_eq!(order.len(), arrivals.len(), "everything starts");
        for (place, later) in order.iter().enumerate() {
            // Those that had come before it and started after it.
            for earlier in order[place + 1..].iter().filter(|earlier| *earlier < later) {
                let levels = arrivals[*earlier].priority as i64 - arrivals[*later].priority as i64;
                let bound = at[*earlier] as i64 + levels * aging as i64;
                prop_assert!(
                    at[*later] as i64 <= bound,
                    "job {} of {} overtook job {} of {}, aging {}", later, at[*later], earlier, at[*earlier], aging
                );
                prop_assert!(at[*later] <= at[*earlier] + 4 * aging, "the bound for any level");
            }
        }
    }

    #[test]
    fn strict_and_first_come_orders_keep_their_word(arrivals in arrivals()) {
        let strict = starts(&arrivals, AGING_STRICT);
        let fifo = starts(&arrivals, 0);
        for order in [&strict, &fifo] {
            prop_assert_eq!(order.len(), arrivals.len());
        }
        for (place, later) in strict.iter().enumerate() {
            for earlier in strict[place + 1..].iter().filter(|earlier| *earlier < later) {
                let (first, second) = (arrivals[*later].priority, arrivals[*earlier].priority);
                prop_assert!(first < second, "job {} of {} overtook job {} of {}", later, first, earlier, second);
            }
        }
        prop_assert!(fifo.is_sorted(), "{:?}", fifo);
    }
}

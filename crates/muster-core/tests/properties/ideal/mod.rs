//! Shares beside the exact ideal: max-min fair allocation of slots, computed as a fluid.
//!
//! The ideal divides, at every instant, the slots that the fleet has busy: each tenant with work gets its part by weight, and
//! what it cannot use goes to the others (water filling), but none gets less than it is guaranteed; where more is guaranteed than
//! there is, that is divided by weight. Within a tenant the same among the lines of its queues, and within a line jobs in the
//! order in which they came. No scheduler of whole jobs can do that: a job that has started holds its slots to its end. What is
//! compared is the worker time (slots × milliseconds) that each tenant, and each line, has received since the beginning, at every
//! start and end of a job.
//!
//! The unit is a *round*: all slots of the fleet for the longest run. Bound: no tenant is further from its ideal than
//! `tenants + 1` rounds, no line than `tenants + 2`.

mod fluid;
mod real;

use muster_core::Core;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::fluid::{Arrival, Fleet};
use self::real::error;

/// Two tenants of the same weight, one with narrow jobs in two queues of weights 1:4, the other with wide jobs; more than can be
/// done, in runs of about the same length that end at different times.
fn busy() -> (Fleet, Vec<Arrival>) {
    let fleet = Fleet {
        workers: vec![8],
        weights: vec![100, 100],
        guarantees: vec![0, 0],
        queue_weight: 400,
    };
    let arrivals = (0..1_200).map(|number: u64| Arrival {
        after: 1 + number % 7,
        tenant: usize::from(number % 6 == 5),
        queue: (number % 2) as usize,
        slots: if number % 6 == 5 { 4 } else { 1 },
        run: 90 + number * 7 % 20,
    });
    (fleet, arrivals.collect())
}

/// Narrow jobs, more than can be done from the beginning; `jobs`: how many of each tenant. Those of which there are less come
/// first, so that all compete until one has no more.
fn backlog(weights: &[u32], guarantees: &[u32], jobs: &[usize]) -> (Fleet, Vec<Arrival>) {
    let fleet = Fleet {
        workers: vec![8],
        weights: weights.to_vec(),
        guarantees: guarantees.to_vec(),
        queue_weight: 0,
    };
    let most = jobs.iter().max().copied().unwrap_or(0);
    let rounds = (0..most).flat_map(|round| (0..jobs.len()).filter(move |tenant| round < jobs[*tenant]));
    let arrivals = rounds.zip(0_u64..).map(|(tenant, number)| Arrival {
        after: 0,
        tenant,
        queue: 0,
        slots: 1,
        run: 90 + number * 7 % 20,
    });
    (fleet, arrivals.collect())
}

/// Cases with what each is about.
fn cases() -> [(&'static str, (Fleet, Vec<Arrival>)); 5] {
    [
        ("queues and wide jobs", busy()),
        (
            "a guarantee above the share, until another tenant has no more",
            backlog(&[100, 400, 100], &[3, 0, 0], &[900, 300, 900]),
        ),
        (
            "a guarantee that is the share",
            backlog(&[100, 100], &[4, 0], &[900, 900]),
        ),
        (
            "others beside a guarantee above the share",
            backlog(&[100, 400, 100], &[5, 0, 0], &[900, 500, 500]),
        ),
        (
            "more is guaranteed than there is",
            backlog(&[100, 300, 100], &[8, 8, 1], &[400, 900, 400]),
        ),
    ]
}

#[test]
fn a_busy_fleet_is_near_the_ideal() {
    for (what, (fleet, arrivals)) in cases() {
        let (off, off_line) = error(&fleet, &arrivals, Core::new()).expect("good workers");
        println!("{what}: off by {off:.2} and {off_line:.2} rounds of all slots for the longest run");
        assert!(off <= 3.0 && off_line <= 4.0, "{what}: {off} and {off_line} rounds off");
    }
}

fn fleet_and_arrivals() -> impl Strategy<Value = (Fleet, Vec<Arrival>)> {
    let tenant = (1..500u32, prop_oneof![2 => Just(0u32), 1 => 1..6u32]);
    let fleet = (
        vec(1..9u32, 1..4),
        vec(tenant, 1..5),
        prop_oneof![Just(0u32), 1..500u32],
    );
    let fleet = fleet.prop_map(|(workers, tenants, queue_weight)| Fleet {
        workers,
        weights: tenants.iter().map(|(weight, _)| *weight).collect(),
        guarantees: tenants.iter().map(|(_, guarantee)| *guarantee).collect(),
        queue_weight,
    });
    // Some have little to do, most more than they can.
    let pace = prop_oneof![1 => Just(100u64), 2 => Just(20u64), 2 => Just(3u64)];
    (fleet, pace).prop_flat_map(|(fleet, pace)| {
        // A wide job may take more than is left of a guarantee, and then has it all the same: no fluid does that.
        let guaranteed = fleet.guarantees.iter().any(|slots| *slots > 0);
        let widest = fleet.workers.iter().copied().max().unwrap_or(1);
        let widest = if guaranteed { 1 } else { widest };
        let slots = prop_oneof![3 => Just(1u32), 1 => 1..=widest];
        let arrival = (0..pace, 0..fleet.weights.len(), 0..2usize, slots, 1..400u64);
        let arrival = arrival.prop_map(|(after, tenant, queue, slots, run)| Arrival {
            after,
            tenant,
            queue,
            slots,
            run,
        });
        (Just(fleet), vec(arrival, 50..600))
    })
}

/// Random arrivals, run times, weights and workers; guarantees, or jobs of several slots.
#[test]
fn random_fleets_are_near_the_ideal() {
    let mut runner = TestRunner::new(Config {
        cases: 150,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    });
    let seen = std::cell::RefCell::new(Vec::new());
    let judged = runner.run(&fleet_and_arrivals(), |(fleet, arrivals)| {
        let (off, off_line) = error(&fleet, &arrivals, Core::new()).map_err(TestCaseError::fail)?;
        seen.borrow_mut().push((off, off_line));
        let tenants = fleet.weights.len() as f64;
        prop_assert!(
            off <= tenants + 1.0 && off_line <= tenants + 2.0,
            "{off} and {off_line} rounds off"
        );
        Ok(())
    });
    let mut seen = seen.into_inner();
    seen.sort_by(|a, b| a.0.total_cmp(&b.0));
    let worst_line = seen.iter().map(|(_, line)| *line).fold(0.0, f64::max);
    if let (Some(median), Some(worst)) = (seen.get(seen.len() / 2), seen.last()) {
        println!(
            "{} runs: tenants off by {:.2} rounds in the median and {:.2} at most, lines by {worst_line:.2}",
            seen.len(),
            median.0,
            worst.0
        );
    }
    judged.expect("all are near the ideal");
}

/// What a history does not show is found here: slots, and shares.
#[cfg(feature = "seeded-bugs")]
#[test]
fn bugs_of_shares_are_found() {
    for bug in muster_core::Defect::ALL.iter().filter(|bug| bug.is_of_shares()) {
        let found = cases().into_iter().any(|(_, (fleet, arrivals))| {
            let mut core = Core::new();
            core.set_defect(*bug);
            match error(&fleet, &arrivals, core) {
                Err(_) => true,
                Ok((off, off_line)) => off > 3.0 || off_line > 4.0,
            }
        });
        assert!(found, "{bug:?} is not found");
    }
}

//! Random scripts: what a test does, in terms that make sense whatever the core answered so far.
//!
//! A script names things by number ("the third of the running jobs"), so that it stays meaningful while proptest
//! shrinks it. The driver turns it into commands.

use muster_core::LEVEL_MAX;
use proptest::collection::vec;
use proptest::prelude::*;

/// One log entry.
#[derive(Clone, Debug)]
pub struct Step {
    pub time: Move,
    pub acts: Vec<Act>,
}

/// How the leader's clock moves before an entry.
#[derive(Clone, Debug)]
pub enum Move {
    Forward(u64),
    /// To the time at which the core wants its next tick.
    ToDue,
    /// A new leader's clock is behind.
    Back(u64),
}

/// A job, by numbers.
#[derive(Clone, Debug)]
pub struct Job {
    pub tenant: usize,
    pub queue: usize,
    pub kind: usize,
    pub version: u32,
    pub priority: usize,
    pub delay: u64,
    pub backoff: usize,
    pub max_attempts: u32,
    pub max_crashes: u32,
    pub timeout: u64,
    pub expires: u64,
    pub labelled: bool,
    /// It prefers workers with the label.
    pub prefers: bool,
    pub key: Option<u8>,
    pub seed: u64,
    pub cost: u32,
    pub slots: u32,
    /// Limit keys by number, with costs.
    pub limit_keys: Vec<(usize, u32)>,
    /// Ordering key by number, and whether it is strict.
    pub ordering: Option<(usize, bool)>,
}

/// How a worker ends an attempt.
#[derive(Clone, Debug)]
pub enum End {
    Succeed,
    Fail { retryable: bool, retry_after: u64 },
    Preempt,
    Snooze(u64),
    Cancel,
    Throttle { key: usize, retry_after: u64 },
}

/// One command.
#[derive(Clone, Debug)]
pub enum Act {
    Enqueue(Job),
    EnqueueMany {
        jobs: Vec<Job>,
        all_or_nothing: bool,
        twist: usize,
    },
    /// An earlier job again: the same, or under another payload.
    EnqueueAgain {
        pick: usize,
        altered: bool,
    },
    EnqueueForNobody(Job),
    Cancel {
        pick: usize,
        by_other: bool,
    },
    Redrive {
        pick: usize,
        by_other: bool,
    },
    Open {
        class: usize,
        credits: u64,
    },
    /// Some of the running jobs of a session end.
    Report {
        session: usize,
        ends: Vec<(usize, End)>,
        credits: u64,
    },
    /// A report under a lease that is over.
    ReportLate {
        pick: usize,
        end: End,
    },
    /// A report under a good lease through another session.
    ReportForOther {
        pick: usize,
        end: End,
    },
    Quiet(usize),
    Close(usize),
    Lose(usize),
    Vouch(usize),
    SetTenant {
        tenant: usize,
        weight: u32,
        quota: usize,
        aging: usize,
        guarantee: usize,
        create_only: bool,
    },
    SetLimit {
        level: usize,
        tenants: usize,
        names: usize,
        rate: usize,
        concurrency: u32,
    },
    DeleteLimit(usize),
    OpenKey {
        tenant: usize,
        key: usize,
    },
    ReleaseOrder(usize),
    Pause {
        tenant: usize,
        queue: usize,
        paused: bool,
    },
    Weigh {
        tenant: usize,
        queue: usize,
        weight: u32,
    },
    PauseKind {
        tenant: usize,
        kind: usize,
        paused: bool,
    },
    SetPriority {
        picks: Vec<usize>,
        priority: usize,
        by_other: bool,
    },
    Tick,
    Bootstrap(u8),
    Level(u32),
    /// A command that was proposed before, exactly as it was.
    Repeat(usize),
}

fn job() -> impl Strategy<Value = Job> {
    let place = (0..3usize, 0..2usize, 0..3usize, 1..3u32, 0..5usize);
    let time = (prop_oneof![3 => Just(0u64), 1 => 1..200_000u64], 0..5usize);
    let budget = (
        1..4u32,
        1..3u32,
        prop_oneof![Just(0u64), 1..20_000u64],
        prop_oneof![4 => Just(0u64), 1 => 1..30_000u64],
    );
    let rest = (
        (
            prop::bool::weighted(0.15),
            prop::bool::weighted(0.2),
            prop_oneof![4 => Just(1u32), 1 => 2..5u32],
        ),
        prop::option::weighted(0.2, 0..6u8),
        any::<u64>(),
        prop_oneof![4 => Just(1u32), 1 => 1..5u32],
        prop_oneof![2 => Just(vec![]), 2 => vec((0..3usize, prop_oneof![3 => Just(1u32), 1 => 1..4u32]), 1..3)],
        prop::option::weighted(0.25, (0..2usize, any::<bool>())),
    );
    (place, time, budget, rest).prop_map(|(place, time, budget, rest)| Job {
        tenant: place.0,
        queue: place.1,
        kind: place.2,
        version: place.3,
        priority: place.4,
        delay: time.0,
        backoff: time.1,
        max_attempts: budget.0,
        max_crashes: budget.1,
        timeout: budget.2,
        expires: budget.3,
        labelled: rest.0.0,
        prefers: rest.0.1,
        slots: rest.0.2,
        key: rest.1,
        seed: rest.2,
        cost: rest.3,
        limit_keys: rest.4,
        ordering: rest.5,
    })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Succeed),
        3 => (prop::bool::weighted(0.85), prop_oneof![3 => Just(0u64), 1 => 1..5_000u64])
            .prop_map(|(retryable, retry_after)| End::Fail { retryable, retry_after }),
        1 => Just(End::Preempt),
        1 => prop_oneof![Just(0u64), 1..5_000u64].prop_map(End::Snooze),
        1 => Just(End::Cancel),
        1 => (0..4usize, 1..3_000u64).prop_map(|(key, retry_after)| End::Throttle { key, retry_after }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let pick = || 0..10_000usize;
    prop_oneof![
        12 => job().prop_map(Act::Enqueue),
        3 => (vec(job(), 1..6), any::<bool>(), 0..5usize)
            .prop_map(|(jobs, all_or_nothing, twist)| Act::EnqueueMany { jobs, all_or_nothing, twist }),
        2 => (pick(), prop::bool::weighted(0.3)).prop_map(|(pick, altered)| Act::EnqueueAgain { pick, altered }),
        1 => job().prop_map(Act::EnqueueForNobody),
        2 => (pick(), prop::bool::weighted(0.2)).prop_map(|(pick, by_other)| Act::Cancel { pick, by_other }),
        2 => (pick(), prop::bool::weighted(0.2)).prop_map(|(pick, by_other)| Act::Redrive { pick, by_other }),
        3 => (0..6usize, 0..5u64).prop_map(|(class, credits)| Act::Open { class, credits }),
        14 => (pick(), vec((pick(), end()), 0..4), 0..5u64)
            .prop_map(|(session, ends, credits)| Act::Report { session, ends, credits }),
        2 => (pick(), end()).prop_map(|(pick, end)| Act::ReportLate { pick, end }),
        1 => (pick(), end()).prop_map(|(pick, end)| Act::ReportForOther { pick, end }),
        1 => pick().prop_map(Act::Quiet),
        1 => pick().prop_map(Act::Close),
        1 => pick().prop_map(Act::Lose),
        1 => pick().prop_map(Act::Vouch),
        3 => (0..4usize, 0..400u32, 0..7usize, 0..4usize, 0..6usize, prop::bool::weighted(0.2)).prop_map(
            |(tenant, weight, quota, aging, guarantee, create_only)| {
                Act::SetTenant { tenant, weight, quota, aging, guarantee, create_only }
            }
        ),
        3 => (0..5usize, 0..5usize, 0..6usize, 0..5usize, 0..4u32).prop_map(
            |(level, tenants, names, rate, concurrency)| Act::SetLimit { level, tenants, names, rate, concurrency }
        ),
        1 => pick().prop_map(Act::DeleteLimit),
        1 => (0..3usize, 0..3usize).prop_map(|(tenant, key)| Act::OpenKey { tenant, key }),
        1 => pick().prop_map(Act::ReleaseOrder),
        1 => (0..3usize, 0..2usize, any::<bool>()).prop_map(|(tenant, queue, paused)| Act::Pause { tenant, queue, paused }),
        1 => (0..3usize, 0..2usize, prop_oneof![1 => Just(0u32), 2 => 1..400u32])
            .prop_map(|(tenant, queue, weight)| Act::Weigh { tenant, queue, weight }),
        1 => (0..3usize, 0..3usize, any::<bool>())
            .prop_map(|(tenant, kind, paused)| Act::PauseKind { tenant, kind, paused }),
        2 => (vec(pick(), 1..4), 0..5usize, prop::bool::weighted(0.1))
            .prop_map(|(picks, priority, by_other)| Act::SetPriority { picks, priority, by_other }),
        6 => Just(Act::Tick),
        1 => (0..2u8).prop_map(Act::Bootstrap),
        2 => pick().prop_map(Act::Repeat),
        1 => (1..=LEVEL_MAX + 1).prop_map(Act::Level),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let time = prop_oneof![
        6 => (0..1_000u64).prop_map(Move::Forward),
        2 => (0..70_000u64).prop_map(Move::Forward),
        4 => Just(Move::ToDue),
        1 => (0..5_000u64).prop_map(Move::Back),
    ];
    (time, vec(act(), 0..5)).prop_map(|(time, acts)| Step { time, acts })
}

/// A whole script.
pub fn script() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..70)
}

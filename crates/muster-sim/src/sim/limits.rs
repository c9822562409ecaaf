//! Rules that the clients of the simulator set and delete.

use muster_core::{Command, LimitLevel, LimitRule, LimitSelector, RateLimit};

use crate::history::Operation;
use crate::sim::rng::Rng;

/// Level, pattern of tenants, pattern of names.
const SELECTORS: [(LimitLevel, &str, &str); 14] = [
    (LimitLevel::Tenant, "acme", "*"),
    (LimitLevel::Tenant, "umbra", "*"),
    (LimitLevel::Key, "*", "*"),
    (LimitLevel::Key, "*", "api*"),
    (LimitLevel::Queue, "zeta", "mail"),
    (LimitLevel::Kind, "*", "s*"),
    // Those above are set from the start.
    (LimitLevel::Cluster, "*", "*"),
    (LimitLevel::Tenant, "*", "*"),
    (LimitLevel::Tenant, "z*", "*"),
    (LimitLevel::Queue, "*", "m*"),
    (LimitLevel::Kind, "acme", "send"),
    (LimitLevel::Key, "*", "api:1"),
    (LimitLevel::Key, "default", "api*"),
    (LimitLevel::Key, "umbra", "disk"),
];

/// Rules set before anything else.
pub(crate) const SET_UP: usize = 6;
/// No burst is smaller, and no job costs more.
pub(crate) const BURST_MIN: u32 = 3;

fn selector(at: usize) -> LimitSelector {
    let (level, tenants, names) = SELECTORS[at];
    LimitSelector {
        level,
        tenants: tenants.into(),
        names: names.into(),
    }
}

/// The `at`-th of the rules that are there from the start.
pub(crate) fn set_up(at: usize, rng: &mut Rng) -> (Operation, Option<Command>) {
    set_one(at, rng)
}

/// Some rule.
pub(crate) fn set(rng: &mut Rng) -> (Operation, Option<Command>) {
    let at = rng.below(SELECTORS.len() as u64) as usize;
    set_one(at, rng)
}

fn set_one(at: usize, rng: &mut Rng) -> (Operation, Option<Command>) {
    let selector = selector(at);
    // Wide limits are generous, or the whole cluster would wait for one of them.
    let factor = match selector.level {
        LimitLevel::Cluster => 6,
        LimitLevel::Tenant | LimitLevel::Kind => 2,
        LimitLevel::Queue | LimitLevel::Key => 1,
    };
    let rule = LimitRule {
        selector,
        rate: rng.percent(45).then(|| RateLimit {
            count: rng.between(40, 300) as u32 * factor,
            period: 1_000,
            burst: rng.between(u64::from(BURST_MIN), 20) as u32 * factor,
        }),
        concurrency: if rng.percent(50) {
            rng.between(1, 8) as u32 * factor
        } else {
            0
        },
        note: "by script".into(),
    };
    (
        Operation::SetLimit(rule.clone()),
        Some(Command::SetLimit(Box::new(rule))),
    )
}

/// Deletes some rule, if it is there.
pub(crate) fn delete(rng: &mut Rng) -> (Operation, Option<Command>) {
    let selector = selector(rng.below(SELECTORS.len() as u64) as usize);
    (
        Operation::DeleteLimit(selector.clone()),
        Some(Command::DeleteLimit(selector)),
    )
}

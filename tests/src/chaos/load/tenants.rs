//! The tenants, their settings, and the rules of the rule book.

use std::time::Duration;

use muster_client::{Error, Limit, LimitLevel, LimitSelector, NewTenant, PriorityOrder, Quota, RateLimit};
use muster_sim::history::{
    Answer, LimitLevel as Level, LimitRule, LimitSelector as Selector, Operation, OperationKind, RateLimit as Rate,
};

use crate::chaos::world::World;

/// A tenant.
pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    weight: u32,
    order: PriorityOrder,
    guaranteed_slots: u32,
    /// Of a hundred jobs, how many are its.
    pub(crate) share: u32,
}

/// All of them.
pub(crate) const TENANTS: [Tenant; 3] = [
    Tenant {
        name: "heavy",
        weight: 300,
        order: PriorityOrder::Aging(Duration::from_secs(2)),
        guaranteed_slots: 0,
        share: 60,
    },
    Tenant {
        name: "narrow",
        weight: 100,
        order: PriorityOrder::Strict,
        guaranteed_slots: 0,
        share: 28,
    },
    Tenant {
        name: "slow",
        weight: 100,
        order: PriorityOrder::Fifo,
        guaranteed_slots: 8,
        share: 12,
    },
];

/// Limit keys of jobs.
pub(super) const ACCOUNTS: [&str; 5] = ["account:1", "account:2", "account:3", "account:4", "account:5"];
/// The key that some jobs report as throttled.
pub(crate) const API: &str = "api";
/// Most tokens that a job takes of any key.
pub(super) const COST_MAX: u32 = 3;

/// A rule: level, tenants, names, tokens per second and at once, most jobs at once.
type Rule = (LimitLevel, &'static str, &'static str, Option<(u32, u32)>, u32);

/// Rules that hold from the start to the end.
const RULES: [Rule; 6] = [
    (LimitLevel::Cluster, "", "", Some((900, 300)), 0),
    (LimitLevel::Tenant, "narrow", "", None, 24),
    (LimitLevel::Tenant, "slow", "", Some((60, 30)), 0),
    (LimitLevel::Kind, "*", "stuck", None, 4),
    (LimitLevel::Key, "*", "account:*", None, 2),
    (LimitLevel::Key, "*", API, Some((40, 12)), 0),
];

/// Creates the tenants and sets the rules. A repeat after an unknown outcome that finds the tenant there is a success.
pub(crate) async fn create(world: &World) -> Result<(), Error> {
    let client = world.client(0);
    let mut process = world.recorder.process();
    for tenant in &TENANTS {
        loop {
            let call = process.invoke(Operation::SetTenant {
                tenant: tenant.name.into(),
                weight: tenant.weight,
            });
            let new = NewTenant {
                weight: tenant.weight,
                priority_order: Some(tenant.order),
                guaranteed_slots: tenant.guaranteed_slots,
                // Wide enough for every load, so that the checker of quotas sees each job judged.
                quota: Quota {
                    jobs_max: 10_000_000,
                    bytes_max: 64 << 30,
                    enqueue_rate: Some(RateLimit::per_second(1_000_000)),
                },
                ..NewTenant::new(tenant.name)
            };
            let result = match client.create_tenant(new).await {
                Err(error) if error.code() == Some(muster_client::Code::AlreadyExists) => Ok(Answer::Done),
                other => other.map(|_| Answer::Done),
            };
            if world.settle(OperationKind::SetTenant, call, None, result) {
                break;
            }
        }
    }
    for rule in &RULES {
        loop {
            let call = process.invoke(Operation::SetLimit(recorded(rule)));
            let result = client.set_limit(&limit(rule)).await.map(|_| Answer::Done);
            if world.settle(OperationKind::SetLimit, call, None, result) {
                break;
            }
        }
    }
    client.tenants().await.map(drop)
}

/// As the client library takes it.
fn limit((level, tenants, names, rate, concurrency): &Rule) -> Limit {
    let mut limit = Limit::new(LimitSelector::new(*level, *names).of_tenants(*tenants)).concurrency(*concurrency);
    limit.rate = rate.map(|(count, burst)| RateLimit {
        count,
        period: Duration::from_secs(1),
        burst,
    });
    limit
}

/// As the history has it.
fn recorded((level, tenants, names, rate, concurrency): &Rule) -> LimitRule {
    let whole = |pattern: &str| if pattern.is_empty() { "*".into() } else { pattern.into() };
    LimitRule {
        selector: Selector {
            level: match level {
                LimitLevel::Tenant => Level::Tenant,
                LimitLevel::Queue => Level::Queue,
                LimitLevel::Kind => Level::Kind,
                LimitLevel::Key => Level::Key,
                _ => Level::Cluster,
            },
            tenants: whole(tenants),
            names: whole(names),
        },
        rate: rate.map(|(count, burst)| Rate {
            count,
            period: 1_000,
            burst,
        }),
        concurrency: *concurrency,
        note: "".into(),
    }
}

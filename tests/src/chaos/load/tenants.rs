//! The tenants and their settings.

use std::time::Duration;

use muster_client::{Error, NewTenant, RateLimit};
use muster_sim::history::{Answer, Operation, OperationKind, RateLimit as Limit};

use crate::chaos::world::World;

/// A tenant.
pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    weight: u32,
    /// Starts per second, and at once.
    rate: Option<(u32, u32)>,
    /// Most jobs at once; 0: no limit.
    concurrency: u32,
    /// Of a hundred jobs, how many are its.
    pub(crate) share: u32,
}

/// All of them.
pub(crate) const TENANTS: [Tenant; 3] = [
    Tenant {
        name: "heavy",
        weight: 300,
        rate: None,
        concurrency: 0,
        share: 60,
    },
    Tenant {
        name: "narrow",
        weight: 100,
        rate: None,
        concurrency: 24,
        share: 28,
    },
    Tenant {
        name: "slow",
        weight: 100,
        rate: Some((60, 30)),
        concurrency: 0,
        share: 12,
    },
];

/// Creates the tenants. A repeat after an unknown outcome that finds the tenant there is a success.
pub(crate) async fn create(world: &World) -> Result<(), Error> {
    let client = world.client(0);
    let mut process = world.recorder.process();
    for tenant in &TENANTS {
        loop {
            let rate_limit = tenant.rate.map(|(count, burst)| Limit {
                count,
                period: 1_000,
                burst,
            });
            let call = process.invoke(Operation::SetTenant {
                tenant: tenant.name.into(),
                weight: tenant.weight,
                rate_limit,
                concurrency_limit: tenant.concurrency,
            });
            let new = NewTenant {
                weight: tenant.weight,
                rate_limit: tenant.rate.map(|(count, burst)| RateLimit {
                    count,
                    period: Duration::from_secs(1),
                    burst,
                }),
                concurrency_limit: tenant.concurrency,
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
    client.tenants().await.map(drop)
}

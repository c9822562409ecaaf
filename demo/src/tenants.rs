//! The two tenants that share the cluster.

use std::time::Duration;

use anyhow::{Context, Result};
use muster_client::{Client, Limit, LimitLevel, LimitSelector, NewTenant, RateLimit};

use crate::corpus::Group;

/// Gets three quarters of the workers while both want them.
pub const LIBRARY: &str = "library";
/// Gets one quarter, and may start only so many jobs per second.
pub const DOCS: &str = "docs";
/// Owner of the pulses: they are to be no part of either share.
pub const PULSES: &str = "default";

pub const LIBRARY_WEIGHT: u32 = 300;
pub const DOCS_WEIGHT: u32 = 100;
/// Starts at once that the limited tenant may have.
pub const BURST: u32 = 20;

/// Of ten files, the library's. At 3:1 it is through with its part when `docs` still has more than half of its own,
/// so that the rate limit shows afterwards.
const LIBRARY_TENTHS: usize = 6;

/// Share of the library in percent by the weights.
pub fn library_percent() -> f64 {
    100.0 * f64::from(LIBRARY_WEIGHT) / f64::from(LIBRARY_WEIGHT + DOCS_WEIGHT)
}

pub async fn create(client: &Client, limit: u32) -> Result<()> {
    let library = NewTenant {
        weight: LIBRARY_WEIGHT,
        ..NewTenant::new(LIBRARY)
    };
    let docs = NewTenant {
        weight: DOCS_WEIGHT,
        ..NewTenant::new(DOCS)
    };
    for tenant in [library, docs] {
        let name = tenant.name.clone();
        client
            .create_tenant(tenant)
            .await
            .with_context(|| format!("creating tenant {name}"))?;
    }
    let rate = RateLimit {
        count: limit,
        period: Duration::from_secs(1),
        burst: BURST,
    };
    let rule = Limit::new(LimitSelector::new(LimitLevel::Tenant, "*").of_tenants(DOCS)).rate(rate);
    client
        .set_limit(&rule)
        .await
        .with_context(|| format!("limiting tenant {DOCS}"))?;
    Ok(())
}

/// Deals the groups out: each goes to the tenant that is farther behind its part.
pub fn deal(groups: Vec<Group>) -> (Vec<Group>, Vec<Group>) {
    let (mut library, mut docs) = (Vec::new(), Vec::new());
    let (mut of_library, mut of_docs) = (0, 0);
    for group in groups {
        let files = group.files.len();
        if of_library * (10 - LIBRARY_TENTHS) <= of_docs * LIBRARY_TENTHS {
            of_library += files;
            library.push(group);
        } else {
            of_docs += files;
            docs.push(group);
        }
    }
    (library, docs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tenants_get_their_part() {
        let groups = (0..100)
            .map(|number| Group {
                name: number.to_string(),
                files: vec!["x".into(); 10],
            })
            .collect();
        let (library, docs) = deal(groups);
        assert_eq!((library.len(), docs.len()), (60, 40));
    }
}

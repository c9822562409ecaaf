//! What a tenant may bring in.

use std::collections::HashMap;

use super::out_of_range;
use crate::core::Core;
use crate::defect::Defect;
use crate::gcra;
use crate::hash::FixedState;
use crate::ids::Timestamp;
use crate::job::JobSpec;
use crate::limit::RateLimit;
use crate::quota::{Quota, QuotaUse};
use crate::reply::Refusal;

/// What the earlier items of an all-or-nothing call would use, by tenant: all in all, and of their own.
#[derive(Default)]
pub(super) struct Planned(HashMap<u32, (QuotaUse, (u64, u64)), FixedState>);

impl Core {
    /// Refuses a job that its tenant's quota does not admit. Takes nothing.
    pub(super) fn check_quota(&self, tenant: u32, spec: &JobSpec) -> Result<(), Refusal> {
        let owner = &self.tenants[tenant as usize];
        let quota = &owner.row.settings.quota;
        if quota.is_unbounded() || self.has(Defect::QuotaIgnored) {
            return Ok(());
        }
        let mut used = owner.quota_use();
        let admitted = quota.admit(&mut used, (0, 0), spec.bytes(), self.meta.now);
        admitted.map_err(|excess| Refusal::QuotaExceeded {
            tenant: owner.row.name.clone(),
            excess,
        })
    }

    /// The same for an item of a call of which all or none are accepted.
    pub(super) fn plan_quota(&self, tenant: u32, spec: &JobSpec, planned: &mut Planned) -> Result<(), Refusal> {
        let owner = &self.tenants[tenant as usize];
        let quota = &owner.row.settings.quota;
        if quota.is_unbounded() || self.has(Defect::QuotaIgnored) {
            return Ok(());
        }
        let (used, own) = planned.0.entry(tenant).or_insert_with(|| (owner.quota_use(), (0, 0)));
        let bytes = spec.bytes();
        let admitted = quota.admit(used, *own, bytes, self.meta.now);
        *own = (own.0 + 1, own.1.saturating_add(bytes));
        admitted.map_err(|excess| Refusal::QuotaExceeded {
            tenant: owner.row.name.clone(),
            excess,
        })
    }

    /// Counts an accepted job for the enqueue rate. Jobs and bytes follow from the jobs that are there.
    pub(super) fn take_enqueue_token(&mut self, tenant: u32) {
        let now = self.meta.now;
        let row = &mut self.tenants[tenant as usize].row;
        if let Some(rate) = &row.settings.quota.enqueue_rate {
            row.enqueue_arrival = gcra::take(rate, row.enqueue_arrival, now, 1);
        }
    }
}

/// The state of the enqueue rate under a new quota.
pub(super) fn converted(old: &Quota, new: &Quota, arrival: u128, now: Timestamp) -> u128 {
    gcra::convert(old.enqueue_rate.as_ref(), new.enqueue_rate.as_ref(), arrival, now)
}

/// Checks the numbers of a rate; `field`: its name.
pub(super) fn check_rate(field: &str, rate: &RateLimit) -> Result<(), Refusal> {
    if !(1..=gcra::COUNT_MAX).contains(&rate.count) {
        return Err(out_of_range(&format!("{field}.count"), rate.count, "1 to 1000000000"));
    }
    if !(1..=gcra::PERIOD_MAX).contains(&rate.period) {
        return Err(out_of_range(&format!("{field}.period"), rate.period, "1 ms to 31 days"));
    }
    if rate.burst == 0 {
        return Err(out_of_range(&format!("{field}.burst"), 0, "from 1"));
    }
    Ok(())
}

//! Quotas before the log: what a tenant's quota does not admit as this node knows it need not be proposed. What is let
//! through is judged exactly when it is applied.

use muster_core::{Core, Refusal, Timestamp};

use crate::api::Api;
use crate::enqueue::{Outcome, Pending};
use crate::errors::Error;
use crate::history::Wanted;

impl Api {
    /// Refuses new jobs over the quota; the others stay.
    pub(crate) fn refuse_over_quota(&self, pending: Pending, outcomes: &mut [Option<Outcome>]) -> Pending {
        // Not the time of the state, which stands still while everything is refused here.
        let now = self.raft().clock();
        match self.raft().read(|core| over_quota(core, &pending, now)) {
            Some(refusals) => pending.refuse(refusals, outcomes),
            None => pending,
        }
    }
}

/// What stands against each job; `None` if nothing stands against any.
fn over_quota(core: &Core, pending: &Pending, now: Timestamp) -> Option<Vec<Option<Refusal>>> {
    let (quota, mut used) = core.quota(pending.tenant)?;
    if quota.is_unbounded() {
        return None;
    }
    let mut together = (0, 0);
    let judge = |wanted: &Wanted| {
        let spec = &wanted.spec;
        // A repeat brings nothing new.
        if core.knows(pending.tenant, spec) {
            return None;
        }
        let bytes = spec.bytes();
        let earlier = if pending.all_or_nothing { together } else { (0, 0) };
        let admitted = quota.admit(&mut used, earlier, bytes, now);
        together = (together.0 + 1, together.1 + bytes);
        admitted.err().map(|excess| Refusal::QuotaExceeded {
            tenant: spec.tenant.clone(),
            excess,
        })
    };
    let refusals: Vec<_> = pending.wanted.iter().map(judge).collect();
    refusals.iter().any(Option::is_some).then_some(refusals)
}

/// Counts the jobs of a call that were refused over a quota, before or after the log.
pub(crate) fn count_refused(outcomes: &[Option<Outcome>]) {
    for outcome in outcomes {
        if let Some(Err(Error::Refused(Refusal::QuotaExceeded { excess, .. }))) = outcome {
            metrics::counter!("muster_quota_refused_total", "bound" => excess.bound.as_str()).increment(1);
        }
    }
}

//! What a tenant may bring in, before the log: what its quota or the memory that is left does not admit as this node knows it
//! need not be proposed. What is let through is judged exactly when it is applied, as far as quotas go.

use muster_core::{Core, Refusal, Timestamp};
use muster_raft::MemoryUse;

use crate::api::Api;
use crate::enqueue::{Outcome, Pending};
use crate::errors::Error;
use crate::memory::Share;

impl Api {
    /// Refuses new jobs for which there is no room; the others stay.
    pub(crate) fn refuse_without_room(&self, pending: Pending, outcomes: &mut [Option<Outcome>]) -> Pending {
        // Not the time of the state, which stands still while everything is refused here.
        let now = self.raft().clock();
        let memory = self.raft().memory();
        match self.raft().read(|core| without_room(core, &pending, now, memory)) {
            Some(errors) => pending.refuse(errors, outcomes),
            None => pending,
        }
    }
}

/// What stands against each job; `None` if nothing stands against any.
fn without_room(core: &Core, pending: &Pending, now: Timestamp, memory: MemoryUse) -> Option<Vec<Option<Error>>> {
    let (quota, mut used) = core.quota(pending.tenant)?;
    let mut share = Share::of(core, pending.tenant, memory);
    if quota.is_unbounded() && share.is_none() {
        return None;
    }
    let mut together = (0, 0);
    let mut errors = Vec::with_capacity(pending.wanted.len());
    let mut any = false;
    for wanted in &pending.wanted {
        let spec = &wanted.spec;
        // A repeat brings nothing new.
        if core.knows(pending.tenant, spec) {
            errors.push(None);
            continue;
        }
        let bytes = spec.bytes();
        let earlier = if pending.all_or_nothing { together } else { (0, 0) };
        together = (together.0 + 1, together.1 + bytes);
        // Memory first: a job for which there is none takes nothing of the quota.
        let scarce = share
            .as_ref()
            .and_then(|share| share.against(&spec.tenant, spec.memory()));
        let judged = scarce.map_or(Ok(()), Err).and_then(|()| {
            quota.admit(&mut used, earlier, bytes, now).map_err(|excess| {
                let tenant = spec.tenant.clone();
                Error::Refused(Refusal::QuotaExceeded { tenant, excess })
            })
        });
        if let (Ok(()), Some(share)) = (&judged, &mut share) {
            share.add(spec.memory());
        }
        any |= judged.is_err();
        errors.push(judged.err());
    }
    any.then_some(errors)
}

/// Counts jobs or calls that were refused because of load.
pub(crate) fn refused_for_load(cause: &'static str, count: usize) {
    metrics::counter!("muster_overload_refused_total", "cause" => cause).increment(count as u64);
}

/// Counts the jobs of a call that were refused over a quota, before or after the log, or for want of memory.
pub(crate) fn count_refused(outcomes: &[Option<Outcome>]) {
    for outcome in outcomes {
        match outcome {
            Some(Err(Error::Refused(Refusal::QuotaExceeded { excess, .. }))) => {
                metrics::counter!("muster_quota_refused_total", "bound" => excess.bound.as_str()).increment(1);
            }
            Some(Err(Error::MemoryShare { .. })) => {
                refused_for_load("share", 1);
            }
            _ => {}
        }
    }
}

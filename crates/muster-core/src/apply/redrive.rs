//! Reviving dead jobs.

use super::out_of_range;
use crate::core::Core;
use crate::ids::JobId;
use crate::job::{JobSpec, JobState, Origin};
use crate::reply::{Enqueued, Refusal};

impl Core {
    /// The core can judge the old job only as long as it remembers it; the API has read it from history.
    pub(super) fn redrive(&mut self, from: JobId, mut spec: JobSpec) -> Result<Enqueued, Refusal> {
        let tenant = self.tenant_number(&spec.tenant)?;
        if let Some((owner, state, _)) = self.known(from) {
            if owner != tenant {
                return Err(Refusal::UnknownJob(from));
            }
            if state != JobState::Dead {
                return Err(out_of_range("state", format!("{state:?}").to_lowercase(), "dead"));
            }
        }
        spec.origin = Origin::Redrive;
        self.enqueue_redriven(spec, from)
    }
}

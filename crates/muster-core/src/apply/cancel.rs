//! Cancelling.

use bytes::Bytes;

use crate::core::Core;
use crate::defect::Defect;
use crate::hash::Effect;
use crate::ids::{JobId, Name};
use crate::job::JobState;
use crate::reply::{Event, Refusal};

impl Core {
    pub(super) fn cancel(&mut self, tenant: Name, id: JobId) -> Result<JobState, Refusal> {
        let tenant = self.tenant_number(&tenant)?;
        let Some((_, state, _)) = self.known(id).filter(|(owner, ..)| *owner == tenant) else {
            return Err(Refusal::UnknownJob(id));
        };
        let Some(number) = self.live_number(id) else {
            return Ok(state);
        };
        if state != JobState::Running {
            if !self.has(Defect::CancelNotDone) {
                self.end_job(number, JobState::Cancelled, Bytes::new(), None);
            }
            return Ok(JobState::Cancelled);
        }
        let job = &mut self.jobs[number];
        if !std::mem::replace(&mut job.cancel_asked, true)
            && let Some(run) = &job.run
        {
            self.effects.note(Effect::CancelAsked, (id.0 >> 64) as u64, id.0 as u64);
            self.entry.events.push(Event::CancelAsked {
                session: run.holder,
                job: id,
                lease: run.lease,
            });
            if !self.has(Defect::LostMark) {
                self.mark_job(number);
            }
        }
        Ok(JobState::Running)
    }
}

//! Time: timers that are due.

use bytes::Bytes;

use super::report::Ending;
use crate::core::Core;
use crate::defect::Defect;
use crate::job::{JobError, JobState};
use crate::reply::{Event, Reply};
use crate::timer::{Timer, What};

/// Most timers fired by one `Tick`. More that are due make the next one due at once.
pub(crate) const TIMERS_MAX: usize = 1_000;

impl Core {
    pub(super) fn tick(&mut self) -> Reply {
        for _ in 0..TIMERS_MAX {
            let early = if self.has(Defect::TimersEarly) { 20 } else { 0 };
            let Some(timer) = self.timers.pop_due(self.meta.now + early) else {
                break;
            };
            self.fire(timer);
        }
        Reply::Done
    }

    fn fire(&mut self, timer: Timer) {
        let number = timer.target;
        match timer.what {
            What::Due => self.move_job(number, JobState::Available, |_| {}),
            What::Expiry => self.end_job(number, JobState::Expired, Bytes::new(), None),
            What::Gate if self.has(Defect::LostWakeup) => {}
            What::Gate => self.wake(number),
            What::Timeout => self.time_out(number),
        }
    }

    fn time_out(&mut self, number: u32) {
        let job = &self.jobs[number];
        if let Some(run) = &job.run {
            let (session, lease) = (run.holder, run.lease);
            self.entry.events.push(Event::LeaseRevoked {
                session,
                job: job.spec.id,
                lease,
            });
        }
        let message = format!("no result after {} ms", job.spec.options.attempt_timeout);
        let error = JobError {
            class: "timeout".into(),
            message: message.into(),
        };
        self.end_attempt(
            number,
            Ending::Failed {
                error,
                retryable: true,
                retry_after: 0,
            },
            None,
        );
    }
}

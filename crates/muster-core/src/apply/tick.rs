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
        let early = if self.has(Defect::TimersEarly) { 20 } else { 0 };
        let now = self.meta.now;
        for _ in 0..TIMERS_MAX {
            let gate = self.gate_timers.first().map(|(at, _)| *at).filter(|at| *at <= now);
            let job = self.timers.first().filter(|at| *at <= now + early);
            match (job, gate) {
                (None, None) => break,
                (Some(job), gate) if gate.is_none_or(|gate| job <= gate) => {
                    if let Some(timer) = self.timers.pop_due(now + early) {
                        self.fire(timer);
                    }
                }
                _ => {
                    if let Some((_, gate)) = self.gate_timers.pop_first()
                        && !self.has(Defect::LostWakeup)
                    {
                        self.gate_due(&gate);
                    }
                }
            }
        }
        Reply::Done
    }

    fn fire(&mut self, timer: Timer) {
        let number = timer.target;
        match timer.what {
            What::Due => {
                let state = self.due_state(number);
                self.move_job(number, state, |_| {});
            }
            What::Expiry if self.has(Defect::ExpiryIgnored) => {}
            What::Expiry => self.end_job(number, JobState::Expired, Bytes::new(), None),
            What::Fleet => self.forget_fleet(timer.order),
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

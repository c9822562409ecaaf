//! Ends of attempts: reported, timed out, or their worker gone.

use bytes::Bytes;

use super::session::{crashed, waiting};
use crate::backoff;
use crate::command::{AttemptOutcome, AttemptReport};
use crate::core::Core;
use crate::defect::Defect;
use crate::ids::{LeaseId, Millis, Name, SessionId};
use crate::job::{JobError, JobState};
use crate::reply::{Refusal, Reply, ReportReply};

/// How an attempt ended, whoever says so.
pub(super) enum Ending {
    Succeeded(Bytes),
    Failed {
        error: JobError,
        retryable: bool,
        retry_after: Millis,
    },
    Preempted,
    Snoozed(Millis),
    Throttled(Name, Millis),
    Crashed,
}

impl From<AttemptOutcome> for Ending {
    fn from(outcome: AttemptOutcome) -> Self {
        match outcome {
            AttemptOutcome::Succeeded { result } => Self::Succeeded(result),
            AttemptOutcome::Failed {
                error,
                retryable,
                retry_after,
            } => Self::Failed {
                error,
                retryable,
                retry_after,
            },
            AttemptOutcome::Preempted => Self::Preempted,
            AttemptOutcome::Snoozed { delay } => Self::Snoozed(delay),
            AttemptOutcome::Throttled { key, retry_after } => Self::Throttled(key, retry_after),
            // Of a job whose cancel was asked for, every end but success is the end by cancel.
            AttemptOutcome::Cancelled => Self::Failed {
                error: JobError {
                    class: "cancelled".into(),
                    message: "stopped without a cancel being asked for".into(),
                },
                retryable: true,
                retry_after: 0,
            },
        }
    }
}

impl Core {
    pub(super) fn report(
        &mut self,
        session: SessionId,
        results: Vec<AttemptReport>,
        credit_total: u64,
    ) -> Result<Reply, Refusal> {
        let open = self.session_of.get(&session).copied();
        if open.is_none() && results.is_empty() {
            return Err(Refusal::SessionClosed);
        }
        let replies = results
            .into_iter()
            .map(|result| self.attempt_reported(result))
            .collect();
        if let Some(number) = open {
            self.add_credits(number, credit_total);
        }
        Ok(Reply::Reported(replies))
    }

    fn attempt_reported(&mut self, report: AttemptReport) -> ReportReply {
        let Some(number) = self.live_number(report.job) else {
            if self.has(Defect::EndCountedTwice) {
                self.tenants[0].row.totals.succeeded += 1;
            }
            let repeated = self
                .lately_ended(report.job)
                .is_some_and(|ended| ended.lease == Some(report.lease) && !self.has(Defect::RepeatCalledLost));
            return if repeated {
                ReportReply::Repeated
            } else {
                ReportReply::LeaseLost
            };
        };
        let job = &self.jobs[number];
        let any = self.has(Defect::AcceptAnyLease);
        if job.run.as_ref().is_none_or(|run| run.lease != report.lease && !any) {
            let repeated = job.last_report() == Some(report.lease) && !self.has(Defect::RepeatCalledLost);
            if self.has(Defect::LateReportFrees) {
                self.free_keys_again(number);
            }
            return if repeated {
                ReportReply::Repeated
            } else {
                ReportReply::LeaseLost
            };
        }
        ReportReply::Accepted(self.end_attempt(number, report.outcome.into(), Some(report.lease)))
    }

    /// Ends the attempt in progress; returns the job's state after it. `reported`: by its holder, under this lease.
    pub(super) fn end_attempt(&mut self, number: u32, ending: Ending, reported: Option<LeaseId>) -> JobState {
        let learn = matches!(ending, Ending::Succeeded(_) | Ending::Failed { .. });
        self.stop_attempt(number, learn);
        if let (Some(lease), false) = (reported, matches!(ending, Ending::Succeeded(_))) {
            self.jobs[number].rare().last_report = Some(lease);
        }
        match ending {
            Ending::Succeeded(result) => {
                self.end_job(number, JobState::Succeeded, result, reported);
                JobState::Succeeded
            }
            Ending::Failed {
                error,
                retryable,
                retry_after,
            } => self.failed(number, error, retryable, retry_after),
            Ending::Crashed => self.crashed(number),
            Ending::Preempted => self.handed_back(number, 0),
            Ending::Snoozed(delay) => self.handed_back(number, delay),
            Ending::Throttled(key, retry_after) => self.throttled(number, &key, retry_after),
        }
    }

    /// Closes the limit key for a while and hands the job back. Without that key on it, the job alone waits.
    fn throttled(&mut self, number: u32, key: &Name, retry_after: Millis) -> JobState {
        let retry_after = retry_after.max(1);
        let lane = &self.lanes[self.jobs[number].lane];
        let at = lane.limits.keys.iter().position(|own| own.key == *key);
        let Some(gate) = at.map(|at| lane.key_gates[at]) else {
            return self.handed_back(number, retry_after);
        };
        self.throttle(gate, self.meta.now.saturating_add(retry_after));
        self.handed_back(number, 0)
    }

    /// What a semaphore that is given back by its holder would do: give it back twice.
    fn free_keys_again(&mut self, number: u32) {
        let gates: Vec<u32> = self.lanes[self.jobs[number].lane]
            .gates()
            .map(|(gate, _)| gate)
            .collect();
        for gate in gates {
            let running = &mut self.gates[gate].running;
            *running = running.saturating_sub(1);
            self.refill(gate);
        }
    }

    fn failed(&mut self, number: u32, error: JobError, retryable: bool, retry_after: Millis) -> JobState {
        let more = u32::from(self.has(Defect::FailureBudgetOffByOne));
        let (flat, deaf) = (
            self.has(Defect::BackoffDoesNotGrow),
            self.has(Defect::RetryAfterIgnored),
        );
        let job = &mut self.jobs[number];
        job.failures = job.failures.saturating_add(1);
        let options = &job.spec.options;
        let spent = !retryable || job.failures >= options.max_attempts + more;
        let wait = match retry_after {
            given if given > 0 && !deaf => given,
            _ if flat => backoff::wait(&options.backoff, 1, job.spec.seed),
            _ => backoff::wait(&options.backoff, job.failures, job.spec.seed),
        };
        let tenant = self.lanes[job.lane].tenant;
        self.tenants[tenant as usize].row.totals.failures += 1;
        self.mark_tenant(tenant);
        self.set_error(number, error);
        self.after_failure(number, spent, wait)
    }

    fn crashed(&mut self, number: u32) -> JobState {
        if self.has(Defect::CrashTakenAsFailure) {
            return self.failed(number, crashed(0), true, 0);
        }
        let endless = self.has(Defect::CrashBudgetForgotten);
        let job = &mut self.jobs[number];
        job.crashes = job.crashes.saturating_add(1);
        let options = &job.spec.options;
        let crashes = job.crashes;
        let spent = crashes >= options.max_crashes && !endless;
        // Once may be the machine's fault; from then on the job is suspected.
        let wait = if crashes == 1 {
            0
        } else {
            backoff::wait(&options.backoff, crashes, job.spec.seed)
        };
        let tenant = self.lanes[job.lane].tenant;
        self.tenants[tenant as usize].row.totals.crashes += 1;
        self.mark_tenant(tenant);
        self.set_error(number, crashed(crashes));
        self.after_failure(number, spent, wait)
    }

    fn after_failure(&mut self, number: u32, spent: bool, wait: Millis) -> JobState {
        let end = match (self.jobs[number].cancel_asked, spent) {
            (true, _) => Some(JobState::Cancelled),
            (false, true) => Some(JobState::Dead),
            (false, false) => None,
        };
        if let Some(state) = end {
            self.end_job(number, state, Bytes::new(), None);
            return state;
        }
        let wait = if self.has(Defect::BackoffHalved) {
            wait / 2
        } else {
            wait
        };
        let available_at = self.meta.now.saturating_add(wait);
        let state = waiting(available_at, self.meta.now, JobState::Retrying);
        self.move_job(number, state, |job| job.available_at = available_at);
        state
    }

    /// Back to waiting, the attempt not counted. Without a delay it keeps its place in its lane.
    fn handed_back(&mut self, number: u32, delay: Millis) -> JobState {
        if self.jobs[number].cancel_asked {
            self.end_job(number, JobState::Cancelled, Bytes::new(), None);
            return JobState::Cancelled;
        }
        let now = self.meta.now;
        let available_at = now.saturating_add(delay);
        let state = waiting(available_at, now, JobState::Scheduled);
        let counts = u32::from(!self.has(Defect::HandBackCounted));
        self.move_job(number, state, |job| {
            job.attempts = job.attempts.saturating_sub(counts);
            if delay > 0 {
                job.available_at = available_at;
            }
        });
        state
    }
}

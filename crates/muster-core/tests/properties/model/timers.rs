//! What time does: due jobs, expiry, timeouts.

use muster_core::JobState::{self, *};
use muster_core::Timestamp;

use super::{Model, Revoked, Wait, wait_bounds};
use crate::facts::How;

impl Model {
    /// Everything whose time has come happens: first what ends, then what becomes due.
    pub fn tick(&mut self) {
        self.ticked = true;
        let now = self.now;
        self.throttled.retain(|(_, until)| *until > now);
        for (_, bucket) in &mut self.buckets {
            bucket.ticked(now);
        }
        for at in 0..self.jobs.len() {
            let job = &self.jobs[at];
            if let Some(lease) = job.lease
                && lease.deadline != 0
                && lease.deadline <= now
            {
                self.end_lease(at, How::TimedOut, None);
                continue;
            }
            let job = &self.jobs[at];
            let expired = job.expires_at().is_some_and(|instant| instant <= now);
            if job.is_live()
                && job.lease.is_none()
                && expired
                && (job.is(Scheduled) || job.is(Blocked) || job.is(Available))
            {
                self.finish(at, Expired);
            }
        }
        for at in 0..self.jobs.len() {
            let job = &self.jobs[at];
            let due = job.due;
            if !job.is_live() || job.lease.is_some() || !(job.is(Scheduled) || job.is(Retrying)) || due.0 > now {
                continue;
            }
            let state = if self.may_go(&job.spec, job.order) {
                Available
            } else {
                Blocked
            };
            if job.changed != self.index {
                let certain = due.1 <= now;
                let job = &mut self.jobs[at];
                if certain {
                    job.states = vec![state];
                } else {
                    job.states.push(state);
                }
                job.changed = self.index;
            } else if !job.is(state) {
                self.jobs[at].states.push(state);
            }
        }
    }

    /// The earliest instant at which time will do something to a job.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let live = self.jobs.iter().filter(|job| job.is_live());
        live.filter_map(|job| match job.lease {
            Some(lease) => (lease.deadline != 0).then_some(lease.deadline),
            None if job.state() == Available || job.state() == Blocked => job.expires_at(),
            None => Some(job.expires_at().map_or(job.due.1, |expires| expires.min(job.due.1))),
        })
        .min()
    }

    /// An attempt ends in a way that is not success. `wait` overrides the backoff.
    pub fn end_lease(&mut self, at: usize, how: How, wait: Option<u64>) {
        let (now, index) = (self.now, self.index);
        let job = &mut self.jobs[at];
        let lease = job.lease.take().expect("only running jobs end an attempt");
        job.changed = index;
        let (id, slots) = (job.spec.id, u64::from(job.spec.options.slots));
        match how {
            How::Failed | How::FailedForGood | How::TimedOut => job.failures += 1,
            How::Crashed => job.crashes += 1,
            How::Uncounted => job.attempts -= 1,
            How::Succeeded | How::Cancelled => {}
        }
        let spent = match how {
            How::FailedForGood => true,
            How::Failed | How::TimedOut => job.failures >= job.spec.options.max_attempts,
            How::Crashed => job.crashes >= job.spec.options.max_crashes,
            _ => false,
        };
        let by_report = job
            .leases
            .last()
            .is_some_and(|(last, _, taken)| *last == lease.id && *taken);
        if !by_report {
            self.revoked.push(Revoked {
                job: id,
                lease: lease.id,
                why: how,
            });
        }
        let job = &mut self.jobs[at];
        let tenant = job.tenant;
        let bounds = wait_bounds(&job.spec.options.backoff, job.failures);
        let end: Option<JobState> = match how {
            How::Succeeded => Some(Succeeded),
            _ if job.cancel_asked => Some(Cancelled),
            How::Cancelled => Some(Cancelled),
            _ if spent => Some(Dead),
            _ => None,
        };
        if end.is_none() {
            let (least, most) = match (how, wait) {
                (How::Failed | How::TimedOut, None) => bounds,
                (How::Failed | How::TimedOut | How::Uncounted, Some(wait)) => (wait, wait),
                // Whether a crash waits is left open.
                (How::Crashed, _) => (0, bounds.1.max(3_600_000)),
                _ => (0, 0),
            };
            job.states = match how {
                How::Uncounted if most == 0 => vec![Available],
                How::Uncounted => vec![Scheduled],
                How::Crashed => vec![Available, Retrying],
                _ if least == 0 => vec![Retrying, Available],
                _ => vec![Retrying],
            };
            job.due = (now + least, now + most);
            match how {
                How::Failed | How::TimedOut => self.waits.push(Wait { job: id, least, most }),
                How::Uncounted if most > 0 => self.waits.push(Wait { job: id, least, most }),
                // Handed back: it may keep its old place.
                How::Uncounted if most == 0 => job.due = (0, now),
                How::Crashed => job.due.0 = 0,
                _ => {}
            }
        }
        self.tenant_of(tenant).run_ms += (now - lease.since) * slots;
        if let Some(state) = end {
            self.finish(at, state);
        }
    }

    /// A job ends.
    pub fn finish(&mut self, at: usize, state: JobState) {
        let index = self.index;
        let job = &mut self.jobs[at];
        job.states = vec![state];
        job.ended = Some(index);
        job.changed = index;
        job.lease = None;
        self.leave_order(at, state);
    }
}

//! Was each lease allowed, was it the turn of its job, and was nothing left that could have started?

use muster_core::{Assignment, JobState, Timestamp};

use super::{Check, Job, Lease, Model, Session, Tenant};

impl Tenant {
    /// Whether the exact token bucket lets a job start now; unknown after the limit was changed.
    fn bucket_allows(&self, now: Timestamp) -> Option<bool> {
        let Some(limit) = self.settings.rate_limit else {
            return Some(true);
        };
        let ahead = u128::from(limit.burst - 1) * u128::from(limit.period);
        self.bucket
            .map(|arrival| arrival <= u128::from(now) * u128::from(limit.count) + ahead)
    }

    fn take(&mut self, now: Timestamp) {
        if let (Some(limit), Some(arrival)) = (self.settings.rate_limit, self.bucket) {
            let now = u128::from(now) * u128::from(limit.count);
            self.bucket = Some(arrival.max(now) + u128::from(limit.period));
        }
    }
}

impl Model {
    /// The place of a job among those of its tenant.
    fn turn(&self, job: &Job) -> (u64, u64) {
        let aging = self
            .tenants
            .iter()
            .find(|tenant| tenant.id == job.tenant)
            .map_or(0, |tenant| tenant.settings.aging);
        (job.due.0 + job.spec.priority.level() * aging, job.order)
    }

    fn could_start(&self, job: &Job) -> bool {
        job.is_live()
            && job.states == [JobState::Available]
            && !self.is_paused(job)
            && job.expires_at().is_none_or(|instant| instant > self.now)
    }

    /// Checks one lease against the state before it, and takes it over.
    pub fn grant(&mut self, position: u32, given: &Assignment) -> Check {
        let fault = |what: &str| Err(format!("lease {:?} of job {}: {what}", given.lease, given.spec.id));
        if (given.lease.index, given.lease.position) != (self.index, position) {
            return fault(&format!("its token should be {} at {position}", self.index));
        }
        let Some(session) = self.session(given.session).filter(|session| session.open) else {
            return fault("its session is not open");
        };
        if session.quiet || session.granted >= session.credits || session.spec.node != given.node {
            return fault("its session is quiet, without credit, or elsewhere");
        }
        let Some(job) = self.job(given.spec.id) else {
            return fault("no such job");
        };
        if !job.is_live() || !job.is(JobState::Available) || job.lease.is_some() {
            return fault(&format!("the job is {:?}", job.states));
        }
        if !job.matches(&session.spec.class) || self.is_paused(job) {
            return fault("its class does not match or its queue is paused");
        }
        if *given.spec != job.spec || given.attempt != job.attempts + 1 || given.available_at != job.due.0 {
            return fault(&format!(
                "it does not tell what the job is: {given:?}, due {:?}",
                job.due
            ));
        }
        let timeout = job.spec.options.attempt_timeout;
        let deadline = if timeout == 0 { 0 } else { self.now + timeout };
        if given.deadline != deadline {
            return fault(&format!("its deadline should be {deadline}"));
        }
        let tenant = self
            .tenants
            .iter()
            .find(|tenant| tenant.id == job.tenant)
            .expect("known");
        let limit = tenant.settings.concurrency_limit as usize;
        if limit != 0 && self.running(job.tenant) >= limit {
            return fault("its tenant runs as many as it may");
        }
        if tenant.bucket_allows(self.now) == Some(false) {
            return fault("its tenant's rate limit does not allow it");
        }
        let turn = self.turn(job);
        let earlier = self.jobs.iter().find(|other| {
            other.tenant == job.tenant
                && self.could_start(other)
                && other.matches(&session.spec.class)
                && self.turn(other) < turn
        });
        if let Some(earlier) = earlier {
            return fault(&format!(
                "it was the turn of {} with {:?} before {turn:?}",
                earlier.spec.id,
                self.turn(earlier)
            ));
        }

        let now = self.now;
        let tenant = job.tenant;
        let job = self.job_mut(given.spec.id);
        job.states = vec![JobState::Running];
        job.attempts += 1;
        job.changed = given.lease.index;
        job.lease = Some(Lease {
            id: given.lease,
            session: given.session,
            since: now,
            deadline,
        });
        job.leases.push((given.lease, given.session, false));
        let tenant = self.tenant_of(tenant);
        tenant.started += 1;
        tenant.take(now);
        let session = self
            .sessions
            .iter_mut()
            .find(|held| held.spec.session == given.session)
            .expect("checked");
        session.granted += 1;
        Ok(())
    }

    /// No session waits while a job that it takes could start. A tenant parked by its rate limit is let go by a tick,
    /// so it may wait if the core asks for one.
    pub fn work_is_conserved(&self, next_due: Option<Timestamp>) -> Check {
        let waiting = |session: &&Session| session.open && !session.quiet && session.granted < session.credits;
        for session in self.sessions.iter().filter(waiting) {
            for job in self
                .jobs
                .iter()
                .filter(|job| self.could_start(job) && job.matches(&session.spec.class))
            {
                let tenant = self
                    .tenants
                    .iter()
                    .find(|tenant| tenant.id == job.tenant)
                    .expect("known");
                let limit = tenant.settings.concurrency_limit as usize;
                let full = limit != 0 && self.running(job.tenant) >= limit;
                let tick_is_due = next_due.is_some_and(|due| due <= self.now);
                let parked = tenant.settings.rate_limit.is_some()
                    && (tick_is_due || tenant.bucket_allows(self.now) != Some(true));
                if !full && !parked {
                    return Err(format!(
                        "job {} could run in session {:?}, but waits",
                        job.spec.id, session.spec.session
                    ));
                }
                if !full && parked && next_due.is_none() {
                    return Err(format!(
                        "job {} waits for its tenant's rate limit and no tick is asked for",
                        job.spec.id
                    ));
                }
            }
        }
        Ok(())
    }
}

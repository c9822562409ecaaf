//! Was each lease allowed, was it the turn of its job, and was nothing left that could have started?

use muster_core::{Assignment, Core, GatherRow, JobState, TenantId};

use super::limits::HeldUp;
use super::{Check, Job, Lease, Model, Session};

impl Model {
    /// The place of a job among those of its tenant.
    pub(super) fn turn(&self, job: &Job) -> (u64, u64) {
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
        if session.free() < u64::from(given.spec.options.slots) || session.spec.node != given.node {
            return fault("its session is quiet, without slots enough, or elsewhere");
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
        if self.held_up(job) > HeldUp::Perhaps {
            return fault("a limit does not allow it");
        }
        if !self.may_go(&job.spec, job.order) {
            return fault("an earlier job of its ordering key has not ended");
        }
        let turn = self.turn(job);
        let free = session.free();
        if let Some(other) = self.waits_below_guarantee(job, session) {
            return fault(&format!(
                "{} comes first, since its tenant is below its guarantee",
                other.spec.id
            ));
        }
        let earlier = self.jobs.iter().find(|other| {
            other.tenant == job.tenant
                && self.line(other) == self.line(job)
                && self.could_start(other)
                && u64::from(other.spec.options.slots) <= free
                && other.matches(&session.spec.class)
                && self.turn(other) < turn
                && self.held_up(other) == HeldUp::No
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
        self.tenant_of(tenant).started += 1;
        self.take_tokens(&given.spec);
        let session = self
            .sessions
            .iter_mut()
            .find(|held| held.spec.session == given.session)
            .expect("checked");
        session.granted += u64::from(given.spec.options.slots);
        Ok(())
    }

    /// Slots that the tenant's running jobs take.
    pub(super) fn running_slots(&self, tenant: TenantId) -> u64 {
        let jobs = self
            .jobs
            .iter()
            .filter(|job| job.tenant == tenant && job.lease.is_some());
        jobs.map(|job| u64::from(job.spec.options.slots)).sum()
    }

    /// The tenant runs jobs in fewer slots than it is guaranteed.
    fn is_below_guarantee(&self, id: TenantId) -> bool {
        let tenant = self.tenants.iter().find(|tenant| tenant.id == id);
        tenant.is_some_and(|tenant| self.running_slots(id) < u64::from(tenant.settings.guaranteed_slots))
    }

    /// A job of another tenant that is below its guarantee and could start in the session instead of this one, whose tenant is
    /// not. What was gathered, by this session or by one that had less, is for whom it was gathered.
    fn waits_below_guarantee(&self, job: &Job, session: &Session) -> Option<&Job> {
        let gathers = |other: &Session| {
            let own = other.gathers.is_some_and(|gathers| gathers.tenant == job.tenant);
            own && other.spec.class == session.spec.class
        };
        if self.sessions.iter().any(gathers) || self.is_below_guarantee(job.tenant) {
            return None;
        }
        let tenants = self.tenants.iter().map(|tenant| tenant.id);
        let below: Vec<TenantId> = tenants.filter(|id| self.is_below_guarantee(*id)).collect();
        self.jobs.iter().find(|other| {
            below.contains(&other.tenant)
                && self.could_start(other)
                && u64::from(other.spec.options.slots) <= session.free()
                && other.matches(&session.spec.class)
                && self.held_up(other) == HeldUp::No
        })
    }

    /// Takes over which sessions gather slots, and for what.
    pub fn take_gathers(&mut self, core: &Core) {
        for view in core.sessions() {
            let id = view.row.spec.session;
            if let Some(session) = self.sessions.iter_mut().find(|session| session.spec.session == id) {
                session.gathers = view.row.gathers;
            }
        }
    }

    /// No session waits while a job that it takes could start. A job held up for a time needs a tick to come.
    pub fn work_is_conserved(&self, next_due: Option<muster_core::Timestamp>) -> Check {
        let waiting = |session: &&Session| session.free() > 0;
        for session in self.sessions.iter().filter(waiting) {
            // One that gathers has work to wait for, and too little for it.
            if let Some(gathers) = session.gathers {
                self.gathers_for_something(session, gathers)?;
                continue;
            }
            let fits = |job: &&Job| u64::from(job.spec.options.slots) <= session.free();
            for job in self
                .jobs
                .iter()
                .filter(|job| self.could_start(job) && job.matches(&session.spec.class) && fits(job))
            {
                let held_up = self.held_up(job);
                if held_up == HeldUp::No {
                    return Err(format!(
                        "job {} could run in session {:?}, but waits",
                        job.spec.id, session.spec.session
                    ));
                }
                if held_up < HeldUp::Certainly && next_due.is_none() {
                    return Err(format!("job {} waits for a time and no tick is asked for", job.spec.id));
                }
            }
        }
        Ok(())
    }

    /// A job waits for as many slots as the session gathers, it has less as yet, and none of its like gathers as well.
    fn gathers_for_something(&self, session: &Session, gathers: GatherRow) -> Check {
        // As long as nothing starts at all, nobody looks.
        if self.cluster_may_be_closed() {
            return Ok(());
        }
        let fault = |what: &str| {
            Err(format!(
                "session {:?} gathers {gathers:?}: {what}",
                session.spec.session
            ))
        };
        if session.free() >= u64::from(gathers.slots) {
            return fault("it has them");
        }
        let waits = |job: &Job| {
            job.tenant == gathers.tenant
                && job.spec.options.slots == gathers.slots
                && job.is_live()
                // One whose time has run out waits until a tick takes it away.
                && job.states == [JobState::Available]
                && !self.is_paused(job)
                && job.matches(&session.spec.class)
                && self.held_up(job) < HeldUp::Certainly
        };
        if !self.jobs.iter().any(waits) {
            return fault("nothing waits for them");
        }
        let alike = |other: &&Session| other.open && other.gathers.is_some() && other.spec.class == session.spec.class;
        if self.sessions.iter().filter(alike).count() > 1 {
            return fault("another one of its like does so, too");
        }
        let running = self
            .jobs
            .iter()
            .filter(|job| job.lease.is_some_and(|lease| lease.session == session.spec.session));
        let held: u64 = running.map(|job| u64::from(job.spec.options.slots)).sum();
        if session.free() + held < u64::from(gathers.slots) {
            return fault("it will never have them");
        }
        Ok(())
    }

    /// A job that takes more slots than any session has free, and whose turn it is, has one gather them.
    pub fn wide_jobs_come_to_their_turn(&self) -> Check {
        for session in self
            .sessions
            .iter()
            .filter(|session| session.free() > 0 && session.gathers.is_none())
        {
            let class = &session.spec.class;
            let like = || {
                self.sessions
                    .iter()
                    .filter(|other| other.open && other.spec.class == *class)
            };
            if like().any(|other| other.gathers.is_some()) {
                continue;
            }
            let running = self
                .jobs
                .iter()
                .filter(|job| job.lease.is_some_and(|lease| lease.session == session.spec.session));
            let reach = session.free() + running.map(|job| u64::from(job.spec.options.slots)).sum::<u64>();
            let waits = |job: &&Job| {
                self.could_start(job)
                    && job.matches(class)
                    && u64::from(job.spec.options.slots) <= reach
                    && self.held_up(job) == HeldUp::No
            };
            if let Some(job) = self.jobs.iter().find(waits) {
                return Err(format!(
                    "job {} waits, and no session gathers slots for any",
                    job.spec.id
                ));
            }
        }
        Ok(())
    }
}

//! What is told of jobs that do not run, beside what the model knows of them.

use muster_core::{Core, Explanation, JobState, LimitLevel, WaitReason};

use super::limits::HeldUp;
use super::{Check, Job, Model};

impl Model {
    /// Every live job is explained, with the reasons that it has and no others.
    pub fn same_explanations(&self, core: &Core) -> Check {
        let due = core.next_due().is_some_and(|due| due <= self.now);
        for job in self.jobs.iter().filter(|job| job.is_live()) {
            let Some(explained) = core.explain(job.tenant, job.spec.id) else {
                return Err(format!("job {} is not explained", job.spec.id));
            };
            let fault = |what: &str| {
                Err(format!(
                    "job {} in {:?}: {what}: {explained:?}",
                    job.spec.id, job.states
                ))
            };
            let holder = explained.holder.as_ref().map(|holder| holder.session);
            if holder != job.lease.map(|lease| lease.session) {
                return fault("another holder");
            }
            if job.state() == JobState::Running {
                if !explained.reasons.is_empty() {
                    return fault("reasons why it does not run");
                }
                continue;
            }
            if explained.reasons.is_empty() && !due {
                return fault("no reason");
            }
            if let Some(what) = self.wrong_reason(job, &explained) {
                return fault(what);
            }
        }
        Ok(())
    }

    fn wrong_reason(&self, job: &Job, explained: &Explanation) -> Option<&'static str> {
        let state = job.state();
        let has = |wanted: fn(&WaitReason) -> bool| explained.reasons.iter().any(wanted);
        if has(|reason| matches!(reason, WaitReason::NotDue { .. }))
            != matches!(state, JobState::Scheduled | JobState::Retrying)
        {
            return Some("its time");
        }
        if has(|reason| matches!(reason, WaitReason::Ordering(_))) == self.may_go(&job.spec, job.order) {
            return Some("its ordering key");
        }
        let open = || self.sessions.iter().filter(|session| session.open);
        let accept = || open().filter(|session| job.matches(&session.spec.class));
        let workers = &explained.workers;
        if (workers.open, workers.accept) != (open().count() as u64, accept().count() as u64) {
            return Some("its workers");
        }
        if has(|reason| *reason == WaitReason::NoWorker) != (accept().count() == 0) {
            return Some("its being unroutable");
        }
        let slots = u64::from(job.spec.options.slots);
        let free = accept().any(|session| session.gathers.is_none() && session.free() >= slots);
        let no_slot = state == JobState::Available && accept().count() > 0 && !free;
        if has(|reason| *reason == WaitReason::NoSlot) != no_slot {
            return Some("the slots");
        }
        let paused = |wanted| {
            let mut paused = explained.reasons.iter();
            paused.any(|reason| matches!(reason, WaitReason::Paused { level, .. } if *level == wanted))
        };
        if paused(LimitLevel::Queue) != self.queue_is_paused(job) {
            return Some("its queue");
        }
        if paused(LimitLevel::Kind) != self.kind_is_paused(job) {
            return Some("its kind");
        }
        if state != JobState::Available {
            return None;
        }
        let limited = has(|reason| matches!(reason, WaitReason::Limit(_)));
        match self.held_up(job) {
            HeldUp::No if limited => return Some("its limits do not refuse it"),
            HeldUp::Certainly if !limited => return Some("its limits refuse it"),
            _ => {}
        }
        let alike = |other: &&Job| {
            let (own, other_options) = (&job.spec.options, &other.spec.options);
            other.is_live()
                && other.is(JobState::Available)
                && (&other.spec.tenant, &other.spec.queue, &other.spec.kind)
                    == (&job.spec.tenant, &job.spec.queue, &job.spec.kind)
                && other.spec.schema_version == job.spec.schema_version
                && own.required_labels == other_options.required_labels
                && own.preferred_labels == other_options.preferred_labels
                && own.limits == other_options.limits
                && own.slots == other_options.slots
        };
        let before = self.jobs.iter().filter(alike);
        let before = before.filter(|other| self.turn(other) < self.turn(job)).count() as u64;
        let position = explained.position.filter(|position| position.exact);
        (position.map(|position| position.before) != Some(before)).then_some("its position")
    }
}

//! Ordering keys: who is first, and what a dead job holds up.

use muster_core::{JobId, JobSpec, JobState, Name, OrderingPolicy};

use super::Model;

/// The jobs of one ordering key.
#[derive(Clone, PartialEq, Eq)]
pub struct Group {
    pub tenant: Name,
    pub queue: Name,
    pub key: Name,
}

/// A dead job that the others of its key wait for.
pub struct Hold {
    pub group: Group,
    pub job: JobId,
    pub order: u64,
}

impl Group {
    pub fn of(spec: &JobSpec) -> Option<Self> {
        Some(Self {
            tenant: spec.tenant.clone(),
            queue: spec.queue.clone(),
            key: spec.ordering.as_ref()?.key.clone(),
        })
    }
}

impl Model {
    /// The place of a new job; one that revives a dead job that is waited for takes that job's place.
    pub fn place_of(&mut self, spec: &JobSpec, redriven_from: Option<JobId>) -> u64 {
        let next = self.jobs.len() as u64;
        let group = Group::of(spec);
        let hold = self
            .holds
            .iter()
            .position(|hold| Some(&hold.group) == group.as_ref() && Some(hold.job) == redriven_from);
        hold.map_or(next, |at| self.holds.remove(at).order)
    }

    /// Whether a job at this place would be the first of its ordering key.
    pub fn may_go(&self, spec: &JobSpec, order: u64) -> bool {
        let Some(group) = Group::of(spec) else {
            return true;
        };
        let before =
            |job: &super::Job| job.is_live() && job.order < order && Group::of(&job.spec).as_ref() == Some(&group);
        !self.holds.iter().any(|hold| hold.group == group) && !self.jobs.iter().any(before)
    }

    /// A job has ended: its ordering key is held, or the next one goes on.
    pub fn leave_order(&mut self, at: usize, state: JobState) {
        let job = &self.jobs[at];
        let Some(group) = Group::of(&job.spec) else { return };
        let strict = job
            .spec
            .ordering
            .as_ref()
            .is_some_and(|own| own.policy == OrderingPolicy::Strict);
        if state == JobState::Dead && strict {
            let (job, order) = (job.spec.id, job.order);
            self.holds.push(Hold { group, job, order });
            return;
        }
        self.go_on(&group);
    }

    /// The dead job that an ordering key waits for.
    pub fn held_by(&self, tenant: &Name, queue: &Name, key: &Name) -> Option<JobId> {
        let hold = self.holds.iter().find(|hold| {
            let group = &hold.group;
            (&group.tenant, &group.queue, &group.key) == (tenant, queue, key)
        });
        hold.map(|hold| hold.job)
    }

    pub fn release(&mut self, tenant: &Name, queue: &Name, key: &Name) {
        let group = Group {
            tenant: tenant.clone(),
            queue: queue.clone(),
            key: key.clone(),
        };
        self.holds.retain(|hold| hold.group != group);
        self.go_on(&group);
    }

    fn go_on(&mut self, group: &Group) {
        let index = self.index;
        let next = (0..self.jobs.len()).find(|at| {
            let job = &self.jobs[*at];
            job.is_live() && Group::of(&job.spec).as_ref() == Some(group) && self.may_go(&job.spec, job.order)
        });
        if let Some(at) = next
            && self.jobs[at].is(JobState::Blocked)
        {
            let job = &mut self.jobs[at];
            job.states.retain(|state| *state != JobState::Blocked);
            job.states.push(JobState::Available);
            job.changed = index;
        }
    }
}

//! What changed since rows were last taken: marks, not copies, so a job that came and went in between costs nothing.

use std::collections::BTreeSet;

use crate::core::Core;
use crate::defect::Defect;
use crate::ids::{JobId, LogIndex, Name, SessionId};
use crate::row::{Changes, Row, RowKey};

/// Marks of numbered things that may be gone, or their number reused, when rows are taken.
#[derive(Debug)]
pub(crate) struct Marks<I> {
    list: Vec<(u32, I)>,
    /// Things marked and still there.
    pub(crate) count: usize,
    /// Rows to delete.
    pub(crate) deleted: BTreeSet<I>,
}

impl<I> Default for Marks<I> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            count: 0,
            deleted: BTreeSet::new(),
        }
    }
}

impl<I: Copy + Ord> Marks<I> {
    pub(crate) fn mark(&mut self, number: u32, id: I, dirty: &mut bool) {
        if !std::mem::replace(dirty, true) {
            self.list.push((number, id));
            self.count += 1;
        }
    }

    /// The thing is gone.
    pub(crate) fn gone(&mut self, id: I, dirty: bool, written: bool) {
        if dirty {
            self.count -= 1;
        }
        if written {
            self.deleted.insert(id);
        }
    }

    /// Drops stale marks when they are in the majority.
    pub(crate) fn compact(&mut self, there: impl Fn(u32, I) -> bool) {
        if self.list.len() > 2 * self.count + 4096 {
            self.list.retain(|(number, id)| there(*number, *id));
        }
    }

    fn len(&self) -> usize {
        self.count + self.deleted.len()
    }

    fn take(&mut self) -> Vec<(u32, I)> {
        self.count = 0;
        std::mem::take(&mut self.list)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Dirty {
    pub(crate) meta: bool,
    pub(crate) jobs: Marks<JobId>,
    pub(crate) sessions: Marks<SessionId>,
    pub(crate) tenants: Vec<u32>,
    /// (tenant, kind).
    pub(crate) costs: Vec<(u32, u32)>,
    pub(crate) queues: BTreeSet<(u32, Name)>,
    /// Queue rows that have been taken and not deleted.
    pub(crate) queues_written: BTreeSet<(u32, Name)>,
    pub(crate) ended_deleted: Vec<LogIndex>,
}

impl Core {
    pub(crate) fn mark_job(&mut self, number: u32) {
        let kept = self.has(Defect::VersionNotRaised);
        let job = &mut self.jobs[number];
        if !kept || job.run.is_none() {
            job.changed_index = self.entry.index;
        }
        self.dirty.jobs.mark(number, job.spec.id, &mut job.dirty);
    }

    pub(crate) fn mark_tenant(&mut self, number: u32) {
        if let Some(tenant) = self.tenants.get_mut(number as usize)
            && !std::mem::replace(&mut tenant.dirty, true)
        {
            self.dirty.tenants.push(number);
        }
    }

    pub(crate) fn mark_session(&mut self, number: u32) {
        let session = &mut self.sessions[number];
        self.dirty
            .sessions
            .mark(number, session.row.spec.session, &mut session.dirty);
    }

    /// Keeps the lists of marks in proportion to what is marked; called once per entry.
    pub(crate) fn compact_marks(&mut self) {
        let jobs = &self.jobs;
        self.dirty
            .jobs
            .compact(|number, id| jobs.get(number).is_some_and(|job| job.spec.id == id && job.dirty));
        let sessions = &self.sessions;
        self.dirty.sessions.compact(|number, id| {
            sessions
                .get(number)
                .is_some_and(|session| session.row.spec.session == id && session.dirty)
        });
    }

    /// Number of rows that `take_changes` would return; cheap.
    pub fn changes_len(&self) -> usize {
        let dirty = &self.dirty;
        usize::from(dirty.meta)
            + dirty.jobs.len()
            + dirty.sessions.len()
            + dirty.tenants.len()
            + dirty.costs.len()
            + dirty.queues.len()
            + dirty.ended_deleted.len()
            + self.ended.fresh()
    }

    /// Rows changed since the last call, as of the last applied index.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        changes.put.reserve(self.changes_len());
        if std::mem::take(&mut self.dirty.meta) {
            changes.put.push(Row::Meta(self.meta.clone()));
        }
        self.take_jobs(&mut changes);
        self.take_sessions(&mut changes);
        for number in std::mem::take(&mut self.dirty.tenants) {
            let tenant = &mut self.tenants[number as usize];
            tenant.dirty = false;
            changes.put.push(Row::Tenant(tenant.row.clone()));
        }
        for (number, kind) in std::mem::take(&mut self.dirty.costs) {
            let tenant = &mut self.tenants[number as usize];
            tenant.costs[kind as usize].dirty = false;
            changes.put.extend(tenant.cost_row(kind).map(Row::KindCost));
        }
        self.take_queues(&mut changes);
        changes.put.extend(self.ended.take_fresh().into_iter().map(Row::Ended));
        changes.delete.extend(
            std::mem::take(&mut self.dirty.ended_deleted)
                .into_iter()
                .map(RowKey::Ended),
        );
        changes
    }

    fn take_jobs(&mut self, changes: &mut Changes) {
        let unwritten = self.has(Defect::DelayedJobNotWritten);
        for (number, id) in self.dirty.jobs.take() {
            if self.jobs.get(number).is_none_or(|job| job.spec.id != id || !job.dirty) {
                continue;
            }
            let job = &mut self.jobs[number];
            job.dirty = false;
            job.written = true;
            if unwritten && job.state == crate::job::JobState::Scheduled {
                continue;
            }
            let tenant = self.tenants[self.lanes[job.lane].tenant as usize].row.id;
            changes.put.push(Row::Job(std::sync::Arc::new(job.row(tenant))));
        }
        changes.delete.extend(
            std::mem::take(&mut self.dirty.jobs.deleted)
                .into_iter()
                .map(RowKey::Job),
        );
    }

    fn take_sessions(&mut self, changes: &mut Changes) {
        for (number, id) in self.dirty.sessions.take() {
            if self
                .sessions
                .get(number)
                .is_none_or(|session| session.row.spec.session != id || !session.dirty)
            {
                continue;
            }
            let session = &mut self.sessions[number];
            session.dirty = false;
            session.written = true;
            changes.put.push(Row::Session(session.row.clone()));
        }
        changes.delete.extend(
            std::mem::take(&mut self.dirty.sessions.deleted)
                .into_iter()
                .map(RowKey::Session),
        );
    }

    fn take_queues(&mut self, changes: &mut Changes) {
        for (number, name) in std::mem::take(&mut self.dirty.queues) {
            let tenant = &self.tenants[number as usize];
            let queue = tenant
                .queues
                .get(&name)
                .map(|queue| &self.queues[*queue])
                .filter(|queue| queue.kept());
            if let Some(queue) = queue {
                if self.has(Defect::PauseNotWritten) {
                    continue;
                }
                changes.put.push(Row::Queue(queue.row(tenant.row.id)));
                self.dirty.queues_written.insert((number, name));
            } else if self.dirty.queues_written.remove(&(number, name.clone())) {
                changes.delete.push(RowKey::Queue(tenant.row.id, name));
            }
        }
    }
}

//! What changed since rows were last taken: marks, not copies, so a job that came and went in between costs nothing.

use std::collections::BTreeSet;

use crate::core::Core;
use crate::defect::Defect;
use crate::fleet::{Fleet, FleetId};
use crate::gate::GateKey;
use crate::ids::{JobId, LogIndex, Name, SessionId, TenantId};
use crate::limit::{LimitLevel, LimitSelector};
use crate::row::{Changes, GateRow, Row, RowKey};

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

    /// The last `max` marks; some may be stale. The count is left to the caller, who sees which.
    fn take_last(&mut self, max: usize) -> Vec<(u32, I)> {
        self.list.split_off(self.list.len().saturating_sub(max))
    }
}

/// Marks of rows that are made and deleted seldom.
#[derive(Debug)]
pub(crate) struct RareMarks<K> {
    changed: BTreeSet<K>,
    /// Rows that have been taken and not deleted.
    written: BTreeSet<K>,
}

impl<K> Default for RareMarks<K> {
    fn default() -> Self {
        Self {
            changed: BTreeSet::new(),
            written: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone> RareMarks<K> {
    /// The row changed; `there`: it is not gone.
    pub(crate) fn mark(&mut self, key: K, there: bool) {
        if there || self.written.contains(&key) {
            self.changed.insert(key);
        } else {
            // It came and went since rows were taken.
            self.changed.remove(&key);
        }
    }

    /// A row that was restored.
    pub(crate) fn restored(&mut self, key: K) {
        self.written.insert(key);
    }

    fn len(&self) -> usize {
        self.changed.len()
    }

    /// What changed since the last call: the row of each key, or `None` if it is to be deleted.
    fn take<R>(&mut self, row: impl Fn(&K) -> Option<R>) -> Vec<(K, Option<R>)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let rows = changed.map(|key| {
            let row = row(&key);
            if row.is_some() {
                self.written.insert(key.clone());
            } else {
                self.written.remove(&key);
            }
            (key, row)
        });
        rows.collect()
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
    /// By tenant and name.
    pub(crate) queues: RareMarks<(u32, Name)>,
    pub(crate) limits: RareMarks<LimitSelector>,
    /// By tenant, queue and key.
    pub(crate) orders: RareMarks<(u32, Name, Name)>,
    /// Numbers of gates that were marked; some may be gone, or their numbers reused.
    gates: Vec<u32>,
    /// Gates marked and still there.
    pub(crate) gates_count: usize,
    /// Rows of gates that are gone.
    pub(crate) gates_deleted: BTreeSet<RowKey>,
    fleets: Vec<FleetId>,
    /// Fleets marked and still there.
    pub(crate) fleets_count: usize,
    fleets_deleted: Vec<FleetId>,
    pub(crate) ended_deleted: Vec<LogIndex>,
}

impl Dirty {
    /// A gate is gone.
    pub(crate) fn drop_gate(&mut self, dirty: bool, written: bool, row: RowKey) {
        self.gates_count -= usize::from(dirty);
        if written {
            self.gates_deleted.insert(row);
        }
    }

    /// A fleet is gone.
    pub(crate) fn forget_fleet(&mut self, id: FleetId, fleet: &Fleet) {
        self.fleets_count -= usize::from(fleet.dirty);
        if fleet.written {
            self.fleets_deleted.push(id);
        }
    }
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

    /// Marks a gate's row to be written, or deleted if the gate is as new; a gate that neither has nor needs one is not
    /// marked.
    pub(crate) fn note_gate(&mut self, number: u32) {
        let gate = &mut self.gates[number];
        let wanted = gate.kept() || gate.written;
        if wanted && !gate.dirty {
            self.dirty.gates.push(number);
            self.dirty.gates_count += 1;
        } else if !wanted && gate.dirty {
            self.dirty.gates_count -= 1;
        }
        gate.dirty = wanted;
    }

    /// After a restore: the gates that are not as new have rows, and none is to be written.
    pub(crate) fn gates_are_written(&mut self) {
        let kept: Vec<u32> = self
            .gates
            .iter()
            .filter(|(_, gate)| gate.kept())
            .map(|(gate, _)| gate)
            .collect();
        for number in kept {
            let gate = &mut self.gates[number];
            gate.dirty = false;
            gate.written = true;
        }
        self.dirty.gates.clear();
        self.dirty.gates_count = 0;
    }

    pub(crate) fn gate_row_key(&self, key: &GateKey) -> RowKey {
        RowKey::Gate(key.level, self.gate_tenant(key), key.name.clone())
    }

    /// The owner of a gate; 0 for the cluster.
    pub(crate) fn gate_tenant(&self, key: &GateKey) -> TenantId {
        match key.level {
            LimitLevel::Cluster => TenantId(0),
            _ => self.tenants[key.tenant as usize].row.id,
        }
    }

    /// A gate as persisted, if it is not as new.
    pub(crate) fn gate_row(&self, number: u32) -> Option<GateRow> {
        let gate = self.gates.get(number).filter(|gate| gate.kept())?;
        Some(GateRow {
            level: gate.key.level,
            tenant: self.gate_tenant(&gate.key),
            name: gate.key.name.clone(),
            arrival: gate.arrival,
            shut_until: gate.shut_until,
            throttled_until: gate.throttled_until,
            paused: gate.paused.clone().filter(|_| !self.has(Defect::KindPauseNotWritten)),
        })
    }

    pub(crate) fn mark_fleet(&mut self, id: FleetId) {
        if let Some(fleet) = self.fleets.get_mut(&id)
            && !std::mem::replace(&mut fleet.dirty, true)
        {
            self.dirty.fleets.push(id);
            self.dirty.fleets_count += 1;
        }
    }

    /// An ordering key is held, or not any more.
    pub(crate) fn mark_order(&mut self, number: u32) {
        let order = &self.orders[number];
        let queue = &self.queues[order.queue];
        let key = (queue.tenant, queue.name.clone(), order.key.clone());
        self.dirty.orders.mark(key, order.held.is_some());
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
        if self.dirty.gates.len() > 2 * self.dirty.gates_count + 4096 {
            let gates = &self.gates;
            self.dirty
                .gates
                .retain(|number| gates.get(*number).is_some_and(|gate| gate.dirty));
            self.dirty.gates.sort_unstable();
            self.dirty.gates.dedup();
        }
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
            + dirty.limits.len()
            + dirty.orders.len()
            + dirty.gates_count
            + dirty.gates_deleted.len()
            + dirty.fleets_count
            + dirty.fleets_deleted.len()
            + dirty.ended_deleted.len()
            + self.ended.fresh()
            + self.cluster.len()
            + self.requests.len()
    }

    /// Takes rows of up to `max` changed jobs ahead of `take_changes`, while more jobs than that have changed; then `None`. So the
    /// one who takes them need not hold the state for the time of all. They are as of now: a job that changes again is taken again,
    /// and what `take_changes` returns overrides them, deletions too. Together they are the state as of its call, as memory is
    /// copied ahead of a moving virtual machine (Clark et al., Live migration of virtual machines, NSDI 2005).
    pub fn take_some(&mut self, max: usize) -> Option<Vec<Row>> {
        if self.dirty.jobs.count <= max {
            return None;
        }
        let mut rows = Vec::with_capacity(max);
        for (number, id) in self.dirty.jobs.take_last(max) {
            if self.job_marked(number, id) {
                self.dirty.jobs.count -= 1;
                rows.extend(self.take_job(number));
            }
        }
        Some(rows)
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
            changes.put.push(Row::Tenant(tenant.row()));
        }
        for (number, kind) in std::mem::take(&mut self.dirty.costs) {
            let tenant = &mut self.tenants[number as usize];
            tenant.costs[kind as usize].dirty = false;
            changes.put.extend(tenant.cost_row(kind).map(Row::KindCost));
        }
        self.take_rare(&mut changes);
        self.take_gates(&mut changes);
        self.take_fleets(&mut changes);
        changes.put.extend(self.ended.take_fresh().into_iter().map(Row::Ended));
        changes.delete.extend(
            std::mem::take(&mut self.dirty.ended_deleted)
                .into_iter()
                .map(RowKey::Ended),
        );
        self.cluster.take_changes(&mut changes);
        self.requests.take_changes(&mut changes);
        changes
    }

    fn take_jobs(&mut self, changes: &mut Changes) {
        for (number, id) in self.dirty.jobs.take() {
            if self.job_marked(number, id) {
                changes.put.extend(self.take_job(number));
            }
        }
        changes.delete.extend(
            std::mem::take(&mut self.dirty.jobs.deleted)
                .into_iter()
                .map(RowKey::Job),
        );
    }

    /// The mark is of a job that is there, and whose changes were not taken yet.
    fn job_marked(&self, number: u32, id: JobId) -> bool {
        self.jobs.get(number).is_some_and(|job| job.spec.id == id && job.dirty)
    }

    fn take_job(&mut self, number: u32) -> Option<Row> {
        let unwritten = self.has(Defect::DelayedJobNotWritten);
        let job = &mut self.jobs[number];
        job.dirty = false;
        job.written = true;
        if unwritten && job.state == crate::job::JobState::Scheduled {
            return None;
        }
        let tenant = self.tenants[self.lanes[job.lane].tenant as usize].row.id;
        Some(Row::Job(std::sync::Arc::new(job.row(tenant))))
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

    fn take_rare(&mut self, changes: &mut Changes) {
        let mut queues = std::mem::take(&mut self.dirty.queues);
        for ((tenant, name), row) in queues.take(|(tenant, name)| self.queue_row(*tenant, name)) {
            let owner = self.tenants[tenant as usize].row.id;
            put_or_delete(changes, row.map(Row::Queue), || RowKey::Queue(owner, name));
        }
        self.dirty.queues = queues;
        let mut limits = std::mem::take(&mut self.dirty.limits);
        for (selector, row) in limits.take(|selector| self.book.get(selector).cloned()) {
            put_or_delete(changes, row.map(Row::Limit), || RowKey::Limit(selector));
        }
        self.dirty.limits = limits;
        let mut orders = std::mem::take(&mut self.dirty.orders);
        for ((tenant, queue, key), row) in orders.take(|(tenant, queue, key)| {
            let number = self.tenants[*tenant as usize].queues.get(queue)?;
            self.order_row(*self.order_of.get(&(*number, key.clone()))?)
        }) {
            let owner = self.tenants[tenant as usize].row.id;
            put_or_delete(changes, row.map(Row::Order), || RowKey::Order(owner, queue, key));
        }
        self.dirty.orders = orders;
    }

    fn queue_row(&self, tenant: u32, name: &Name) -> Option<crate::row::QueueRow> {
        let tenant = &self.tenants[tenant as usize];
        let queue = &self.queues[*tenant.queues.get(name)?];
        (queue.has_row() && !self.has(Defect::PauseNotWritten)).then(|| queue.row(tenant.row.id))
    }

    fn take_gates(&mut self, changes: &mut Changes) {
        self.dirty.gates_count = 0;
        for number in std::mem::take(&mut self.dirty.gates) {
            if self.gates.get(number).is_none_or(|gate| !gate.dirty) {
                continue;
            }
            let row = self.gate_row(number);
            let gate = &mut self.gates[number];
            gate.dirty = false;
            gate.written = row.is_some();
            let key = gate.key.clone();
            put_or_delete(changes, row.map(Row::Gate), || self.gate_row_key(&key));
        }
        changes.delete.extend(std::mem::take(&mut self.dirty.gates_deleted));
    }

    fn take_fleets(&mut self, changes: &mut Changes) {
        self.dirty.fleets_count = 0;
        for id in std::mem::take(&mut self.dirty.fleets) {
            if let Some(fleet) = self.fleets.get_mut(&id)
                && std::mem::take(&mut fleet.dirty)
            {
                fleet.written = true;
                changes.put.push(Row::Fleet(fleet.row.clone()));
            }
        }
        let gone = std::mem::take(&mut self.dirty.fleets_deleted);
        changes.delete.extend(gone.into_iter().map(RowKey::Fleet));
    }
}

fn put_or_delete(changes: &mut Changes, row: Option<Row>, key: impl FnOnce() -> RowKey) {
    match row {
        Some(row) => changes.put.push(row),
        None => changes.delete.push(key()),
    }
}

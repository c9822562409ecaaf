//! The life of a job in the indexes: entering and leaving states, ending.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::{Core, ENDED};
use crate::defect::Defect;
use crate::gate::CLUSTER;
use crate::ids::{JobId, LeaseId, Millis};
use crate::job::{JobError, JobState};
use crate::live::Job;
use crate::order::{NO_ORDER, place};
use crate::reply::Event;
use crate::row::EndedJob;

impl Core {
    /// A live job's number.
    pub(crate) fn live_number(&self, id: JobId) -> Option<u32> {
        self.ids.get(&id).copied().filter(|number| number & ENDED == 0)
    }

    /// A lately ended job.
    pub(crate) fn lately_ended(&self, id: JobId) -> Option<&EndedJob> {
        let number = self.ids.get(&id).copied().filter(|number| number & ENDED != 0)?;
        self.ended.get(number & !ENDED)
    }

    /// Puts a new or restored job into every index. Its lane is taken from its description.
    pub(crate) fn place_job(&mut self, tenant: u32, job: Job) -> u32 {
        let lane = job.lane;
        let id = job.spec.id;
        if let Some(key) = &job.spec.idempotency_key {
            self.keys.insert((tenant, key.clone()), id);
        }
        let order = job.order;
        let in_line = (order != NO_ORDER).then(|| place(&job, 0));
        let number = self.jobs.insert(job);
        if let Some((_, sequence, _)) = in_line {
            self.orders[order].line.insert((0, sequence, number));
        }
        self.ids.insert(id, number);
        let bytes = self.jobs[number].spec.bytes();
        self.job_bytes += self.jobs[number].bytes();
        let owner = &mut self.tenants[tenant as usize];
        owner.jobs.insert(id, number);
        owner.bytes += bytes;
        self.lanes[lane].jobs += 1;
        self.index(number);
        number
    }

    /// Counts the job under its state and sets what waits for it.
    fn index(&mut self, number: u32) {
        let job = &self.jobs[number];
        let (state, lane) = (job.state, job.lane);
        if let Some(timer) = job.timer(number) {
            self.timers.insert(timer);
        }
        if state == JobState::Available {
            self.lanes[lane].insert(job.spec.priority, job.place(number));
        }
        self.count(lane, state, 1);
    }

    fn count(&mut self, lane: u32, state: JobState, change: i64) {
        let (tenant, queue) = (self.lanes[lane].tenant, self.lanes[lane].queue);
        if self.has(Defect::QueueMiscounted) && state == JobState::Retrying && change < 0 {
            *self.queues[queue].live.of(state) += 1;
        }
        for counts in [
            &mut self.live,
            &mut self.tenants[tenant as usize].live,
            &mut self.queues[queue].live,
        ] {
            let count = counts.of(state);
            *count = count.saturating_add_signed(change);
        }
        match state {
            JobState::Running => {
                let slots = i64::from(self.lanes[lane].slots);
                self.change_running_slots(tenant, change * slots);
                for (gate, _) in self.lanes[lane].gates() {
                    let running = &mut self.gates[gate].running;
                    *running = running.saturating_add_signed(change as i32);
                }
            }
            JobState::Available => {
                for (gate, _) in self.lanes[lane].gates() {
                    let waiting = &mut self.gates[gate].waiting;
                    *waiting = waiting.saturating_add_signed(change);
                }
            }
            _ => {}
        }
    }

    /// How the gates that hold up more than one lane stand.
    fn wide_gates(&self, tenant: u32) -> (bool, bool) {
        if self.limited == 0 {
            return (false, false);
        }
        let tenant = self.tenants[tenant as usize].gate;
        (self.is_closed(CLUSTER), self.is_closed(tenant))
    }

    /// After a job of the lane came or went: its gates may have opened or closed, its head may be another.
    fn follow(&mut self, lane: u32, (cluster, tenant): (bool, bool)) {
        let number = self.lanes[lane].tenant;
        if self.limited > 0 {
            self.follow_gate(CLUSTER, cluster);
            self.follow_gate(self.tenants[number as usize].gate, tenant);
        }
        self.refresh_lane(lane);
        self.refill_rooms_of(lane);
    }

    /// Takes the job out of the indexes of its state. The lane is refreshed by the caller if it was available.
    fn unindex(&mut self, number: u32) {
        let job = &self.jobs[number];
        let (state, lane) = (job.state, job.lane);
        if let Some(timer) = job.timer(number) {
            self.timers.remove(&timer);
        }
        if state == JobState::Available {
            let place = job.place(number);
            self.lanes[lane].remove(job.spec.priority, place);
        }
        self.count(lane, state, -1);
    }

    /// Moves a live job to another live state; `change` sets the fields that go with it.
    pub(crate) fn move_job(&mut self, number: u32, state: JobState, change: impl FnOnce(&mut Job)) {
        let lane = self.jobs[number].lane;
        let tenant = self.lanes[lane].tenant;
        let gates = self.wide_gates(tenant);
        self.unindex(number);
        let job = &mut self.jobs[number];
        job.state = state;
        change(job);
        let (id, attempts) = (job.spec.id, job.attempts);
        self.effects.job(
            id,
            state,
            attempts,
            job.available_at ^ job.run.as_ref().map_or(0, |run| run.digest()),
        );
        self.index(number);
        self.follow(lane, gates);
        self.mark_job(number);
        let tenant = self.tenants[tenant as usize].row.id;
        self.entry.events.push(Event::JobChanged {
            tenant,
            job: id,
            state,
            attempts,
        });
    }

    /// Takes the attempt in progress off the job and off its session, and charges what it used.
    /// The job is still counted as running until it moves or ends.
    pub(crate) fn stop_attempt(&mut self, number: u32, learn: bool) -> Option<LeaseId> {
        if let Some(timer) = self.jobs[number].timer(number)
            && !self.has(Defect::StaleTimer)
        {
            self.timers.remove(&timer);
        }
        let job = &mut self.jobs[number];
        let run = job.run.take()?;
        let used: Millis = self.meta.now.saturating_sub(job.started_at);
        let lane = &self.lanes[job.lane];
        let (number, tenant, slots) = (job.lane, lane.tenant, lane.slots);
        let class = self.sessions[run.session].class;
        let fleet = self.classes[class].fleet;
        let session = &mut self.sessions[run.session];
        session.held -= u64::from(slots);
        let leases = &mut session.leases;
        leases.swap_remove(run.held as usize);
        if let Some(moved) = leases.get(run.held as usize).copied()
            && let Some(other) = &mut self.jobs[moved].run
        {
            other.held = run.held;
        }
        // If the session gathers slots, it may not come to have them.
        self.heat(class);
        let charge = (run.charged, run.guaranteed);
        self.settle(tenant, fleet, number, charge, used, learn);
        Some(run.lease)
    }

    /// Ends a job: out of every index, into the memory of ended ones, and off to history.
    pub(crate) fn end_job(&mut self, number: u32, state: JobState, result: Bytes, lease: Option<LeaseId>) {
        let lane = self.jobs[number].lane;
        let tenant_number = self.lanes[lane].tenant;
        let gates = self.wide_gates(tenant_number);
        self.unindex(number);
        let Some(mut job) = self.jobs.remove(number) else {
            return;
        };
        let order = job.order;
        if order != NO_ORDER {
            self.leave_order(&job, number, state);
        }
        job.state = state;
        job.changed_index = self.entry.index;
        let id = job.spec.id;
        self.dirty.jobs.gone(id, job.dirty, job.written);
        let uncounted = self.has(Defect::TotalNotCounted);
        let tenant = &mut self.tenants[tenant_number as usize];
        tenant.jobs.remove(&id);
        tenant.bytes -= job.spec.bytes();
        self.job_bytes -= job.bytes();
        let totals = &mut tenant.row.totals;
        match state {
            JobState::Succeeded => totals.succeeded += 1,
            JobState::Dead => totals.dead += 1,
            JobState::Cancelled => totals.cancelled += u64::from(!uncounted),
            _ => totals.expired += 1,
        }
        let mut row = job.row(tenant.row.id);
        row.ended_at = self.meta.now;
        if lease.is_some() {
            row.last_report = lease;
        }
        self.effects
            .job(id, state, job.attempts, xxhash_rust::xxh3::xxh3_64(&result));
        row.result = result;
        let remembered = EndedJob {
            job: id,
            tenant: row.tenant,
            state,
            fingerprint: job.fingerprint,
            idempotency_key: job.spec.idempotency_key.clone(),
            lease: row.last_report,
        };
        let ended = self.ended.push(self.entry.index, self.meta.now, remembered);
        self.ids.insert(id, ended | ENDED);
        self.entry.ended += 1;
        self.follow(lane, gates);
        self.mark_tenant(tenant_number);
        if state != JobState::Expired || !self.has(Defect::EndNotTold) {
            self.entry.events.push(Event::JobEnded(Arc::new(row)));
        }
        if order != NO_ORDER {
            self.promote(order);
            self.drop_order_if_idle(order);
        }
        self.release_lane(lane);
    }

    /// Keeps the last failure with the job.
    pub(crate) fn set_error(&mut self, number: u32, error: JobError) {
        let job = &mut self.jobs[number];
        self.job_bytes -= job.bytes();
        job.rare().error = Some(error);
        self.job_bytes += job.bytes();
    }
}

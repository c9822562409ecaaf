//! Ordering keys: jobs of one key in a queue, one at a time, in the order in which they were accepted.
//!
//! Only the first job of a key may be available or running; those behind it that are due are `Blocked`. When it ends, the
//! next one goes on in the same log entry. If it dies under the policy `Strict`, the key is *held*: nothing goes on until
//! the dead job is redriven, which then takes its place, or until an operator releases the key.

use crate::core::Core;
use crate::defect::Defect;
use crate::fifo::{Fifo, Place};
use crate::ids::{JobId, Name};
use crate::job::{JobState, OrderingPolicy};
use crate::live::Job;
use crate::reply::Event;
use crate::row::OrderRow;

/// Number of the ordering key of a job that has none.
pub(crate) const NO_ORDER: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) queue: u32,
    pub(crate) key: Name,
    /// Live jobs by sequence.
    pub(crate) line: Fifo,
    /// The dead job that holds it, and its place.
    pub(crate) held: Option<(JobId, u64)>,
}

/// Place in an order.
pub(crate) fn place(job: &Job, number: u32) -> Place {
    (0, job.sequence, number)
}

impl Core {
    /// Number of a key of this queue; made if it is not there.
    pub(crate) fn order_number(&mut self, queue: u32, key: &Name) -> u32 {
        if let Some(number) = self.order_of.get(&(queue, key.clone())) {
            return *number;
        }
        let number = self.orders.insert(Order {
            queue,
            key: key.clone(),
            line: Fifo::default(),
            held: None,
        });
        self.order_of.insert((queue, key.clone()), number);
        number
    }

    /// The state of a job that is due: it may start, or not yet.
    pub(crate) fn due_state(&self, number: u32) -> JobState {
        let order = self.jobs[number].order;
        if order == NO_ORDER || self.has(Defect::OrderOvertaken) {
            return JobState::Available;
        }
        let order = &self.orders[order];
        let first = order.line.first().is_some_and(|(_, _, first)| first == number);
        if first && order.held.is_none() {
            JobState::Available
        } else {
            JobState::Blocked
        }
    }

    /// The next job of a key goes on, if it is due and nothing holds it.
    pub(crate) fn promote(&mut self, order: u32) {
        if let Some((_, _, first)) = self.orders[order].line.first()
            && self.jobs[first].state == JobState::Blocked
            && self.due_state(first) == JobState::Available
        {
            self.move_job(first, JobState::Available, |_| {});
        }
    }

    /// Takes an ending job out of its line. The caller promotes the next one.
    pub(crate) fn leave_order(&mut self, job: &Job, number: u32, state: JobState) {
        let forget = self.has(Defect::HoldForgotten);
        let order = &mut self.orders[job.order];
        order.line.remove(place(job, number));
        let strict = job
            .spec
            .ordering
            .as_ref()
            .is_some_and(|ordering| ordering.policy == OrderingPolicy::Strict);
        if state == JobState::Dead && strict && !forget {
            order.held = Some((job.spec.id, job.sequence));
            let queue = &mut self.queues[order.queue];
            queue.held_orders.insert(order.key.clone());
            self.entry.events.push(Event::OrderHeld {
                tenant: self.tenants[queue.tenant as usize].row.id,
                queue: queue.name.clone(),
                key: order.key.clone(),
                job: job.spec.id,
            });
            self.mark_order(job.order);
        }
    }

    /// Takes away what holds a key; returns the place of the dead job.
    pub(crate) fn free_order(&mut self, number: u32) -> Option<u64> {
        let order = &mut self.orders[number];
        let (job, sequence) = order.held.take()?;
        let queue = &mut self.queues[order.queue];
        queue.held_orders.remove(&order.key);
        let tenant = self.tenants[queue.tenant as usize].row.id;
        self.entry.events.push(Event::OrderReleased { tenant, job });
        self.mark_order(number);
        Some(sequence)
    }

    /// Frees a key that nothing waits for and nothing holds.
    pub(crate) fn drop_order_if_idle(&mut self, number: u32) {
        let order = &self.orders[number];
        if order.line.len() == 0 && order.held.is_none() {
            let queue = order.queue;
            if let Some(order) = self.orders.remove(number) {
                self.order_of.remove(&(queue, order.key));
            }
        }
    }

    /// As persisted, if it is held.
    pub(crate) fn order_row(&self, number: u32) -> Option<OrderRow> {
        let order = self.orders.get(number)?;
        let (held_by, sequence) = order.held?;
        let queue = &self.queues[order.queue];
        Some(OrderRow {
            tenant: self.tenants[queue.tenant as usize].row.id,
            queue: queue.name.clone(),
            key: order.key.clone(),
            held_by,
            sequence,
        })
    }
}

//! Ordering keys.

use std::collections::{BTreeMap, BTreeSet};

use super::{holds, same};
use crate::core::Core;
use crate::ids::Name;
use crate::job::JobState;
use crate::order::NO_ORDER;

impl Core {
    pub(super) fn check_orders(&self) -> Result<(), String> {
        let mut lines: BTreeMap<u32, BTreeMap<u64, u32>> = BTreeMap::new();
        for (number, job) in self.jobs.iter().filter(|(_, job)| job.order != NO_ORDER) {
            let line = lines.entry(job.order).or_default();
            holds(line.insert(job.sequence, number).is_none(), || {
                format!("two jobs have the place {} in an order", job.sequence)
            })?;
        }
        for (_, job) in self.jobs.iter().filter(|(_, job)| job.order == NO_ORDER) {
            holds(job.state != JobState::Blocked, || {
                format!("job {} is blocked by nothing", job.spec.id)
            })?;
        }
        same("orders by key", self.order_of.len(), self.orders.len())?;
        let mut held: BTreeMap<u32, BTreeSet<Name>> = BTreeMap::new();
        for (number, order) in self.orders.iter() {
            let key = (order.queue, order.key.clone());
            same("an order by key", self.order_of.get(&key), Some(&number))?;
            let line = lines.remove(&number).unwrap_or_default();
            let counted: Vec<u32> = line.values().copied().collect();
            let kept: Vec<u32> = order.line.iter().map(|(_, _, job)| job).collect();
            let mut sorted = kept.clone();
            sorted.sort_unstable_by_key(|job| self.jobs[*job].sequence);
            same("jobs of an ordering key", sorted, counted)?;
            holds(!line.is_empty() || order.held.is_some(), || {
                format!("ordering key {:?} has nothing", order.key)
            })?;
            for (place, job) in line.values().enumerate() {
                let job = &self.jobs[*job];
                let (id, state) = (job.spec.id, job.state);
                let alike = job.spec.queue == self.queues[order.queue].name
                    && job.spec.ordering.as_ref().is_some_and(|own| own.key == order.key);
                holds(alike, || format!("job {id} is in another's order"))?;
                let may_go = place == 0 && order.held.is_none();
                let fine = match state {
                    JobState::Blocked => !may_go,
                    JobState::Available | JobState::Running | JobState::Retrying => may_go,
                    _ => true,
                };
                holds(fine, || {
                    format!("job {id} is {state:?} at place {place} of its ordering key")
                })?;
            }
            if let Some((_, sequence)) = order.held {
                held.entry(order.queue).or_default().insert(order.key.clone());
                holds(line.keys().all(|own| *own > sequence), || {
                    "a job stands before the dead one that holds its ordering key".to_owned()
                })?;
            }
        }
        holds(lines.is_empty(), || {
            "a job has an ordering key that is not there".to_owned()
        })?;
        for (number, queue) in self.queues.iter() {
            let counted = held.remove(&number).unwrap_or_default();
            same(
                &format!("held orders of queue {:?}", queue.name),
                &queue.held_orders,
                &counted,
            )?;
        }
        Ok(())
    }
}

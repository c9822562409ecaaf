//! Letting the jobs of an ordering key go on that wait for a dead one.

use crate::core::Core;
use crate::hash::{Effect, text};
use crate::ids::Name;
use crate::reply::{Refusal, Reply};

impl Core {
    pub(super) fn release_order(&mut self, tenant: Name, queue: Name, key: Name) -> Result<Reply, Refusal> {
        let tenant = self.tenant_number(&tenant)?;
        let queue = self.tenants[tenant as usize].queues.get(&queue).copied();
        let order = queue.and_then(|queue| self.order_of.get(&(queue, key)).copied());
        let (Some(queue), Some(order)) = (queue, order) else {
            return Ok(Reply::Done);
        };
        if let Some(sequence) = self.free_order(order) {
            let digest = text(&self.orders[order].key);
            self.effects.note(Effect::OrderReleased, digest, sequence);
            self.promote(order);
            self.drop_order_if_idle(order);
            self.release_queue(queue);
        }
        Ok(Reply::Done)
    }
}

//! What can be asked of ordering keys.

use crate::core::Core;
use crate::ids::{Name, TenantId};
use crate::order::Order;
use crate::query::OrderView;

impl Core {
    /// An ordering key of a queue that has live jobs or is held.
    pub fn order(&self, tenant: TenantId, queue: &str, key: &Name) -> Option<OrderView> {
        let queue = *self.tenant_by_id(tenant)?.queues.get(queue)?;
        let number = self.order_of.get(&(queue, key.clone()))?;
        Some(self.order_view(&self.orders[*number]))
    }

    /// Keys of a queue whose jobs wait for a dead one, in order; at most `limit`, after `after`.
    pub fn held_orders(&self, tenant: TenantId, queue: &str, after: &str, limit: usize) -> Vec<OrderView> {
        let queue = self.tenant_by_id(tenant).and_then(|tenant| tenant.queues.get(queue));
        let Some(queue) = queue.copied() else {
            return Vec::new();
        };
        let from = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let keys = self.queues[queue].held_orders.range::<str, _>(from);
        keys.filter_map(|key| self.order_of.get(&(queue, key.clone())))
            .map(|number| self.order_view(&self.orders[*number]))
            .take(limit)
            .collect()
    }

    fn order_view(&self, order: &Order) -> OrderView {
        OrderView {
            key: order.key.clone(),
            held_by: order.held.map(|(job, _)| job),
            first: order.line.first().map(|(_, _, job)| self.jobs[job].spec.id),
            jobs: order.line.len() as u64,
        }
    }
}

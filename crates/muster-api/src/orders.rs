//! Ordering keys whose jobs wait for a dead one: list, release.

use muster_core::Command;
use muster_proto::v1;

use crate::api::{Api, Caller};
use crate::errors::Error;
use crate::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use crate::{convert, validate};

impl Api {
    pub(crate) async fn list_held_orders(
        &self,
        caller: Caller,
        request: v1::ListHeldOrdersRequest,
    ) -> Result<v1::ListHeldOrdersResponse, Error> {
        let queue = validate::name("queue", &request.queue)?;
        let size = validate::number("page_size", request.page_size, 1, PAGE_SIZE_MAX, PAGE_SIZE_DEFAULT)? as usize;
        self.linearize(caller.deadline).await?;
        let tenant = self.tenant_id(&caller.tenant, caller.deadline).await?;
        let mut orders = self
            .raft()
            .read(|core| core.held_orders(tenant, &queue, &request.after, size + 1));
        let more = orders.len() > size;
        orders.truncate(size);
        Ok(v1::ListHeldOrdersResponse {
            orders: orders.iter().map(convert::held_order).collect(),
            more,
        })
    }

    pub(crate) async fn release_order(
        &self,
        caller: Caller,
        request: v1::ReleaseOrderRequest,
    ) -> Result<v1::ReleaseOrderResponse, Error> {
        let queue = validate::name("queue", &request.queue)?;
        let key = validate::ordering_key("ordering_key", &request.ordering_key)?;
        // The command itself is a success also when nothing is held, so that it may be repeated.
        self.linearize(caller.deadline).await?;
        let tenant = self.tenant_id(&caller.tenant, caller.deadline).await?;
        let order = self.raft().read(|core| core.order(tenant, &queue, &key));
        if order.is_none_or(|order| order.held_by.is_none()) {
            return Err(Error::OrderNotHeld { queue, key });
        }
        let tenant = caller.tenant.clone();
        self.done(Command::ReleaseOrder { tenant, queue, key }, caller).await?;
        Ok(v1::ReleaseOrderResponse {})
    }
}

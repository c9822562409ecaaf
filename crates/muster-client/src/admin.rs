//! Calls about queues, tenants and workers.

use muster_proto::v1;
use muster_proto::v1::queue_service_client::QueueServiceClient;
use muster_proto::v1::tenant_service_client::TenantServiceClient;
use muster_proto::v1::worker_service_client::WorkerServiceClient;
use serde::Serialize;

use crate::call::RequestId;
use crate::client::Client;
use crate::error::Result;
use crate::limits::RateLimit;
use crate::priority::PriorityOrder;
use crate::stale::{Answer, Consistency};
use crate::views::{QueueInfo, TenantInfo, WorkerInfo};

/// A tenant to be created. What is not set has the cluster's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTenant {
    /// `[A-Za-z0-9._-]{1,128}`.
    pub name: String,
    /// Share relative to others, 1–10,000; 0 means 100.
    pub weight: u32,
    /// Largest payload in bytes, up to 8 MiB; 0 means 1 MiB.
    pub payload_bytes_max: u32,
    /// Bounds on the jobs that it brings in.
    pub quota: Quota,
    /// How its jobs are ordered; `None` means aging by 30 s.
    pub priority_order: Option<PriorityOrder>,
    /// Slots that it has for sure while it has jobs for them, over all workers, up to 1,000,000; others use what it does not.
    pub guaranteed_slots: u32,
}

/// Bounds on the jobs that a tenant brings in. A job over one of them is refused (`QUOTA_EXCEEDED`); producers try again after
/// the time that the cluster names, until their deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quota {
    /// Live jobs, in whatever state; 0: not bounded.
    pub jobs_max: u64,
    /// Bytes of live jobs: payloads, metadata, idempotency and ordering keys; 0: not bounded.
    pub bytes_max: u64,
    /// Jobs accepted over time.
    pub enqueue_rate: Option<RateLimit>,
}

impl NewTenant {
    /// A tenant of this name with the defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// Changes to a tenant. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantChange {
    /// Share relative to others, 1–10,000.
    pub weight: Option<u32>,
    /// Largest payload in bytes.
    pub payload_bytes_max: Option<u32>,
    /// Bound on live jobs; 0: none any more.
    pub jobs_max: Option<u64>,
    /// Bound on the bytes of live jobs; 0: none any more.
    pub bytes_max: Option<u64>,
    /// Bound on jobs accepted over time; a `count` of 0: none any more.
    pub enqueue_rate: Option<RateLimit>,
    /// How its jobs are ordered.
    pub priority_order: Option<PriorityOrder>,
    /// Slots that it has for sure; 0: none any more.
    pub guaranteed_slots: Option<u32>,
}

impl Client {
    /// Queues of the tenant that have jobs or settings.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>> {
        Ok(self.read_queues(Consistency::Linearizable).await?.0)
    }

    pub(crate) async fn read_queues(&self, consistency: Consistency) -> Result<Answer<Vec<QueueInfo>>> {
        let message = v1::ListQueuesRequest {
            consistency: consistency.to_proto(),
        };
        let response = self
            .read(consistency, |channel, envelope| {
                let request = envelope.wrap(message);
                async move { QueueServiceClient::new(channel).list_queues(request).await }
            })
            .await?;
        let queues = response.queues.into_iter().map(QueueInfo::from).collect();
        Ok((queues, response.freshness))
    }

    /// No job of the queue starts any more; what runs goes on. `note` (at most 1 KiB) tells the next operator why.
    pub async fn pause_queue(&self, queue: &str, note: &str) -> Result<()> {
        let message = v1::PauseQueueRequest {
            queue: queue.to_owned(),
            note: note.to_owned(),
        };
        let id = RequestId::new();
        self.call(|channel, envelope| {
            let request = envelope.wrap_as(id, message.clone());
            async move { QueueServiceClient::new(channel).pause_queue(request).await }
        })
        .await
        .map(drop)
    }

    /// Ends a pause.
    pub async fn resume_queue(&self, queue: &str) -> Result<()> {
        let message = v1::ResumeQueueRequest {
            queue: queue.to_owned(),
        };
        let id = RequestId::new();
        self.call(|channel, envelope| {
            let request = envelope.wrap_as(id, message.clone());
            async move { QueueServiceClient::new(channel).resume_queue(request).await }
        })
        .await
        .map(drop)
    }

    /// Gives a queue a weight within the tenant, 1–10,000, or takes it away. Queues without weights together count as one of 100.
    pub async fn set_queue_weight(&self, queue: &str, weight: Option<u32>) -> Result<()> {
        let message = v1::SetQueueWeightRequest {
            queue: queue.to_owned(),
            weight: weight.unwrap_or_default(),
        };
        let id = RequestId::new();
        self.call(|channel, envelope| {
            let request = envelope.wrap_as(id, message.clone());
            async move { QueueServiceClient::new(channel).set_queue_weight(request).await }
        })
        .await
        .map(drop)
    }

    /// Creates a tenant. Refused with `ALREADY_EXISTS` when there is one of that name.
    pub async fn create_tenant(&self, tenant: NewTenant) -> Result<TenantInfo> {
        let message = v1::CreateTenantRequest {
            tenant: Some(v1::Tenant {
                name: tenant.name,
                weight: tenant.weight,
                payload_bytes_max: tenant.payload_bytes_max,
                quota: Some(v1::Quota {
                    jobs_max: tenant.quota.jobs_max,
                    bytes_max: tenant.quota.bytes_max,
                    enqueue_rate: tenant.quota.enqueue_rate.map(RateLimit::to_proto),
                }),
                priority_order: tenant.priority_order.map_or(0, PriorityOrder::to_proto),
                aging: tenant.priority_order.and_then(PriorityOrder::aging),
                guaranteed_slots: tenant.guaranteed_slots,
                ..v1::Tenant::default()
            }),
        };
        let id = RequestId::new();
        let response = self
            .call(|channel, envelope| {
                let request = envelope.wrap_as(id, message.clone());
                async move { TenantServiceClient::new(channel).create_tenant(request).await }
            })
            .await?;
        Ok(response.tenant.unwrap_or_default().into())
    }

    /// Changes the settings of a tenant.
    pub async fn update_tenant(&self, name: &str, change: TenantChange) -> Result<TenantInfo> {
        let message = v1::UpdateTenantRequest {
            name: name.to_owned(),
            weight: change.weight,
            payload_bytes_max: change.payload_bytes_max,
            jobs_max: change.jobs_max,
            bytes_max: change.bytes_max,
            enqueue_rate: change.enqueue_rate.map(RateLimit::to_proto),
            priority_order: change.priority_order.map(PriorityOrder::to_proto),
            aging: change.priority_order.and_then(PriorityOrder::aging),
            guaranteed_slots: change.guaranteed_slots,
        };
        let id = RequestId::new();
        let response = self
            .call(|channel, envelope| {
                let request = envelope.wrap_as(id, message.clone());
                async move { TenantServiceClient::new(channel).update_tenant(request).await }
            })
            .await?;
        Ok(response.tenant.unwrap_or_default().into())
    }

    /// One tenant with its settings and counts.
    pub async fn get_tenant(&self, name: &str) -> Result<TenantInfo> {
        Ok(self.read_tenant(name, Consistency::Linearizable).await?.0)
    }

    pub(crate) async fn read_tenant(&self, name: &str, consistency: Consistency) -> Result<Answer<TenantInfo>> {
        let message = v1::GetTenantRequest {
            name: name.to_owned(),
            consistency: consistency.to_proto(),
        };
        let response = self
            .read(consistency, |channel, envelope| {
                let request = envelope.wrap(message.clone());
                async move { TenantServiceClient::new(channel).get_tenant(request).await }
            })
            .await?;
        Ok((response.tenant.unwrap_or_default().into(), response.freshness))
    }

    /// All tenants with their settings and counts.
    pub async fn tenants(&self) -> Result<Vec<TenantInfo>> {
        Ok(self.read_tenants(Consistency::Linearizable).await?.0)
    }

    pub(crate) async fn read_tenants(&self, consistency: Consistency) -> Result<Answer<Vec<TenantInfo>>> {
        let message = v1::ListTenantsRequest {
            consistency: consistency.to_proto(),
        };
        let response = self
            .read(consistency, |channel, envelope| {
                let request = envelope.wrap(message);
                async move { TenantServiceClient::new(channel).list_tenants(request).await }
            })
            .await?;
        let tenants = response.tenants.into_iter().map(TenantInfo::from).collect();
        Ok((tenants, response.freshness))
    }

    /// Open worker sessions in the cluster.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>> {
        Ok(self.read_workers(Consistency::Linearizable).await?.0)
    }

    pub(crate) async fn read_workers(&self, consistency: Consistency) -> Result<Answer<Vec<WorkerInfo>>> {
        let message = v1::ListWorkersRequest {
            consistency: consistency.to_proto(),
        };
        let response = self
            .read(consistency, |channel, envelope| {
                let request = envelope.wrap(message);
                async move { WorkerServiceClient::new(channel).list_workers(request).await }
            })
            .await?;
        let workers = response.workers.into_iter().map(WorkerInfo::from).collect();
        Ok((workers, response.freshness))
    }
}

//! Calls about queues, tenants, workers and the cluster.

use muster_proto::v1;
use muster_proto::v1::cluster_service_client::ClusterServiceClient;
use muster_proto::v1::queue_service_client::QueueServiceClient;
use muster_proto::v1::tenant_service_client::TenantServiceClient;
use muster_proto::v1::worker_service_client::WorkerServiceClient;

use crate::client::Client;
use crate::error::Result;
use crate::views::{ClusterStatus, QueueInfo, TenantInfo, WorkerInfo};

/// A tenant to be created. What is not set has the cluster's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTenant {
    /// `[A-Za-z0-9._-]{1,128}`.
    pub name: String,
    /// Share relative to others, 1–10,000; 0 means 100.
    pub weight: u32,
    /// Largest payload in bytes, up to 8 MiB; 0 means 1 MiB.
    pub payload_bytes_max: u32,
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
}

impl Client {
    /// Queues of the tenant that have jobs or settings.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>> {
        let response = self
            .call(|channel, envelope| async move {
                QueueServiceClient::new(channel)
                    .list_queues(envelope.wrap(v1::ListQueuesRequest {}))
                    .await
            })
            .await?;
        Ok(response.queues.into_iter().map(QueueInfo::from).collect())
    }

    /// No job of the queue starts any more; what runs goes on. `note` (at most 1 KiB) tells the next operator why.
    pub async fn pause_queue(&self, queue: &str, note: &str) -> Result<()> {
        let message = v1::PauseQueueRequest {
            queue: queue.to_owned(),
            note: note.to_owned(),
        };
        self.call(|channel, envelope| {
            let request = envelope.wrap(message.clone());
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
        self.call(|channel, envelope| {
            let request = envelope.wrap(message.clone());
            async move { QueueServiceClient::new(channel).resume_queue(request).await }
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
                ..v1::Tenant::default()
            }),
        };
        let response = self
            .call(|channel, envelope| {
                let request = envelope.wrap(message.clone());
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
        };
        let response = self
            .call(|channel, envelope| {
                let request = envelope.wrap(message.clone());
                async move { TenantServiceClient::new(channel).update_tenant(request).await }
            })
            .await?;
        Ok(response.tenant.unwrap_or_default().into())
    }

    /// All tenants with their settings and counts.
    pub async fn tenants(&self) -> Result<Vec<TenantInfo>> {
        let response = self
            .call(|channel, envelope| async move {
                TenantServiceClient::new(channel)
                    .list_tenants(envelope.wrap(v1::ListTenantsRequest {}))
                    .await
            })
            .await?;
        Ok(response.tenants.into_iter().map(TenantInfo::from).collect())
    }

    /// Open worker sessions in the cluster.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>> {
        let response = self
            .call(|channel, envelope| async move {
                WorkerServiceClient::new(channel)
                    .list_workers(envelope.wrap(v1::ListWorkersRequest {}))
                    .await
            })
            .await?;
        Ok(response.workers.into_iter().map(WorkerInfo::from).collect())
    }

    /// Members, roles and positions, as the node that answers sees them: the leader when it can be reached.
    pub async fn cluster_status(&self) -> Result<ClusterStatus> {
        let response = self
            .call(|channel, envelope| async move {
                ClusterServiceClient::new(channel)
                    .get_status(envelope.wrap(v1::GetStatusRequest {}))
                    .await
            })
            .await?;
        Ok(response.into())
    }

    /// The status as the node at `address` alone sees it, for a look at each node in turn.
    pub async fn node_status(&self, address: &str) -> Result<ClusterStatus> {
        let client = Self::builder()
            .addresses([address])
            .tenant(self.tenant())
            .deadline(self.members().timing().attempt)
            .connect_lazy()?;
        client.cluster_status().await
    }
}

//! The services of `muster.v1` as lists of verbs, and how they are served.

use std::time::Duration;

use muster_backup::Backups;
use muster_core::JobId;
use muster_node::Node;
use muster_proto::v1;
use muster_proto::v1::backup_service_server::{BackupService, BackupServiceServer};
use muster_proto::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use muster_proto::v1::job_service_server::{JobService, JobServiceServer};
use muster_proto::v1::kind_service_server::{KindService, KindServiceServer};
use muster_proto::v1::limit_service_server::{LimitService, LimitServiceServer};
use muster_proto::v1::queue_service_server::{QueueService, QueueServiceServer};
use muster_proto::v1::tenant_service_server::{TenantService, TenantServiceServer};
use muster_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status, Streaming};

use crate::admit::Gate;
use crate::api::{Answers, Api};
use crate::arriving::Metered;
use crate::health;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::options::ApiOptions;

/// Flow-control window of one stream: a frame of jobs fits in.
const STREAM_WINDOW: u32 = 4 << 20;
/// Flow-control window of one connection.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// How often a silent connection is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// All services of `muster.v1`, health and reflection, ready to serve on a listener. Call within the runtime that
/// serves. Open streams end by themselves when the node shuts down. `backups`: unless the cluster makes none.
///
/// # Errors
/// When the descriptors built into the program cannot be read, which a test rules out.
pub fn router(
    node: Node,
    backups: Option<Backups>,
    options: ApiOptions,
) -> Result<Router, tonic_reflection::server::Error> {
    let stopping = CancellationToken::new();
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(health::follow(node.clone(), reporter, stopping.clone()));
    tokio::spawn(cancel_when_node_stops(node.clone(), stopping.clone()));
    let arriving = Gate::new(
        "bytes of calls that arrive",
        options.job_bytes_max,
        Duration::from_millis(100),
    );
    let api = Api::new(node, backups, options, stopping);
    // `limit!` since the generated servers share no trait.
    macro_rules! limit {
        ($server:ident) => {
            $server::new(api.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        };
    }
    Ok(Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(Metered::new(limit!(JobServiceServer), arriving))
        .add_service(limit!(WorkerServiceServer))
        .add_service(limit!(QueueServiceServer))
        .add_service(limit!(KindServiceServer))
        .add_service(limit!(TenantServiceServer))
        .add_service(limit!(ClusterServiceServer))
        .add_service(limit!(BackupServiceServer))
        .add_service(limit!(LimitServiceServer)))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(muster_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// A node ends all watches of jobs when it stops, also one of a job that there never is.
async fn cancel_when_node_stops(node: Node, stopping: CancellationToken) {
    let mut watch = node.watch_job(JobId(0));
    drop(node);
    while watch.next().await.is_some() {}
    stopping.cancel();
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl JobService for Api {
    async fn enqueue(&self, request: Request<v1::EnqueueRequest>) -> Reply<v1::EnqueueResponse> {
        let run = async |caller: crate::api::Caller, body| self.enqueue(caller.tenant, caller.deadline, body).await;
        self.call("enqueue", request, run).await
    }

    async fn enqueue_many(&self, request: Request<v1::EnqueueManyRequest>) -> Reply<v1::EnqueueManyResponse> {
        let run =
            async |caller: crate::api::Caller, body| self.enqueue_many(caller.tenant, caller.deadline, body).await;
        self.call("enqueue_many", request, run).await
    }

    type EnqueueStreamStream = Answers<v1::EnqueueStreamResponse>;

    async fn enqueue_stream(
        &self,
        request: Request<Streaming<v1::EnqueueStreamRequest>>,
    ) -> Reply<Self::EnqueueStreamStream> {
        Api::enqueue_stream(self, request)
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Reply<v1::GetJobResponse> {
        self.call("get_job", request, async |caller, body| {
            self.get_job(caller, body).await
        })
        .await
    }

    async fn explain_job(&self, request: Request<v1::ExplainJobRequest>) -> Reply<v1::ExplainJobResponse> {
        self.call("explain_job", request, async |caller, body| {
            self.explain_job(caller, body).await
        })
        .await
    }

    async fn list_unroutable(&self, request: Request<v1::ListUnroutableRequest>) -> Reply<v1::ListUnroutableResponse> {
        self.call("list_unroutable", request, async |caller, body| {
            self.list_unroutable(caller, body).await
        })
        .await
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Reply<v1::ListJobsResponse> {
        self.call("list_jobs", request, async |caller, body| {
            self.list_jobs(caller, body).await
        })
        .await
    }

    async fn cancel_job(&self, request: Request<v1::CancelJobRequest>) -> Reply<v1::CancelJobResponse> {
        self.call("cancel_job", request, async |caller, body| {
            self.cancel_job(caller, body).await
        })
        .await
    }

    async fn set_priority(&self, request: Request<v1::SetPriorityRequest>) -> Reply<v1::SetPriorityResponse> {
        self.call("set_priority", request, async |caller, body| {
            self.set_priority(caller, body).await
        })
        .await
    }

    async fn redrive_job(&self, request: Request<v1::RedriveJobRequest>) -> Reply<v1::RedriveJobResponse> {
        self.call("redrive_job", request, async |caller, body| {
            self.redrive_job(caller, body).await
        })
        .await
    }

    async fn wait_job(&self, request: Request<v1::WaitJobRequest>) -> Reply<v1::WaitJobResponse> {
        Api::wait_job(self, request).await
    }

    type WatchJobStream = Answers<v1::WatchJobResponse>;

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Reply<Self::WatchJobStream> {
        Api::watch_job(self, request).await
    }
}

#[tonic::async_trait]
impl WorkerService for Api {
    type WorkStream = Answers<v1::WorkResponse>;

    async fn work(&self, request: Request<Streaming<v1::WorkRequest>>) -> Reply<Self::WorkStream> {
        Api::work(self, request)
    }

    async fn list_workers(&self, request: Request<v1::ListWorkersRequest>) -> Reply<v1::ListWorkersResponse> {
        self.call("list_workers", request, async |caller, body| {
            self.list_workers(caller, body).await
        })
        .await
    }
}

#[tonic::async_trait]
impl KindService for Api {
    async fn list_kinds(&self, request: Request<v1::ListKindsRequest>) -> Reply<v1::ListKindsResponse> {
        self.call("list_kinds", request, async |caller, body| {
            self.list_kinds(caller, body).await
        })
        .await
    }

    async fn pause_kind(&self, request: Request<v1::PauseKindRequest>) -> Reply<v1::PauseKindResponse> {
        self.call("pause_kind", request, async |caller, body| {
            self.pause_kind(caller, body).await
        })
        .await
    }

    async fn resume_kind(&self, request: Request<v1::ResumeKindRequest>) -> Reply<v1::ResumeKindResponse> {
        self.call("resume_kind", request, async |caller, body| {
            self.resume_kind(caller, body).await
        })
        .await
    }
}

#[tonic::async_trait]
impl QueueService for Api {
    async fn list_queues(&self, request: Request<v1::ListQueuesRequest>) -> Reply<v1::ListQueuesResponse> {
        self.call("list_queues", request, async |caller, body| {
            self.list_queues(caller, body).await
        })
        .await
    }

    async fn pause_queue(&self, request: Request<v1::PauseQueueRequest>) -> Reply<v1::PauseQueueResponse> {
        self.call("pause_queue", request, async |caller, body| {
            self.pause_queue(caller, body).await
        })
        .await
    }

    async fn resume_queue(&self, request: Request<v1::ResumeQueueRequest>) -> Reply<v1::ResumeQueueResponse> {
        self.call("resume_queue", request, async |caller, body| {
            self.resume_queue(caller, body).await
        })
        .await
    }

    async fn set_queue_weight(&self, request: Request<v1::SetQueueWeightRequest>) -> Reply<v1::SetQueueWeightResponse> {
        self.call("set_queue_weight", request, async |caller, body| {
            self.set_queue_weight(caller, body).await
        })
        .await
    }

    async fn list_held_orders(&self, request: Request<v1::ListHeldOrdersRequest>) -> Reply<v1::ListHeldOrdersResponse> {
        self.call("list_held_orders", request, async |caller, body| {
            self.list_held_orders(caller, body).await
        })
        .await
    }

    async fn release_order(&self, request: Request<v1::ReleaseOrderRequest>) -> Reply<v1::ReleaseOrderResponse> {
        self.call("release_order", request, async |caller, body| {
            self.release_order(caller, body).await
        })
        .await
    }
}

#[tonic::async_trait]
impl LimitService for Api {
    async fn set_limit(&self, request: Request<v1::SetLimitRequest>) -> Reply<v1::SetLimitResponse> {
        self.call("set_limit", request, async |caller, body| {
            self.set_limit(caller, body).await
        })
        .await
    }

    async fn delete_limit(&self, request: Request<v1::DeleteLimitRequest>) -> Reply<v1::DeleteLimitResponse> {
        self.call("delete_limit", request, async |caller, body| {
            self.delete_limit(caller, body).await
        })
        .await
    }

    async fn list_limits(&self, request: Request<v1::ListLimitsRequest>) -> Reply<v1::ListLimitsResponse> {
        self.call("list_limits", request, async |caller, body| {
            self.list_limits(caller, body).await
        })
        .await
    }

    async fn explain_limit(&self, request: Request<v1::ExplainLimitRequest>) -> Reply<v1::ExplainLimitResponse> {
        self.call("explain_limit", request, async |caller, body| {
            self.explain_limit(caller, body).await
        })
        .await
    }

    async fn open_limit_key(&self, request: Request<v1::OpenLimitKeyRequest>) -> Reply<v1::OpenLimitKeyResponse> {
        self.call("open_limit_key", request, async |caller, body| {
            self.open_limit_key(caller, body).await
        })
        .await
    }
}

#[tonic::async_trait]
impl TenantService for Api {
    async fn create_tenant(&self, request: Request<v1::CreateTenantRequest>) -> Reply<v1::CreateTenantResponse> {
        self.call("create_tenant", request, async |caller, body| {
            self.create_tenant(caller, body).await
        })
        .await
    }

    async fn update_tenant(&self, request: Request<v1::UpdateTenantRequest>) -> Reply<v1::UpdateTenantResponse> {
        self.call("update_tenant", request, async |caller, body| {
            self.update_tenant(caller, body).await
        })
        .await
    }

    async fn get_tenant(&self, request: Request<v1::GetTenantRequest>) -> Reply<v1::GetTenantResponse> {
        self.call("get_tenant", request, async |caller, body| {
            self.get_tenant(caller, body).await
        })
        .await
    }

    async fn list_tenants(&self, request: Request<v1::ListTenantsRequest>) -> Reply<v1::ListTenantsResponse> {
        self.call("list_tenants", request, async |caller, body| {
            self.list_tenants(caller, body).await
        })
        .await
    }
}

#[tonic::async_trait]
impl ClusterService for Api {
    async fn get_status(&self, request: Request<v1::GetStatusRequest>) -> Reply<v1::GetStatusResponse> {
        self.call("get_status", request, async |_, _| Ok(Self::get_status(self)))
            .await
    }

    async fn get_leader(&self, request: Request<v1::GetLeaderRequest>) -> Reply<v1::GetLeaderResponse> {
        self.call("get_leader", request, async |_, _| Self::get_leader(self))
            .await
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Reply<v1::CreateJoinTokenResponse> {
        self.call("create_join_token", request, async |caller, body| {
            self.create_join_token(caller, body).await
        })
        .await
    }

    async fn list_join_tokens(&self, request: Request<v1::ListJoinTokensRequest>) -> Reply<v1::ListJoinTokensResponse> {
        self.call("list_join_tokens", request, async |caller, _| {
            self.list_join_tokens(caller).await
        })
        .await
    }

    async fn revoke_join_token(
        &self,
        request: Request<v1::RevokeJoinTokenRequest>,
    ) -> Reply<v1::RevokeJoinTokenResponse> {
        self.call("revoke_join_token", request, async |caller, body| {
            self.revoke_join_token(caller, body).await
        })
        .await
    }

    async fn remove_node(&self, request: Request<v1::RemoveNodeRequest>) -> Reply<v1::RemoveNodeResponse> {
        self.call("remove_node", request, async |caller, body| {
            self.remove_node(caller, body).await
        })
        .await
    }

    async fn promote_node(&self, request: Request<v1::PromoteNodeRequest>) -> Reply<v1::PromoteNodeResponse> {
        self.call("promote_node", request, async |caller, body| {
            self.promote_node(caller, body).await
        })
        .await
    }

    async fn demote_node(&self, request: Request<v1::DemoteNodeRequest>) -> Reply<v1::DemoteNodeResponse> {
        self.call("demote_node", request, async |caller, body| {
            self.demote_node(caller, body).await
        })
        .await
    }

    async fn set_node_address(&self, request: Request<v1::SetNodeAddressRequest>) -> Reply<v1::SetNodeAddressResponse> {
        self.call("set_node_address", request, async |caller, body| {
            self.set_node_address(caller, body).await
        })
        .await
    }

    async fn abort_change(&self, request: Request<v1::AbortChangeRequest>) -> Reply<v1::AbortChangeResponse> {
        self.call("abort_change", request, async |caller, body| {
            self.abort_change(caller, body).await
        })
        .await
    }

    async fn drain_node(&self, request: Request<v1::DrainNodeRequest>) -> Reply<v1::DrainNodeResponse> {
        self.call("drain_node", request, async |caller, body| {
            self.drain_node(caller, body).await
        })
        .await
    }

    async fn undrain_node(&self, request: Request<v1::UndrainNodeRequest>) -> Reply<v1::UndrainNodeResponse> {
        self.call("undrain_node", request, async |caller, body| {
            self.undrain_node(caller, body).await
        })
        .await
    }

    async fn transfer_leader(&self, request: Request<v1::TransferLeaderRequest>) -> Reply<v1::TransferLeaderResponse> {
        self.call("transfer_leader", request, async |caller, body| {
            self.transfer_leader(caller, body).await
        })
        .await
    }

    async fn get_upgrade(&self, request: Request<v1::GetUpgradeRequest>) -> Reply<v1::GetUpgradeResponse> {
        self.call("get_upgrade", request, async |_, _| Ok(Self::get_upgrade(self)))
            .await
    }

    async fn upgrade(&self, request: Request<v1::UpgradeRequest>) -> Reply<v1::UpgradeResponse> {
        self.call("upgrade", request, async |caller, body| {
            self.upgrade(caller, body).await
        })
        .await
    }
}

#[tonic::async_trait]
impl BackupService for Api {
    type CreateBackupStream = Answers<v1::CreateBackupResponse>;

    async fn create_backup(&self, request: Request<v1::CreateBackupRequest>) -> Reply<Self::CreateBackupStream> {
        Api::create_backup(self, request).await
    }

    async fn get_backup_status(
        &self,
        request: Request<v1::GetBackupStatusRequest>,
    ) -> Reply<v1::GetBackupStatusResponse> {
        self.call("get_backup_status", request, async |_, _| Ok(self.backup_status()))
            .await
    }
}

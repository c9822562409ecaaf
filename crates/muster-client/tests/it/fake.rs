//! A node that follows a script.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::Stream;
use muster_proto::v1;
use muster_proto::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use muster_proto::v1::job_service_server::{JobService, JobServiceServer};
use muster_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

/// What to do with a frame or a call.
#[derive(Clone)]
pub enum Act {
    Accept,
    /// Takes the jobs and breaks the stream instead of answering.
    AcceptAndBreak,
    /// Breaks the stream, having taken nothing.
    Break,
    /// Never answers.
    Silent,
    /// Answers every item like this.
    Refuse(Code, &'static str, Option<Duration>),
    /// Accepts once the test allows it.
    AcceptAfter(Arc<tokio::sync::Notify>),
}

type Script = Arc<dyn Fn(usize) -> Act + Send + Sync>;
type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the nodes of a cluster have in common.
#[derive(Clone, Default)]
pub struct Cluster {
    pub accepted: Arc<Mutex<HashSet<String>>>,
    pub leader: Arc<Mutex<String>>,
    pub members: Arc<Mutex<Vec<String>>>,
    /// Ids of administrative requests as they came.
    pub requests: Arc<Mutex<Vec<String>>>,
}

/// A worker's stream as the node sees it.
pub struct WorkerStream {
    pub hello: v1::WorkerHello,
    pub from_worker: mpsc::Receiver<v1::WorkerFrame>,
    to_worker: mpsc::Sender<Result<v1::WorkResponse, Status>>,
}

impl WorkerStream {
    pub async fn send(&self, frame: v1::NodeFrame) {
        let frame = Some(v1::work_response::Frame::Work(frame));
        self.to_worker.send(Ok(v1::WorkResponse { frame })).await.unwrap();
    }

    pub async fn job(&self, fence: u64, kind: &str, payload: &str) {
        self.send(v1::NodeFrame {
            jobs: vec![leased(fence, kind, payload)],
            ..v1::NodeFrame::default()
        })
        .await;
    }

    /// A job that takes so many slots.
    pub async fn wide_job(&self, fence: u64, kind: &str, payload: &str, slots: u32) {
        let job = v1::LeasedJob {
            slots,
            ..leased(fence, kind, payload)
        };
        self.send(v1::NodeFrame {
            jobs: vec![job],
            ..v1::NodeFrame::default()
        })
        .await;
    }

    pub async fn ack(&self, report: &v1::AttemptReport, result: v1::report_ack::Result) {
        let ack = v1::ReportAck {
            job_id: report.job_id.clone(),
            fence: report.fence,
            result: result.into(),
            state: 0,
        };
        self.send(v1::NodeFrame {
            acks: vec![ack],
            ..v1::NodeFrame::default()
        })
        .await;
    }

    pub async fn stop(&self, fence: u64, reason: v1::stop_attempt::Reason) {
        let stop = v1::StopAttempt {
            fence,
            reason: reason.into(),
            ..v1::StopAttempt::default()
        };
        self.send(v1::NodeFrame {
            stops: vec![stop],
            ..v1::NodeFrame::default()
        })
        .await;
    }

    pub async fn next(&mut self) -> v1::WorkerFrame {
        within(self.from_worker.recv())
            .await
            .expect("the worker's stream ended")
    }

    /// The next report, past frames without one.
    pub async fn report(&mut self) -> v1::AttemptReport {
        loop {
            if let Some(report) = self.next().await.reports.pop() {
                return report;
            }
        }
    }
}

pub fn leased(fence: u64, kind: &str, payload: &str) -> v1::LeasedJob {
    v1::LeasedJob {
        id: muster_client::JobId::new().to_string(),
        tenant: "default".into(),
        queue: "default".into(),
        kind: kind.into(),
        schema_version: 1,
        payload: Some(v1::Payload {
            data: payload.to_owned().into(),
            ..v1::Payload::default()
        }),
        fence,
        attempt: 1,
        max_attempts: 20,
        ..v1::LeasedJob::default()
    }
}

/// Nothing in these tests takes longer.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("took more than 10 s")
}

#[derive(Clone)]
struct Service {
    cluster: Cluster,
    script: Script,
    log: Arc<Mutex<Log>>,
    ttl: Duration,
    workers: mpsc::Sender<WorkerStream>,
}

/// What the node was sent.
#[derive(Default)]
pub struct Log {
    /// Ids, frame by frame.
    pub frames: Vec<Vec<String>>,
    pub calls: usize,
    pub tenants: HashSet<String>,
}

pub struct Fake {
    pub address: String,
    pub log: Arc<Mutex<Log>>,
    pub workers: mpsc::Receiver<WorkerStream>,
    _stop: oneshot::Sender<()>,
}

impl Fake {
    /// A node that does `script(n)` with the n-th frame or call.
    pub async fn start(cluster: &Cluster, script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        Self::start_with_ttl(cluster, Duration::from_secs(10), script).await
    }

    pub async fn start_with_ttl(
        cluster: &Cluster,
        ttl: Duration,
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        cluster.members.lock().unwrap().push(address.clone());
        let log = Arc::new(Mutex::new(Log::default()));
        let (workers, sessions) = mpsc::channel(16);
        let service = Service {
            cluster: cluster.clone(),
            script: Arc::new(script),
            log: Arc::clone(&log),
            ttl,
            workers,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tonic::transport::Server::builder()
            .add_service(JobServiceServer::new(service.clone()))
            .add_service(ClusterServiceServer::new(service.clone()))
            .add_service(WorkerServiceServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(async move {
            tokio::select! {
                result = server => result.unwrap(),
                _ = stopped => {}
            }
        });
        Self {
            address,
            log,
            workers: sessions,
            _stop: stop,
        }
    }

    pub fn frames(&self) -> Vec<Vec<String>> {
        self.log.lock().unwrap().frames.clone()
    }

    pub async fn worker(&mut self) -> WorkerStream {
        within(self.workers.recv()).await.expect("the node is gone")
    }
}

fn refusal(code: Code, reason: &str, retry_after: Option<Duration>) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, "muster", std::collections::HashMap::new());
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code, "scripted", details)
}

impl Service {
    fn accept(&self, frame: &v1::EnqueueStreamRequest) -> v1::EnqueueStreamResponse {
        let mut accepted = self.cluster.accepted.lock().unwrap();
        let results = frame.jobs.iter().map(|job| {
            let existed = !accepted.insert(job.id.clone());
            let enqueued = v1::Enqueued {
                id: job.id.clone(),
                state: v1::JobState::Available.into(),
                existed,
            };
            v1::EnqueueResult {
                result: Some(v1::enqueue_result::Result::Job(enqueued)),
            }
        });
        let results = results.collect();
        v1::EnqueueStreamResponse {
            sequence: frame.sequence,
            results,
            leader: self.cluster.leader.lock().unwrap().clone(),
        }
    }

    async fn call(&self) -> Result<(), Status> {
        let number = {
            let mut log = self.log.lock().unwrap();
            log.calls += 1;
            log.calls - 1
        };
        match (self.script)(number) {
            Act::Accept | Act::AcceptAndBreak => Ok(()),
            Act::Break => Err(Status::unknown("transport error")),
            Act::Silent => std::future::pending().await,
            Act::Refuse(code, reason, after) => Err(refusal(code, reason, after)),
            Act::AcceptAfter(notify) => {
                notify.notified().await;
                Ok(())
            }
        }
    }
}

#[tonic::async_trait]
impl JobService for Service {
    type EnqueueStreamStream = Frames<v1::EnqueueStreamResponse>;
    type WatchJobStream = Frames<v1::WatchJobResponse>;

    async fn enqueue_stream(
        &self,
        request: Request<Streaming<v1::EnqueueStreamRequest>>,
    ) -> Result<Response<Self::EnqueueStreamStream>, Status> {
        let tenant = request
            .metadata()
            .get("muster-tenant")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        self.log.lock().unwrap().tenants.insert(tenant);
        let mut requests = request.into_inner();
        let (responses, stream) = mpsc::channel(64);
        let service = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = requests.next().await {
                let number = {
                    let mut log = service.log.lock().unwrap();
                    log.frames.push(frame.jobs.iter().map(|job| job.id.clone()).collect());
                    log.frames.len() - 1
                };
                let response = match (service.script)(number) {
                    Act::Accept => Ok(service.accept(&frame)),
                    Act::AcceptAndBreak => {
                        service.accept(&frame);
                        Err(Status::unknown("transport error"))
                    }
                    Act::Break => Err(Status::unknown("transport error")),
                    Act::Silent => continue,
                    Act::Refuse(code, reason, after) => {
                        let error = v1::ItemError {
                            code: code.into(),
                            reason: reason.into(),
                            retry_after: after.map(|after| after.try_into().unwrap()),
                            ..v1::ItemError::default()
                        };
                        let item = v1::EnqueueResult {
                            result: Some(v1::enqueue_result::Result::Error(error)),
                        };
                        let results = frame.jobs.iter().map(|_| item.clone()).collect();
                        Ok(v1::EnqueueStreamResponse {
                            sequence: frame.sequence,
                            results,
                            leader: String::new(),
                        })
                    }
                    Act::AcceptAfter(notify) => {
                        notify.notified().await;
                        Ok(service.accept(&frame))
                    }
                };
                let broken = response.is_err();
                if responses.send(response).await.is_err() || broken {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn cancel_job(&self, _: Request<v1::CancelJobRequest>) -> Result<Response<v1::CancelJobResponse>, Status> {
        self.call().await?;
        Ok(Response::new(v1::CancelJobResponse {
            state: v1::JobState::Cancelled.into(),
        }))
    }

    async fn wait_job(&self, request: Request<v1::WaitJobRequest>) -> Result<Response<v1::WaitJobResponse>, Status> {
        // Live until the script accepts.
        let state = match self.call().await {
            Ok(()) => v1::JobState::Succeeded,
            Err(status) if status.code() == Code::Aborted => v1::JobState::Running,
            Err(status) => return Err(status),
        };
        let job = v1::Job {
            id: request.into_inner().id,
            state: state.into(),
            result: "7".into(),
            ..v1::Job::default()
        };
        Ok(Response::new(v1::WaitJobResponse { job: Some(job) }))
    }

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let first = self.call().await;
        let id = request.into_inner().id;
        let job = |state: v1::JobState, changed_index| {
            let job = v1::Job {
                id: id.clone(),
                state: state.into(),
                changed_index,
                ..v1::Job::default()
            };
            Ok(v1::WatchJobResponse { job: Some(job) })
        };
        // The first stream breaks half way, the next one begins where the job stands.
        let items = match first {
            Ok(()) => vec![job(v1::JobState::Running, 2), job(v1::JobState::Succeeded, 3)],
            Err(status) => vec![
                job(v1::JobState::Available, 1),
                job(v1::JobState::Running, 2),
                Err(status),
            ],
        };
        Ok(Response::new(Box::pin(tokio_stream::iter(items))))
    }

    async fn enqueue(&self, _: Request<v1::EnqueueRequest>) -> Result<Response<v1::EnqueueResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn enqueue_many(
        &self,
        _: Request<v1::EnqueueManyRequest>,
    ) -> Result<Response<v1::EnqueueManyResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn get_job(&self, _: Request<v1::GetJobRequest>) -> Result<Response<v1::GetJobResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn explain_job(&self, _: Request<v1::ExplainJobRequest>) -> Result<Response<v1::ExplainJobResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn list_unroutable(
        &self,
        _: Request<v1::ListUnroutableRequest>,
    ) -> Result<Response<v1::ListUnroutableResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn set_priority(
        &self,
        _: Request<v1::SetPriorityRequest>,
    ) -> Result<Response<v1::SetPriorityResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn list_jobs(&self, _: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn redrive_job(&self, _: Request<v1::RedriveJobRequest>) -> Result<Response<v1::RedriveJobResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

#[tonic::async_trait]
impl ClusterService for Service {
    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Result<Response<v1::GetStatusResponse>, Status> {
        let leader = self.cluster.leader.lock().unwrap().clone();
        let members = self.cluster.members.lock().unwrap().clone();
        let members = members.into_iter().zip(1..).map(|(api_address, node_id)| v1::Member {
            node_id,
            api_address,
            ..v1::Member::default()
        });
        let members: Vec<_> = members.collect();
        let leader_id = members
            .iter()
            .find(|member| member.api_address == leader)
            .map_or(0, |member| member.node_id);
        Ok(Response::new(v1::GetStatusResponse {
            leader_id,
            members,
            ..v1::GetStatusResponse::default()
        }))
    }

    async fn get_leader(&self, _: Request<v1::GetLeaderRequest>) -> Result<Response<v1::GetLeaderResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn create_join_token(
        &self,
        _: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn list_join_tokens(
        &self,
        _: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn revoke_join_token(
        &self,
        _: Request<v1::RevokeJoinTokenRequest>,
    ) -> Result<Response<v1::RevokeJoinTokenResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn remove_node(&self, _: Request<v1::RemoveNodeRequest>) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn promote_node(
        &self,
        _: Request<v1::PromoteNodeRequest>,
    ) -> Result<Response<v1::PromoteNodeResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn demote_node(&self, _: Request<v1::DemoteNodeRequest>) -> Result<Response<v1::DemoteNodeResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn set_node_address(
        &self,
        _: Request<v1::SetNodeAddressRequest>,
    ) -> Result<Response<v1::SetNodeAddressResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn abort_change(
        &self,
        _: Request<v1::AbortChangeRequest>,
    ) -> Result<Response<v1::AbortChangeResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn drain_node(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        let id = request.metadata().get("muster-request-id");
        let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        self.cluster.requests.lock().unwrap().push(id);
        self.call().await.map(|()| Response::new(v1::DrainNodeResponse {}))
    }

    async fn undrain_node(
        &self,
        _: Request<v1::UndrainNodeRequest>,
    ) -> Result<Response<v1::UndrainNodeResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn transfer_leader(
        &self,
        _: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn get_upgrade(&self, _: Request<v1::GetUpgradeRequest>) -> Result<Response<v1::GetUpgradeResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn upgrade(&self, _: Request<v1::UpgradeRequest>) -> Result<Response<v1::UpgradeResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

#[tonic::async_trait]
impl WorkerService for Service {
    type WorkStream = Frames<v1::WorkResponse>;

    async fn work(&self, request: Request<Streaming<v1::WorkRequest>>) -> Result<Response<Self::WorkStream>, Status> {
        let mut requests = request.into_inner();
        let Some(Ok(v1::WorkRequest {
            frame: Some(v1::work_request::Frame::Hello(hello)),
        })) = requests.next().await
        else {
            return Err(Status::invalid_argument("no hello"));
        };
        self.call().await?;
        let (to_worker, stream) = mpsc::channel(64);
        let (frames, from_worker) = mpsc::channel(1024);
        let session_ttl = Some(self.ttl.try_into().unwrap());
        let welcome = v1::WorkerWelcome {
            session_id: "s".into(),
            node_id: 1,
            session_ttl,
        };
        let welcome = v1::WorkResponse {
            frame: Some(v1::work_response::Frame::Welcome(welcome)),
        };
        to_worker.send(Ok(welcome)).await.unwrap();
        tokio::spawn(async move {
            while let Some(Ok(v1::WorkRequest {
                frame: Some(v1::work_request::Frame::Work(frame)),
            })) = requests.next().await
            {
                if frames.send(frame).await.is_err() {
                    return;
                }
            }
        });
        self.workers
            .send(WorkerStream {
                hello,
                from_worker,
                to_worker,
            })
            .await
            .map_err(|_| Status::cancelled("test over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

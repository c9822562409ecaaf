//! A worker without the client library: one that can go silent, lie and come back late.

use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::work_request::Frame as Request;
use muster_proto::v1::work_response::Frame as Response;
use muster_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::metadata::MetadataValue;

/// A session on a node of one's choice.
pub struct RawWorker {
    /// Session id as the node told it.
    pub session: String,
    /// The node.
    pub node: u64,
    outgoing: mpsc::Sender<v1::WorkRequest>,
    incoming: Streaming<v1::WorkResponse>,
    beats: JoinHandle<()>,
    jobs: Vec<v1::LeasedJob>,
    acks: Vec<v1::ReportAck>,
}

impl RawWorker {
    /// Opens a session for one kind of job of a tenant, `*` is all, and keeps it alive until told otherwise.
    pub async fn open(address: &str, tenant: &str, kind: &str, ttl: Duration) -> Self {
        let opened = Self::try_open(address, tenant, kind, ttl).await;
        opened.expect("the session opens")
    }

    /// The same; an error if the node is not there or cannot serve.
    pub async fn try_open(address: &str, tenant: &str, kind: &str, ttl: Duration) -> Result<Self, String> {
        let service = WorkerServiceClient::connect(address.to_owned()).await;
        let mut service = service.map_err(|error| error.to_string())?;
        let (outgoing, frames) = mpsc::channel(16);
        let hello = v1::WorkerHello {
            name: "raw".into(),
            kinds: vec![v1::WorkerKind {
                kind: kind.into(),
                ..v1::WorkerKind::default()
            }],
            tenants: (tenant == "*").then(|| tenant.to_owned()).into_iter().collect(),
            session_ttl: Some(ttl.try_into().expect("a short time")),
            ..v1::WorkerHello::default()
        };
        let hello = v1::WorkRequest {
            frame: Some(Request::Hello(hello)),
        };
        outgoing.send(hello).await.expect("room for a frame");
        let mut request = tonic::Request::new(ReceiverStream::new(frames));
        if tenant != "*" {
            let tenant = MetadataValue::try_from(tenant).expect("a name");
            request.metadata_mut().insert("muster-tenant", tenant);
        }
        let refused = |status: tonic::Status| status.to_string();
        let mut incoming = service.work(request).await.map_err(refused)?.into_inner();
        let first = incoming.message().await.map_err(refused)?;
        let first = first.and_then(|response| response.frame);
        let Some(Response::Welcome(welcome)) = first else {
            return Err(format!("the first frame is not a welcome: {first:?}"));
        };
        let beat = outgoing.clone();
        let beats = tokio::spawn(async move {
            while beat.send(frame(v1::WorkerFrame::default())).await.is_ok() {
                tokio::time::sleep(ttl / 4).await;
            }
        });
        Ok(Self {
            session: welcome.session_id,
            node: welcome.node_id,
            outgoing,
            incoming,
            beats,
            jobs: Vec::new(),
            acks: Vec::new(),
        })
    }

    /// Makes room for more jobs.
    pub async fn credit(&self, credits: u32) {
        self.try_credit(credits).await.expect("the session is open");
    }

    /// The same; an error when the session is over.
    pub async fn try_credit(&self, credits: u32) -> Result<(), String> {
        self.try_send(v1::WorkerFrame {
            credits,
            ..v1::WorkerFrame::default()
        })
        .await
    }

    async fn try_send(&self, work: v1::WorkerFrame) -> Result<(), String> {
        let sent = self.outgoing.send(frame(work)).await;
        sent.map_err(|_| "the session is closed".to_owned())
    }

    /// The next job, within `limit`.
    pub async fn job(&mut self, limit: Duration) -> v1::LeasedJob {
        let next = tokio::time::timeout(limit, self.next_job()).await;
        next.expect("a job in time").expect("the session is open")
    }

    /// The next job, however long it takes; an error when the session is over.
    pub async fn next_job(&mut self) -> Result<v1::LeasedJob, String> {
        while self.jobs.is_empty() {
            self.read().await?;
        }
        Ok(self.jobs.remove(0))
    }

    /// Whether no job comes within `time`.
    pub async fn stays_idle(&mut self, time: Duration) -> bool {
        let end = tokio::time::Instant::now() + time;
        while self.jobs.is_empty() {
            match tokio::time::timeout_at(end, self.read()).await {
                Ok(read) => read.expect("the session is open"),
                Err(_) => return true,
            }
        }
        false
    }

    /// Reports a success and returns what became of the report, within `limit`.
    pub async fn succeed(&mut self, job: &str, fence: u64, limit: Duration) -> v1::report_ack::Result {
        let answer = tokio::time::timeout(limit, self.try_succeed(job, fence)).await;
        answer
            .expect("an acknowledgement in time")
            .expect("the session is open")
    }

    /// The same, however long it takes; an error when the session is over.
    pub async fn try_succeed(&mut self, job: &str, fence: u64) -> Result<v1::report_ack::Result, String> {
        let report = v1::AttemptReport {
            job_id: job.into(),
            fence,
            outcome: Some(v1::attempt_report::Outcome::Succeeded(v1::Succeeded::default())),
        };
        self.try_send(v1::WorkerFrame {
            reports: vec![report],
            ..v1::WorkerFrame::default()
        })
        .await?;
        loop {
            if let Some(at) = self.acks.iter().position(|ack| ack.job_id == job && ack.fence == fence) {
                return Ok(self.acks.remove(at).result());
            }
            self.read().await?;
        }
    }

    /// Stops saying that it lives, with the connection open, as a process does that hangs.
    pub fn fall_silent(&self) {
        self.beats.abort();
    }

    async fn read(&mut self) -> Result<(), String> {
        let message = self.incoming.message().await.map_err(|status| status.to_string())?;
        match message.and_then(|response| response.frame) {
            Some(Response::Work(work)) => {
                self.jobs.extend(work.jobs);
                self.acks.extend(work.acks);
                Ok(())
            }
            Some(Response::Welcome(_)) => Err("a second welcome".into()),
            None => Err("the node closed the stream".into()),
        }
    }
}

impl Drop for RawWorker {
    fn drop(&mut self) {
        self.beats.abort();
    }
}

fn frame(work: v1::WorkerFrame) -> v1::WorkRequest {
    v1::WorkRequest {
        frame: Some(Request::Work(work)),
    }
}

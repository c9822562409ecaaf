//! Three nodes in this process, and a worker that speaks the raw protocol.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use muster_node::HandlerRegistry;
use muster_proto::v1;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_proto::v1::limit_service_client::LimitServiceClient;
use muster_proto::v1::queue_service_client::QueueServiceClient;
use muster_proto::v1::tenant_service_client::TenantServiceClient;
use muster_proto::v1::worker_service_client::WorkerServiceClient;
use muster_server::{Entry, RunningNode, ServerConfig, start_node};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// Longest wait for anything.
pub const LONG: Duration = Duration::from_secs(20);

pub struct Cluster {
    pub nodes: Vec<RunningNode>,
    pub channels: Vec<Channel>,
    _dir: tempfile::TempDir,
}

/// Ports that were free a moment ago.
fn ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}

impl Cluster {
    /// Starts three nodes; each node's public interface is open when this returns.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with further tables of the configuration.
    pub async fn start_with(tables: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ports: [u16; 6] = ports();
        let mut text = format!("cluster = \"test\"\n{tables}\n");
        for (position, pair) in ports.chunks(2).enumerate() {
            let id = position + 1;
            let _ = writeln!(
                text,
                "[[node]]\nid = {id}\napi = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\ndata = \"node-{id}\"",
                pair[0], pair[1]
            );
        }
        let file = dir.path().join("cluster.toml");
        std::fs::write(&file, text).expect("written");
        let config = ServerConfig::load(&file).expect("a good file");
        let starting = config
            .nodes
            .iter()
            .map(|node| start_node(&config, node, Entry::default(), HandlerRegistry::default()));
        let mut nodes = Vec::new();
        for started in join_all(starting.collect()).await {
            nodes.push(started.expect("the node starts"));
        }
        let mut channels = Vec::new();
        for node in &config.nodes {
            let endpoint = Channel::from_shared(format!("http://{}", node.api)).expect("an address");
            channels.push(endpoint.connect().await.expect("it listens"));
        }
        Self {
            nodes,
            channels,
            _dir: dir,
        }
    }

    pub fn jobs(&self, node: usize) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channels[node].clone()).max_decoding_message_size(32 << 20)
    }

    pub fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channels[0].clone())
    }

    pub fn limits(&self) -> LimitServiceClient<Channel> {
        LimitServiceClient::new(self.channels[0].clone())
    }

    pub fn tenants(&self) -> TenantServiceClient<Channel> {
        TenantServiceClient::new(self.channels[0].clone())
    }

    pub async fn enqueue(&self, job: v1::JobSpec) -> Result<v1::Enqueued, Status> {
        let answer = self.jobs(0).enqueue(v1::EnqueueRequest { job: Some(job) }).await?;
        Ok(answer.into_inner().job.expect("an accepted job"))
    }

    pub async fn get(&self, id: &str) -> Result<v1::Job, Status> {
        let answer = self
            .jobs(1)
            .get_job(v1::GetJobRequest {
                id: id.to_owned(),
                ..Default::default()
            })
            .await?;
        Ok(answer.into_inner().job.expect("a job"))
    }

    pub async fn wait(&self, id: &str) -> v1::Job {
        let request = v1::WaitJobRequest { id: id.to_owned() };
        let answer = tokio::time::timeout(LONG, self.jobs(2).wait_job(request))
            .await
            .expect("in time");
        answer.expect("waits").into_inner().job.expect("a job")
    }

    pub async fn worker(&self, node: usize, kind: &str, credits: u32) -> Worker {
        let worker = Worker::open(self.channels[node].clone(), hello(kind))
            .await
            .expect("a session");
        worker
            .send(v1::WorkerFrame {
                credits,
                ..Default::default()
            })
            .await;
        worker
    }

    pub async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in &mut pending {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        if pending.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pending.into_iter().filter_map(|(_, output)| output).collect()
}

pub fn hello(kind: &str) -> v1::WorkerHello {
    let kind = v1::WorkerKind {
        kind: kind.to_owned(),
        ..Default::default()
    };
    v1::WorkerHello {
        name: "test".to_owned(),
        kinds: vec![kind],
        ..Default::default()
    }
}

pub fn job(kind: &str, payload: &str) -> v1::JobSpec {
    let payload = v1::Payload {
        data: payload.to_owned().into(),
        ..Default::default()
    };
    v1::JobSpec {
        kind: kind.to_owned(),
        payload: Some(payload),
        ..Default::default()
    }
}

/// A worker of few words.
pub struct Worker {
    frames: mpsc::Sender<v1::WorkRequest>,
    pub answers: Streaming<v1::WorkResponse>,
    seen: v1::NodeFrame,
}

impl Worker {
    pub async fn open(channel: Channel, hello: v1::WorkerHello) -> Result<Self, Status> {
        let (frames, receiver) = mpsc::channel(16);
        let first = v1::WorkRequest {
            frame: Some(v1::work_request::Frame::Hello(hello)),
        };
        frames.send(first).await.expect("room");
        let mut client = WorkerServiceClient::new(channel);
        let mut answers = client
            .work(Request::new(ReceiverStream::new(receiver)))
            .await?
            .into_inner();
        let welcome = answers.message().await?.and_then(|answer| answer.frame);
        assert!(
            matches!(welcome, Some(v1::work_response::Frame::Welcome(_))),
            "{welcome:?}"
        );
        Ok(Self {
            frames,
            answers,
            seen: v1::NodeFrame::default(),
        })
    }

    pub async fn send(&self, frame: v1::WorkerFrame) {
        let frame = v1::WorkRequest {
            frame: Some(v1::work_request::Frame::Work(frame)),
        };
        self.frames.send(frame).await.expect("the stream is open");
    }

    /// The next job handed out.
    pub async fn job(&mut self) -> v1::LeasedJob {
        loop {
            if !self.seen.jobs.is_empty() {
                return self.seen.jobs.remove(0);
            }
            self.receive().await;
        }
    }

    /// The next acknowledgement.
    pub async fn ack(&mut self) -> v1::ReportAck {
        loop {
            if !self.seen.acks.is_empty() {
                return self.seen.acks.remove(0);
            }
            self.receive().await;
        }
    }

    /// The next attempt to stop.
    pub async fn stop(&mut self) -> v1::StopAttempt {
        loop {
            if !self.seen.stops.is_empty() {
                return self.seen.stops.remove(0);
            }
            self.receive().await;
        }
    }

    async fn receive(&mut self) {
        let answer = tokio::time::timeout(LONG, self.answers.message())
            .await
            .expect("a frame in time");
        let frame = answer.expect("the session lives").expect("the stream is open").frame;
        let Some(v1::work_response::Frame::Work(frame)) = frame else {
            panic!("not a work frame: {frame:?}");
        };
        self.seen.jobs.extend(frame.jobs);
        self.seen.acks.extend(frame.acks);
        self.seen.stops.extend(frame.stops);
    }

    pub async fn report(&mut self, job: &v1::LeasedJob, outcome: v1::attempt_report::Outcome) -> v1::ReportAck {
        let report = v1::AttemptReport {
            job_id: job.id.clone(),
            fence: job.fence,
            outcome: Some(outcome),
        };
        self.send(v1::WorkerFrame {
            reports: vec![report],
            credits: 1,
            ..Default::default()
        })
        .await;
        self.ack().await
    }
}

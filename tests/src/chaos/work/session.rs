//! A worker's stream without the client library.

use std::time::Duration;

use muster_client::JobId;
use muster_proto::v1;
use muster_proto::v1::attempt_report::Outcome;
use muster_proto::v1::work_request::Frame as Request;
use muster_proto::v1::work_response::Frame as Response;
use muster_proto::v1::worker_service_client::WorkerServiceClient;
use muster_sim::history::{How, Id};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Status, Streaming};

use super::TTL;
use super::handler::{Attempt, KINDS, SNOOZE};
use crate::chaos::load::{API, id};

/// Time to open one.
const OPEN: Duration = Duration::from_secs(3);

/// An open session.
pub(super) struct Session {
    outgoing: mpsc::Sender<v1::WorkRequest>,
    incoming: Streaming<v1::WorkResponse>,
}

impl Session {
    /// Opens one on this node, for all tenants and kinds.
    pub(super) async fn open(address: &str, name: &str) -> Result<Self, Status> {
        let opening = async {
            let service = WorkerServiceClient::connect(address.to_owned()).await;
            let mut service = service.map_err(|error| Status::unavailable(error.to_string()))?;
            let (outgoing, frames) = mpsc::channel(64);
            let hello = v1::WorkerHello {
                name: name.to_owned(),
                tenants: vec!["*".into()],
                kinds: KINDS.map(kind).to_vec(),
                session_ttl: TTL.try_into().ok(),
                ..v1::WorkerHello::default()
            };
            let hello = v1::WorkRequest {
                frame: Some(Request::Hello(hello)),
            };
            let _ = outgoing.send(hello).await;
            let mut request = tonic::Request::new(ReceiverStream::new(frames));
            request
                .metadata_mut()
                .insert("muster-tenant", MetadataValue::from_static("heavy"));
            let incoming = service.work(request).await?.into_inner();
            Ok(Self { outgoing, incoming })
        };
        let opened = tokio::time::timeout(OPEN, opening).await;
        opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("no session")))
    }

    /// Sends a frame. False: the stream is gone, or takes nothing.
    pub(super) fn send(&self, frame: v1::WorkerFrame) -> bool {
        let frame = v1::WorkRequest {
            frame: Some(Request::Work(frame)),
        };
        self.outgoing.try_send(frame).is_ok()
    }

    /// The next frame with work; `None`: the stream is gone. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<v1::NodeFrame> {
        loop {
            match self.incoming.message().await {
                Ok(Some(response)) => {
                    if let Some(Response::Work(frame)) = response.frame {
                        return Some(frame);
                    }
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

fn kind(kind: &str) -> v1::WorkerKind {
    v1::WorkerKind {
        kind: kind.to_owned(),
        ..v1::WorkerKind::default()
    }
}

/// An attempt out of a frame.
pub(super) fn attempt(leased: &v1::LeasedJob) -> Option<Attempt> {
    let job: JobId = leased.id.parse().ok()?;
    let payload = leased.payload.as_ref().map_or(&[][..], |payload| &payload.data[..]);
    Some(Attempt {
        job: id(job),
        fence: leased.fence,
        number: leased.attempt,
        kind: leased.kind.clone(),
        argument: Attempt::argument(payload),
    })
}

/// The report of an attempt that ended so.
pub(super) fn report(job: Id, fence: u64, how: How) -> v1::AttemptReport {
    let failed = |not_retryable, after: u64| {
        Outcome::Failed(v1::Failed {
            error: Some(v1::JobError {
                class: "Planned".into(),
                message: "as planned".into(),
            }),
            not_retryable,
            retry_after: (after > 0)
                .then(|| Duration::from_millis(after).try_into().ok())
                .flatten(),
        })
    };
    let outcome = match how {
        How::Succeeded => Outcome::Succeeded(v1::Succeeded::default()),
        How::Failed { retry_after_ms } => failed(false, retry_after_ms),
        How::FailedForGood => failed(true, 0),
        How::Snoozed => Outcome::Snoozed(v1::Snoozed {
            delay: SNOOZE.try_into().ok(),
        }),
        How::Throttled => Outcome::Throttled(v1::Throttled {
            key: API.into(),
            retry_after: SNOOZE.try_into().ok(),
        }),
        How::Preempted => Outcome::Preempted(v1::Preempted {}),
        How::Cancelled | How::TimedOut | How::Crashed => Outcome::Cancelled(v1::AttemptCancelled {}),
    };
    v1::AttemptReport {
        job_id: job.to_string(),
        fence,
        outcome: Some(outcome),
    }
}

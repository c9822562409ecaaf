//! The worker's stream: a bridge between its frames and the session on this node.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use muster_core::Name;
use muster_node::{SessionEnd, SessionInput, SessionOutput, SessionReceiver, SessionSender, StopReason};
use muster_proto::v1;
use tonic::{Request, Response, Status, Streaming};

use crate::api::{Answers, Api, Caller};
use crate::errors::{Error, Violation};
use crate::reason::Reason;
use crate::{convert, tenant, validate};

/// Time for a new stream's first frame.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

impl Api {
    pub(crate) fn work(
        &self,
        request: Request<Streaming<v1::WorkRequest>>,
    ) -> Result<Response<Answers<v1::WorkResponse>>, Status> {
        let permit = self.streams().enter()?;
        let tenant = tenant::of_call(request.metadata())?;
        let frames = request.into_inner();
        let api = self.clone();
        // The answer's headers go out at once: some clients wait for them before they send their first frame.
        let opening = async move {
            match api.open(tenant, frames).await {
                Ok(opened) => opened,
                Err(status) => futures::stream::iter([Err(status)]).boxed(),
            }
        };
        let answers = futures::stream::once(opening).flatten().inspect(move |_| {
            // Held until the stream is dropped.
            let _ = &permit;
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn open(
        &self,
        tenant: Name,
        mut frames: Streaming<v1::WorkRequest>,
    ) -> Result<Answers<v1::WorkResponse>, Status> {
        let hello = match tokio::time::timeout(HELLO_TIMEOUT, frames.message()).await {
            Ok(Ok(Some(v1::WorkRequest {
                frame: Some(v1::work_request::Frame::Hello(hello)),
            }))) => hello,
            Ok(Ok(_)) => return Err(out_of_turn("something else", "a hello as the first frame")),
            Ok(Err(status)) => return Err(status),
            Err(_) => return Err(out_of_turn("missing", "a hello within 10 s")),
        };
        let hello = validate::hello(hello, &tenant).map_err(Error::from)?;
        let deadline = tokio::time::Instant::now() + self.call_timeout();
        for name in &hello.class.tenants {
            self.tenant_id(name, deadline).await?;
        }
        let session = self.node().open_session(hello).await.map_err(Error::from)?;
        let welcome = v1::WorkerWelcome {
            session_id: convert::session_id(session.id.0),
            node_id: self.raft().node(),
            session_ttl: Some(convert::duration(session.ttl())),
        };
        let (sender, receiver) = session.split();
        let failure = Arc::new(OnceLock::new());
        // One task a worker: it ends with the client's frames or with the session, whichever is first.
        tokio::spawn(read(frames, sender, Arc::clone(&failure)));
        let first = v1::WorkResponse {
            frame: Some(v1::work_response::Frame::Welcome(welcome)),
        };
        Ok(futures::stream::iter([Ok(first)])
            .chain(outputs(receiver, failure))
            .boxed())
    }

    pub(crate) async fn list_workers(
        &self,
        caller: Caller,
        request: v1::ListWorkersRequest,
    ) -> Result<v1::ListWorkersResponse, Error> {
        let read = self.begin_read(request.consistency, caller.deadline).await?;
        let sessions = self.raft().read(muster_core::Core::sessions);
        Ok(v1::ListWorkersResponse {
            workers: sessions.iter().map(convert::worker).collect(),
            freshness: read.freshness(),
        })
    }
}

/// The first thing that was wrong with the worker's frames.
type Failure = Arc<OnceLock<Status>>;

/// Carries the worker's frames to its session until either ends. Dropping the sender without a bye tells the session
/// that the worker vanished.
async fn read(mut frames: Streaming<v1::WorkRequest>, sender: SessionSender, failure: Failure) {
    loop {
        let frame = tokio::select! {
            frame = frames.message() => frame,
            _ = sender.ended() => return,
        };
        let input = match frame {
            Ok(Some(frame)) => match input(frame) {
                Ok(input) => input,
                Err(error) => {
                    let _ = failure.set(error.into());
                    return;
                }
            },
            // The connection is gone, or the worker closed its side without a bye.
            Ok(None) | Err(_) => return,
        };
        let bye = input.bye;
        if sender.send(input).await.is_err() || bye {
            // After a bye nothing is heard; the session ends when all that was reported is durable.
            return;
        }
    }
}

fn input(frame: v1::WorkRequest) -> Result<SessionInput, Error> {
    match frame.frame {
        Some(v1::work_request::Frame::Work(work)) => Ok(validate::frame(work)?),
        Some(v1::work_request::Frame::Hello(_)) => Err(Violation::new(
            Reason::FrameInvalid,
            "frame",
            "a second hello",
            "work frames after the first",
        )
        .into()),
        // A kind of frame that a newer client knows: a sign of life at least.
        None => Ok(SessionInput::default()),
    }
}

/// The frames for the worker, then why the session ended.
fn outputs(receiver: SessionReceiver, failure: Failure) -> Answers<v1::WorkResponse> {
    futures::stream::unfold(Some((receiver, failure)), |open| async move {
        let (mut receiver, failure) = open?;
        if let Some(output) = receiver.next().await {
            let frame = v1::WorkResponse {
                frame: Some(v1::work_response::Frame::Work(frame(&output))),
            };
            return Some((Ok(frame), Some((receiver, failure))));
        }
        if let Some(status) = failure.get() {
            return Some((Err(status.clone()), None));
        }
        let error = match receiver.end() {
            Some(SessionEnd::Bye) => return None,
            Some(SessionEnd::Shutdown) => Error::Stopping,
            Some(SessionEnd::Drained) => Error::Drained,
            Some(SessionEnd::Failed) => Error::NotDone("the session failed on this node; open a new one".to_owned()),
            Some(SessionEnd::Lost) | None => Error::Refused(muster_core::Refusal::SessionClosed),
        };
        Some((Err(error.into()), None))
    })
    .boxed()
}

fn frame(output: &SessionOutput) -> v1::NodeFrame {
    use v1::stop_attempt::Reason as Why;
    v1::NodeFrame {
        jobs: output.jobs.iter().map(convert::leased).collect(),
        acks: output
            .acks
            .iter()
            .map(|ack| convert::ack(ack.job, ack.lease.fence(), ack.reply))
            .collect(),
        stops: output
            .stops
            .iter()
            .map(|stop| v1::StopAttempt {
                job_id: stop.job.to_string(),
                fence: stop.lease.fence(),
                reason: match stop.reason {
                    StopReason::Cancel => Why::Cancel,
                    StopReason::LeaseLost => Why::LeaseLost,
                }
                .into(),
            })
            .collect(),
        go_elsewhere: output.leave,
    }
}

fn out_of_turn(given: &str, allowed: &str) -> Status {
    Error::from(Violation::new(Reason::FrameInvalid, "frame", given, allowed)).into()
}

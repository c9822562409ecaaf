//! One stream to one node, from Hello to its end.

use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::work_request::Frame as Request;
use muster_proto::v1::work_response::Frame as Response;
use muster_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::call::stream_request;
use crate::client::Client;
use crate::error::{Attempt, local};

/// An open session.
pub(super) struct Session {
    pub(super) address: String,
    pub(super) ttl: Duration,
    outgoing: mpsc::Sender<v1::WorkRequest>,
    incoming: Streaming<v1::WorkResponse>,
}

/// Why no session could be opened.
pub(super) struct OpenFailure {
    pub(super) address: String,
    pub(super) attempt: Attempt,
}

/// Opens a session on the node that the client would ask next. Every step has a time limit.
pub(super) async fn open(client: Client, hello: v1::WorkerHello) -> Result<Session, OpenFailure> {
    let members = client.members();
    let pick = members.pick();
    tokio::time::sleep(pick.wait).await;
    let first = pick.address;
    if let Err(reason) = members.refresh(&first).await {
        return Err(OpenFailure {
            address: first,
            attempt: Attempt::Retry(reason),
        });
    }
    let address = members.pick().address;
    let failure = |attempt| OpenFailure {
        address: address.clone(),
        attempt,
    };
    let channel = members
        .channel(&address)
        .await
        .map_err(|reason| failure(Attempt::Retry(reason)))?;
    // One frame in the channel: what ends while it waits forms the next one.
    let (outgoing, frames) = mpsc::channel(1);
    let ttl = hello
        .session_ttl
        .and_then(|ttl| ttl.try_into().ok())
        .unwrap_or(Duration::from_secs(10));
    let greeting = v1::WorkRequest {
        frame: Some(Request::Hello(hello)),
    };
    let limit = members.timing().attempt;
    let opening = async {
        if outgoing.send(greeting).await.is_err() {
            return Err(Status::unavailable("the stream ended"));
        }
        let request = stream_request(ReceiverStream::new(frames), client.tenant_value());
        let mut service = WorkerServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let mut incoming = service.work(request).await?.into_inner();
        let welcome = incoming.message().await?;
        Ok((incoming, welcome))
    };
    let (incoming, welcome) = match tokio::time::timeout(limit, opening).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(status)) => return Err(failure(unopened(Attempt::from_status(&status)))),
        Err(_) => return Err(failure(Attempt::no_answer(limit, &address))),
    };
    let Some(Response::Welcome(welcome)) = welcome.and_then(|response| response.frame) else {
        let reason = local(tonic::Code::Internal, "BAD_ANSWER", "the first frame is not a welcome");
        return Err(failure(Attempt::Unanswered(reason)));
    };
    let ttl = welcome.session_ttl.and_then(|ttl| ttl.try_into().ok()).unwrap_or(ttl);
    members.answered(&address);
    Ok(Session {
        address,
        ttl,
        outgoing,
        incoming,
    })
}

/// A session whose opening took long can be over before the worker hears of it: given up with its node, or forgotten by
/// the cluster. That says nothing against the worker; another session may be opened.
fn unopened(attempt: Attempt) -> Attempt {
    match attempt {
        Attempt::Refused(reason) if reason.reason == "SESSION_CLOSED" => Attempt::Retry(reason),
        attempt => attempt,
    }
}

impl Session {
    /// The next frame; `None`: the node closed in order. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<v1::NodeFrame>, Status> {
        loop {
            match self.incoming.message().await? {
                None => return Ok(None),
                Some(response) => {
                    if let Some(Response::Work(frame)) = response.frame {
                        return Ok(Some(frame));
                    }
                }
            }
        }
    }

    /// Where to put frames. Room for one means that the one before is on its way.
    pub(super) fn outgoing(&self) -> mpsc::Sender<v1::WorkRequest> {
        self.outgoing.clone()
    }
}

pub(super) fn work(frame: v1::WorkerFrame) -> v1::WorkRequest {
    v1::WorkRequest {
        frame: Some(Request::Work(frame)),
    }
}

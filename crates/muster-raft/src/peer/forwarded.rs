//! On the leader: commands that other nodes forward.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use muster_failpoint::failpoint;
use muster_proto::peer as wire;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::error::{ProposeError, Waits};
use crate::leadership::Lead;
use crate::peer::server::Running;
use crate::proposer::{Call, CallResult, Fate, Full, brings_jobs, command_bytes};

/// Groups of one node that may wait here; it sends fewer at a time.
const DEPTH: usize = 64;
/// Longest a group waits here. The callers' own deadlines are kept where they called.
const DEADLINE: Duration = Duration::from_mins(1);

/// Answers each request of the stream, in any order.
pub(super) fn serve(
    running: Running,
    mut requests: Streaming<wire::ProposeRequest>,
    check: impl Fn(Option<wire::Header>) -> Result<(), Status> + Send + 'static,
) -> BoxStream<'static, Result<wire::ProposeReply, Status>> {
    let (replies, stream) = mpsc::channel(DEPTH);
    tokio::spawn(async move {
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = replies.closed() => return,
            };
            // An error here is the other side's end of the stream; it knows.
            let Ok(Some(request)) = request else { return };
            if let Err(status) = check(request.header) {
                let _gone = replies.send(Err(status)).await;
                return;
            }
            let id = request.id;
            failpoint!("peer.propose.received");
            match submit(&running, &request.batch) {
                Ok(answer) => {
                    let replies = replies.clone();
                    tokio::spawn(async move {
                        // A dropped call means the proposer ended with the group in its hands.
                        let result = answer.await.unwrap_or(Err(ProposeError::Stopped));
                        failpoint!("peer.propose.before_answer");
                        let _gone = replies.send(Ok(reply(id, result))).await;
                    });
                }
                Err(error) => {
                    if replies.send(Ok(reply(id, Err(error)))).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    ReceiverStream::new(stream).boxed()
}

fn submit(running: &Running, batch: &[u8]) -> Result<oneshot::Receiver<CallResult>, ProposeError> {
    let not_done = |reason: String| ProposeError::NotDone { reason };
    if !matches!(*running.lead.borrow(), Lead::Me { .. }) {
        return Err(not_done("this node is not the leader".to_owned()));
    }
    let batch = muster_store::codec::decode_batch(batch).map_err(|err| not_done(err.to_string()))?;
    let bytes = batch.commands.iter().map(command_bytes).sum();
    let permit = running
        .admission
        .admit(batch.commands.len(), bytes, brings_jobs(&batch.commands))
        .map_err(Full::error)?;
    let (reply, answer) = oneshot::channel();
    let call = Call {
        count: batch.commands.len(),
        commands: batch.commands,
        bytes,
        fate: Arc::new(Fate::default()),
        reply,
        since: Instant::now(),
        deadline: Instant::now() + DEADLINE,
        forwarded: true,
        _permit: permit,
    };
    running
        .calls
        .send(call)
        .map_err(|_| not_done("the node is shutting down".to_owned()))?;
    Ok(answer)
}

fn reply(id: u64, result: CallResult) -> wire::ProposeReply {
    use wire::ProposeOutcome as Outcome;
    let encoded = result.map(|replies| muster_store::codec::encode_replies(&replies));
    let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (value, limit) = match &encoded {
        Err(ProposeError::Overloaded { value, limit, .. }) => (*value, *limit),
        Err(ProposeError::MemoryFull { used, limit, .. }) => (*used, *limit),
        Err(ProposeError::Late { waited, lag_max, .. }) => (millis(waited), millis(lag_max)),
        _ => (0, 0),
    };
    let in_bytes = matches!(encoded, Err(ProposeError::Overloaded { what: Waits::Bytes, .. }));
    let (outcome, replies) = match encoded {
        Ok(Ok(replies)) => (Outcome::Done, replies),
        Ok(Err(error)) => {
            tracing::error!(%error, "replies cannot be encoded");
            (Outcome::Unknown, Default::default())
        }
        Err(ProposeError::NotDone { .. }) => (Outcome::NotLeader, Default::default()),
        Err(ProposeError::Overloaded { .. }) => (Outcome::Overloaded, Default::default()),
        Err(ProposeError::DiskFull { .. }) => (Outcome::DiskFull, Default::default()),
        Err(ProposeError::MemoryFull { .. }) => (Outcome::MemoryFull, Default::default()),
        Err(ProposeError::Late { .. }) => (Outcome::Late, Default::default()),
        Err(ProposeError::Unknown { .. } | ProposeError::Stopped) => (Outcome::Unknown, Default::default()),
    };
    wire::ProposeReply {
        id,
        outcome: outcome as i32,
        replies,
        limit,
        value,
        in_bytes,
    }
}

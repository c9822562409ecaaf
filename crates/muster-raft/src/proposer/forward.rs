//! On a follower: groups of calls travel to the leader over one stream.

use std::collections::HashMap;

use bytes::Bytes;
use muster_core::{Batch, NodeId};
use muster_failpoint::failpoint;
use muster_proto::peer as wire;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::peer::{Channels, Lane};
use crate::proposer::Signal;
use crate::proposer::call::{Call, Group};
use crate::proposer::entry::doubted;

/// Requests that may wait in the stream; the proposer sends fewer.
const STREAM_DEPTH: usize = 64;

/// A stream to one leader. Dropping it ends the stream.
pub(super) struct Link {
    pub(super) leader: NodeId,
    /// Tells this link's signals from those of an earlier one.
    pub(super) generation: u64,
    channels: Channels,
    requests: mpsc::Sender<wire::ProposeRequest>,
    next_id: u64,
    in_flight: HashMap<u64, Group>,
    _end: DropGuard,
}

impl Link {
    /// Opens a stream in the background; its outcome comes as signals.
    pub(super) fn open(channels: &Channels, leader: NodeId, generation: u64, signals: UnboundedSender<Signal>) -> Self {
        let (requests, received) = mpsc::channel(STREAM_DEPTH);
        let end = CancellationToken::new();
        let (task_channels, task_end) = (channels.clone(), end.clone());
        tokio::spawn(async move {
            let running = run(&task_channels, leader, generation, received, &signals);
            let reason = tokio::select! {
                reason = running => reason,
                () = task_end.cancelled() => return,
            };
            tracing::debug!(leader, reason, "the stream of commands to the leader ended");
            let _ended = signals.send(Signal::LinkEnded { generation });
        });
        Self {
            leader,
            generation,
            channels: channels.clone(),
            requests,
            next_id: 0,
            in_flight: HashMap::new(),
            _end: end.drop_guard(),
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.in_flight.len()
    }

    /// Sends a group. Gives it back when it cannot be encoded or the stream is full or closed.
    pub(super) fn send(&mut self, group: Group) -> Result<(), Group> {
        let mut group = group;
        let batch = Batch {
            stamped_at: 0,
            commands: std::mem::take(&mut group.commands),
        };
        let encoded = muster_store::codec::encode_batch(&batch);
        group.commands = batch.commands;
        let Ok(batch) = encoded else { return Err(group) };
        let id = self.next_id;
        let request = wire::ProposeRequest {
            header: Some(self.channels.header(self.leader)),
            id,
            batch,
        };
        failpoint!("proposal.forward.before_send");
        if self.requests.try_send(request).is_err() {
            return Err(group);
        }
        self.next_id += 1;
        self.in_flight.insert(id, group);
        Ok(())
    }

    /// The group that a reply belongs to.
    pub(super) fn take(&mut self, id: u64) -> Option<Group> {
        self.in_flight.remove(&id)
    }

    /// Ends the link; all that was on its way is uncertain.
    pub(super) fn close(mut self) -> Vec<Call> {
        let mut groups: Vec<_> = self.in_flight.drain().collect();
        groups.sort_unstable_by_key(|(id, _)| *id);
        groups.into_iter().flat_map(|(_, group)| doubted(group)).collect()
    }
}

async fn run(
    channels: &Channels,
    leader: NodeId,
    generation: u64,
    requests: mpsc::Receiver<wire::ProposeRequest>,
    signals: &UnboundedSender<Signal>,
) -> String {
    let mut client = match channels.client(leader, None, Lane::Commands) {
        Ok(client) => client,
        Err(error) => return error.to_string(),
    };
    let mut replies = match client.propose(ReceiverStream::new(requests)).await {
        Ok(replies) => replies.into_inner(),
        Err(status) => return status.to_string(),
    };
    loop {
        match replies.message().await {
            Ok(Some(reply)) => {
                if signals.send(Signal::LinkReplied { generation, reply }).is_err() {
                    return "the proposer has ended".to_owned();
                }
            }
            Ok(None) => return "closed by the leader".to_owned(),
            Err(status) => return status.to_string(),
        }
    }
}

/// Decodes the replies to a group.
pub(super) fn replies(bytes: &Bytes) -> Result<Vec<muster_core::Reply>, muster_store::Error> {
    muster_store::codec::decode_replies(bytes)
}

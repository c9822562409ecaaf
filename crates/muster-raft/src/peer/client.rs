//! Sending Raft's messages.

use std::future::Future;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use muster_core::NodeId;
use muster_failpoint::{Injected, failpoint};
use muster_proto::peer as wire;
use muster_store::Store;
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tonic::{Code, Request, Status};

use crate::convert;
use crate::peer::channels::{BadAddress, Channels, Client, Lane};
use crate::peer::transfer::parts;
use crate::storage::{SnapshotData, StateSnapshot};
use crate::types::{Address, LogId, TypeConfig, Vote};

type RpcError = RPCError<TypeConfig>;
type AppendResult = Result<Option<LogId>, StreamAppendError<TypeConfig>>;

/// Least time a message gets, however short openraft's own limit is: a busy two-core machine needs it.
const DEADLINE_MIN: Duration = Duration::from_millis(300);

/// Makes a [`Peer`] for each other member.
pub(crate) struct Network {
    pub(crate) channels: Channels,
    pub(crate) store: Store,
}

impl Network {
    fn peer(&self, target: NodeId, node: &Address, lane: Lane) -> Peer {
        Peer {
            channels: self.channels.clone(),
            store: self.store.clone(),
            target,
            node: node.clone(),
            lane,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, node: &Address) -> Peer {
        self.peer(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Address) -> Peer {
        self.peer(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &Address) -> Peer {
        self.peer(target, node, Lane::Bulk)
    }
}

/// One other member, for one kind of traffic.
pub(crate) struct Peer {
    channels: Channels,
    store: Store,
    target: NodeId,
    node: Address,
    lane: Lane,
}

impl Peer {
    fn client(&self, lane: Lane) -> Result<Client, RpcError> {
        self.channels
            .client(self.target, Some(&self.node), lane)
            .map_err(|err: BadAddress| unreachable(&err))
    }

    /// A receiver found this node's snapshot damaged: on its way, or here. Damage that is found here ends this node, so that
    /// its next start refills it.
    async fn suspect(&self, status: &Status) {
        tracing::warn!(to = self.target, %status, "a snapshot of this node was refused; its data is read again");
        let store = self.store.clone();
        let verified = tokio::task::spawn_blocking(move || store.state().verify()).await;
        match verified {
            Ok(Ok(counts)) => tracing::info!(?counts, "the data of this node is whole"),
            Ok(Err(error)) => tracing::error!(%error, "the data of this node is damaged"),
            Err(error) => tracing::error!(%error, "the data of this node could not be read"),
        }
    }

    fn vote_request(&self, request: VoteRequest<TypeConfig>, option: &RPCOption) -> Request<wire::VoteRequest> {
        timed(
            wire::VoteRequest {
                header: Some(self.channels.header(self.target)),
                vote: Some(convert::vote_out(request.vote)),
                last_log: request.last_log_id.map(convert::log_id_out),
                leadership_transfer: request.leadership_transfer,
            },
            option,
        )
    }
}

fn timed<T>(message: T, option: &RPCOption) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(option.hard_ttl().max(DEADLINE_MIN));
    request
}

fn unreachable<E: std::error::Error + 'static>(error: &E) -> RpcError {
    RPCError::Unreachable(Unreachable::new(error))
}

fn refused(injected: Injected) -> RpcError {
    unreachable(&injected)
}

fn status(injected: Injected) -> Status {
    Status::unavailable(injected.to_string())
}

/// Openraft backs off from an unreachable node and repeats at once after a network error. A node that refuses us (other
/// cluster, not started) is as good as unreachable.
fn rpc_error(status: &Status) -> RpcError {
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded => RPCError::Network(NetworkError::new(status)),
        _ => unreachable(status),
    }
}

fn vote_response(reply: wire::VoteReply) -> Result<VoteResponse<TypeConfig>, RpcError> {
    let vote = convert::vote_in(reply.vote).map_err(|err| unreachable(&err))?;
    Ok(VoteResponse::new(
        vote,
        reply.last_log.map(convert::log_id_in),
        reply.granted,
    ))
}

fn append_result(reply: wire::AppendReply) -> Result<AppendResult, RpcError> {
    use wire::append_reply::Result as Wire;
    match reply.result {
        Some(Wire::Matched(matched)) => Ok(Ok(matched.log_id.map(convert::log_id_in))),
        Some(Wire::Conflict(id)) => Ok(Err(StreamAppendError::Conflict(convert::log_id_in(id)))),
        Some(Wire::HigherVote(vote)) => {
            let vote = convert::vote_in(Some(vote)).map_err(|err| unreachable(&err))?;
            Ok(Err(StreamAppendError::HigherVote(vote)))
        }
        None => Err(unreachable(&Status::internal("an append reply without a result"))),
    }
}

impl NetBackoff<TypeConfig> for Peer {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetVote<TypeConfig> for Peer {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        failpoint!("peer.vote.before_send", refused);
        let reply = self.client(Lane::Control)?.vote(self.vote_request(rpc, &option)).await;
        failpoint!("peer.vote.after_answer", refused);
        vote_response(reply.map_err(|status| rpc_error(&status))?.into_inner())
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        failpoint!("peer.pre_vote.before_send", refused);
        let reply = self
            .client(Lane::Control)?
            .pre_vote(self.vote_request(rpc, &option))
            .await;
        vote_response(reply.map_err(|status| rpc_error(&status))?.into_inner())
    }
}

impl NetTransferLeader<TypeConfig> for Peer {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let message = wire::TransferLeaderRequest {
            header: Some(self.channels.header(self.target)),
            from_leader: Some(convert::vote_out(*req.from_leader())),
            to_node: *req.to_node_id(),
            last_log: req.last_log_id().copied().map(convert::log_id_out),
        };
        failpoint!("peer.transfer_leader.before_send", refused);
        let reply = self
            .client(Lane::Control)?
            .transfer_leader(timed(message, &option))
            .await;
        failpoint!("peer.transfer_leader.after_answer", refused);
        let reply = reply.map_err(|status| rpc_error(&status))?.into_inner();
        if reply.refused.is_empty() {
            return Ok(Ok(()));
        }
        tracing::info!(to = self.target, refused = reply.refused, "leader transfer refused");
        Ok(Err(TransferLeaderError::LogNotFlushed {
            expected: req.last_log_id().copied(),
            actual: None,
        }))
    }
}

impl NetStreamAppend<TypeConfig> for Peer {
    fn stream_append<S>(
        &mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'_, Result<BoxStream<'_, Result<AppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let header = self.channels.header(self.target);
        let mut requests = input.map(move |request| {
            failpoint!("peer.append.before_send");
            wire::AppendRequest {
                header: Some(header),
                vote: Some(convert::vote_out(request.vote)),
                previous: request.prev_log_id.map(convert::log_id_out),
                entries: request.entries.into_iter().map(convert::entry_out).collect(),
                leader_commit: request.leader_commit.map(convert::log_id_out),
            }
        });
        let client = self.client(self.lane);
        Box::pin(async move {
            let mut client = client?;
            // Openraft waits between tries by holding the first request back, so that is asked for before anything is
            // opened: else one failed opening would follow the other without a pause for as long as the peer is down.
            let Some(first) = requests.next().await else {
                return Ok(stream::empty().boxed());
            };
            failpoint!("peer.append.before_open", refused);
            let requests = stream::iter([first]).chain(requests);
            // Only the opening has a deadline: the stream itself lives as long as the peer answers pings.
            let opening = tokio::time::timeout(option.hard_ttl().max(DEADLINE_MIN), client.append(requests)).await;
            let replies = opening.map_err(|late| RPCError::Network(NetworkError::new(&late)))?;
            let replies = replies.map_err(|status| rpc_error(&status))?.into_inner();
            let results = replies.map(|reply| {
                failpoint!("peer.append.answered", refused);
                append_result(reply.map_err(|status| rpc_error(&status))?)
            });
            Ok(results.boxed())
        })
    }
}

impl NetSnapshot<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: StateSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let lost = |error: &Status| StreamingError::Unreachable(Unreachable::new(error));
        failpoint!("peer.snapshot.before_send", |injected| lost(&status(injected)));
        let SnapshotData::Own(pinned) = snapshot.snapshot else {
            return Err(lost(&Status::internal("only a node's own snapshot can be sent")));
        };
        let header = self.channels.header(self.target);
        let mut head = wire::SnapshotHead {
            header: Some(header),
            vote: Some(convert::vote_out(vote)),
            last_log: snapshot.meta.last_log_id.map(convert::log_id_out),
            membership: Some(convert::stored_membership_out(&snapshot.meta.last_membership)),
            bytes: pinned.bytes,
            id: pinned.id,
            offset: 0,
        };
        let mut client = self
            .channels
            .client(self.target, Some(&self.node), Lane::Bulk)
            .map_err(|err| StreamingError::Unreachable(Unreachable::new(&err)))?;
        let transfer = async {
            let question = wire::SnapshotOffsetRequest {
                header: Some(header),
                id: pinned.id,
            };
            head.offset = client
                .snapshot_offset(timed(question, &option))
                .await?
                .into_inner()
                .offset;
            // It answered, so it lives; for a while it will not answer anything else.
            let _under_way = self.channels.begin_sending(self.target);
            tracing::info!(
                to = self.target,
                bytes = head.bytes,
                from = head.offset,
                "sending a snapshot"
            );
            let reply = client.snapshot(timed(parts(pinned, head), &option)).await;
            failpoint!("peer.snapshot.after_answer", status);
            reply
        };
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            reply = transfer => {
                if let Err(status) = &reply
                    && status.code() == Code::DataLoss
                {
                    self.suspect(status).await;
                }
                let reply = reply.map_err(|status| lost(&status))?.into_inner();
                let vote = convert::vote_in(reply.vote).map_err(|err| lost(&Status::internal(err.to_string())))?;
                Ok(SnapshotResponse::new(vote))
            }
        }
    }
}

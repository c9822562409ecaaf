//! Answering the other nodes.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use muster_core::{NodeId, SessionId};
use muster_failpoint::failpoint;
use muster_proto::peer as wire;
use muster_proto::peer::peer_server::Peer;
use muster_store::{Identity, Room, Store};
use openraft::errors::Fatal;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};
use tokio::time::{Duration, Instant};
use tonic::{Request, Response, Status, Streaming};

use crate::contact::Contact;
use crate::convert::{self, Malformed};
use crate::facts::Facts;
use crate::leadership::Lead;
use crate::membership;
use crate::peer::transfer;
use crate::peer::{GROUP, Standing, forwarded, joins};
use crate::proposer::{Admission, Call};
use crate::reads::ReadCall;
use crate::refill::log_end;
use crate::role::Role;
use crate::sink::ApplySink;
use crate::storage::SnapshotData;
use crate::types::{LogId, OpenRaft, SnapshotMeta, TypeConfig};
use crate::witness::Witnesses;

/// A read index that another node waits for; its own deadline is shorter.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// What a node that takes part can answer with.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) cluster: u128,
    pub(crate) raft: OpenRaft,
    pub(crate) calls: UnboundedSender<Call>,
    pub(crate) reads: UnboundedSender<ReadCall>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) sink: Arc<dyn ApplySink>,
    pub(crate) lead: watch::Receiver<Lead>,
    pub(crate) role: watch::Receiver<Role>,
    pub(crate) membership: membership::Parts,
    pub(crate) witnesses: Witnesses,
    pub(crate) facts: Facts,
}

/// The service for other nodes. Cheap to clone. Answers `Hello` and `Bootstrap` from the start, all else once the node
/// takes part.
#[derive(Clone)]
pub(crate) struct PeerServer {
    pub(crate) node: NodeId,
    pub(crate) configured: Vec<NodeId>,
    pub(crate) store: Store,
    /// The cluster this node belongs to.
    pub(crate) cluster: Arc<watch::Sender<Option<u128>>>,
    pub(crate) running: Arc<OnceLock<Running>>,
    /// Held while a snapshot arrives.
    pub(crate) receiving: Arc<tokio::sync::Mutex<()>>,
    /// Touched by what a leader sends.
    pub(crate) contact: Contact,
}

impl PeerServer {
    fn running(&self) -> Result<&Running, Status> {
        self.running
            .get()
            .ok_or_else(|| Status::unavailable(format!("node {} is starting", self.node)))
    }

    /// Lets a message in only if it is meant for this node of this cluster.
    fn admit(&self, header: Option<wire::Header>) -> Result<(&Running, NodeId), Status> {
        let running = self.running()?;
        check_header(self.node, running.cluster, header).map(|from| (running, from))
    }

    /// The same for a message on elections, which a node that is being refilled stays out of: it may have lost entries
    /// that its vote would help to lose for good.
    fn admit_voting(&self, header: Option<wire::Header>) -> Result<&Running, Status> {
        let (running, _) = self.admit(header)?;
        if self.store.refilling() {
            return Err(Status::failed_precondition(format!(
                "node {} is being refilled and does not vote",
                self.node
            )));
        }
        Ok(running)
    }

    /// Binds this node to a cluster; the identity is synced on return.
    async fn bind(&self, cluster: u128) -> Result<(), Status> {
        let (store, identity) = (self.store.clone(), Identity::new(cluster, self.node));
        let saved = tokio::task::spawn_blocking(move || store.set_identity(identity)).await;
        let saved = saved.map_err(|err| Status::internal(err.to_string()))?;
        saved.map_err(|err| Status::failed_precondition(err.to_string()))?;
        self.cluster.send_replace(Some(cluster));
        Ok(())
    }

    fn leads(&self, running: &Running) -> Result<(), Status> {
        if running.role.borrow().is_leader() {
            return Ok(());
        }
        Err(Status::unavailable(format!("node {} is not the leader", self.node)))
    }

    /// Whose turn it is to send a snapshot. A stream that broke may not have noticed it yet.
    fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Status> {
        self.receiving
            .try_lock()
            .map_err(|_| Status::unavailable("another snapshot is being received"))
    }

    /// Looks at all of a received snapshot before raft hears of it: a sender may hold damaged data without knowing it.
    async fn check_snapshot(&self, path: PathBuf) -> Result<(), Status> {
        let store = self.store.clone();
        let begun = Instant::now();
        let checked = tokio::task::spawn_blocking(move || store.state().prepare_snapshot(&path)).await;
        let checked = checked.map_err(|err| Status::internal(err.to_string()))?;
        tracing::info!(node = self.node, took = ?begun.elapsed(), "received snapshot read");
        checked.map(drop).map_err(|error| {
            tracing::warn!(node = self.node, %error, "the received snapshot cannot be used");
            if error.is_damage() {
                Status::data_loss(error.to_string())
            } else {
                Status::internal(error.to_string())
            }
        })
    }

    fn for_this_node(&self, to: NodeId) -> Result<(), Status> {
        if to == self.node {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "the message is for node {to}, this is node {}",
            self.node
        )))
    }
}

fn check_header(node: NodeId, cluster: u128, header: Option<wire::Header>) -> Result<NodeId, Status> {
    let header = header.ok_or_else(|| Status::invalid_argument("the message has no header"))?;
    let theirs = header.cluster.map(convert::cluster_in).unwrap_or_default();
    if theirs != cluster {
        return Err(Status::failed_precondition(format!(
            "the message is from node {} of cluster {theirs:032x}, this is node {node} of cluster {cluster:032x}",
            header.from
        )));
    }
    if header.to != node || header.group != GROUP {
        return Err(Status::failed_precondition(format!(
            "the message is for node {} group {}, this is node {node} group {GROUP}",
            header.to, header.group
        )));
    }
    Ok(header.from)
}

fn invalid(error: Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("raft refused or stopped: {error}"))
}

fn vote_request(request: wire::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    Ok(VoteRequest {
        vote: convert::vote_in(request.vote).map_err(invalid)?,
        last_log_id: request.last_log.map(convert::log_id_in),
        leadership_transfer: request.leadership_transfer,
    })
}

fn vote_reply(response: VoteResponse<TypeConfig>) -> Response<wire::VoteReply> {
    Response::new(wire::VoteReply {
        vote: Some(convert::vote_out(response.vote)),
        granted: response.vote_granted,
        last_log: response.last_log_id.map(convert::log_id_out),
    })
}

type Appended = Result<Result<Option<LogId>, StreamAppendError<TypeConfig>>, Fatal<TypeConfig>>;

fn append_reply(appended: Appended) -> Result<wire::AppendReply, Status> {
    use wire::append_reply::{Matched, Result as Wire};
    let result = match appended.map_err(stopped)? {
        Ok(log_id) => Wire::Matched(Matched {
            log_id: log_id.map(convert::log_id_out),
        }),
        Err(StreamAppendError::Conflict(log_id)) => Wire::Conflict(convert::log_id_out(log_id)),
        Err(StreamAppendError::HigherVote(vote)) => Wire::HigherVote(convert::vote_out(vote)),
    };
    Ok(wire::AppendReply { result: Some(result) })
}

fn append_request(request: wire::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: convert::vote_in(request.vote)?,
        prev_log_id: request.previous.map(convert::log_id_in),
        entries: request
            .entries
            .into_iter()
            .map(convert::entry_in)
            .collect::<Result<_, _>>()?,
        leader_commit: request.leader_commit.map(convert::log_id_in),
    })
}

/// What every request of a stream is held against.
struct Check {
    node: NodeId,
    cluster: u128,
    contact: Contact,
    room: Arc<dyn Fn() -> Room + Send + Sync>,
}

/// A node without room accepts nothing that its disk could not take.
fn refuse_without_room(node: NodeId, room: Room) -> Result<(), Status> {
    if room == Room::Out {
        return Err(Status::resource_exhausted(format!("the disk of node {node} is full")));
    }
    Ok(())
}

/// The requests of a stream up to the first that is not in order; why it is not goes into `refusal`.
fn checked(
    requests: Streaming<wire::AppendRequest>,
    check: Check,
    refusal: Arc<Mutex<Option<Status>>>,
) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static {
    requests
        .map(move |request| {
            let request = request?;
            check_header(check.node, check.cluster, request.header)?;
            check.contact.touch();
            failpoint!("peer.append.received", stopped);
            // Heartbeats need no room, and the leader must go on being known.
            if !request.entries.is_empty() {
                refuse_without_room(check.node, (check.room)())?;
            }
            append_request(request).map_err(invalid)
        })
        .scan(refusal, |refusal, request: Result<_, Status>| {
            let accepted = request.map_err(|status| *refusal.lock() = Some(status)).ok();
            futures::future::ready(accepted)
        })
}

#[tonic::async_trait]
impl Peer for PeerServer {
    async fn hello(&self, request: Request<wire::HelloRequest>) -> Result<Response<wire::HelloReply>, Status> {
        failpoint!("peer.hello.received", stopped);
        let request = request.into_inner();
        tracing::debug!(from = request.from, "hello");
        let mut reply = wire::HelloReply {
            node: self.node,
            cluster: self.cluster.borrow().map(convert::cluster_out),
            initialised: self.store.log().bounds().last.is_some(),
            members: Vec::new(),
            configured: self.configured.clone(),
            predecessor: self
                .store
                .identity()
                .and_then(|identity| identity.predecessor)
                .map(convert::cluster_out),
            last_log: self
                .store
                .log()
                .bounds()
                .last
                .map(|last| convert::log_id_out(convert::log_id(last))),
            leader: 0,
            standing: None,
            next_node: 0,
            witnessed_vote: None,
            witnessed_log: None,
        };
        if let Some(running) = self.running.get() {
            reply.initialised = running.raft.is_initialized().await.map_err(stopped)?;
            let metrics = running.raft.server_metrics();
            let membership = openraft::async_runtime::WatchReceiver::borrow_watched(&metrics)
                .membership_config
                .clone();
            reply.members = membership.nodes().map(|(id, _)| *id).collect();
            reply.leader = match *running.lead.borrow() {
                Lead::Nobody { .. } => 0,
                Lead::Me { .. } => self.node,
                Lead::Other { node, .. } => node,
            };
            let state = running.membership.state.lock();
            reply.standing = Some(Standing::out(&state.core, request.from));
            reply.next_node = state.core.next_node_id();
            if let Some(witness) = running.witnesses.of(&running.raft, request.from) {
                reply.witnessed_vote = Some(convert::vote_out(witness.vote));
                reply.witnessed_log = witness.log.map(convert::log_id_out);
            }
        }
        Ok(Response::new(reply))
    }

    async fn bootstrap(
        &self,
        request: Request<wire::BootstrapRequest>,
    ) -> Result<Response<wire::BootstrapReply>, Status> {
        let request = request.into_inner();
        self.for_this_node(request.to)?;
        let cluster = request.cluster.map(convert::cluster_in).unwrap_or_default();
        if cluster == 0 {
            return Err(Status::invalid_argument("the cluster id is missing"));
        }
        self.bind(cluster).await?;
        tracing::info!(node = self.node, from = request.from, "bound to cluster {cluster:032x}");
        Ok(Response::new(wire::BootstrapReply {}))
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteReply>, Status> {
        let request = request.into_inner();
        let running = self.admit_voting(request.header)?;
        metrics::counter!("muster_raft_vote_requests_total").increment(1);
        failpoint!("peer.vote.received", stopped);
        let voted = running.raft.vote(vote_request(request)?).await;
        failpoint!("peer.vote.before_answer", stopped);
        voted.map(vote_reply).map_err(stopped)
    }

    async fn pre_vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteReply>, Status> {
        let request = request.into_inner();
        let running = self.admit_voting(request.header)?;
        failpoint!("peer.pre_vote.received", stopped);
        running
            .raft
            .pre_vote(vote_request(request)?)
            .await
            .map(vote_reply)
            .map_err(stopped)
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderReply>, Status> {
        let request = request.into_inner();
        let running = self.admit_voting(request.header)?;
        let from = convert::vote_in(request.from_leader).map_err(invalid)?;
        let message = TransferLeaderRequest::new(from, request.to_node, request.last_log.map(convert::log_id_in));
        failpoint!("peer.transfer_leader.received", stopped);
        let outcome = running.raft.handle_transfer_leader(message).await.map_err(stopped)?;
        failpoint!("peer.transfer_leader.before_answer", stopped);
        Ok(Response::new(wire::TransferLeaderReply {
            refused: outcome.err().map(|error| error.to_string()).unwrap_or_default(),
        }))
    }

    type AppendStream = BoxStream<'static, Result<wire::AppendReply, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let running = self.running()?;
        let refusal = Arc::new(Mutex::new(None));
        let store = self.store.clone();
        let check = Check {
            node: self.node,
            cluster: running.cluster,
            contact: self.contact.clone(),
            room: Arc::new(move || store.room()),
        };
        let requests = checked(request.into_inner(), check, refusal.clone());
        let replies = running.raft.stream_append(requests).map(|appended| {
            failpoint!("peer.append.before_answer", stopped);
            append_reply(appended)
        });
        let end = futures::stream::once(async move { refusal.lock().take() });
        let end = end.filter_map(|status| async move { status.map(Err) });
        Ok(Response::new(replies.chain(end).boxed()))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotPart>>,
    ) -> Result<Response<wire::SnapshotReply>, Status> {
        let mut parts = request.into_inner();
        let first = parts
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("the snapshot is empty"))?;
        let head = first
            .head
            .clone()
            .ok_or_else(|| Status::invalid_argument("the snapshot has no head"))?;
        let (running, from) = self.admit(head.header)?;
        let failed = |err: muster_store::Error| Status::internal(err.to_string());
        refuse_without_room(self.node, self.store.room_for(head.bytes))?;
        let _turn = self.turn()?;
        self.contact.touch();
        failpoint!("peer.snapshot.received", stopped);
        let path = self.store.state().receiving_path(from, head.id).map_err(failed)?;
        let bytes = transfer::receive(parts, &path, head.offset, first).await?;
        if bytes != head.bytes {
            return Err(Status::data_loss(format!(
                "the snapshot has {bytes} bytes, {} were announced",
                head.bytes
            )));
        }
        tracing::info!(node = self.node, from, bytes, "snapshot received");
        failpoint!("peer.snapshot.before_check", stopped);
        self.check_snapshot(path.clone()).await?;
        failpoint!("peer.snapshot.before_install", stopped);
        let stored = head.membership.unwrap_or_default();
        let meta = SnapshotMeta {
            last_log_id: head.last_log.map(convert::log_id_in),
            last_membership: convert::stored_membership_in(stored).map_err(invalid)?,
        };
        let snapshot = SnapshotData::Received(path);
        let vote = convert::vote_in(head.vote).map_err(invalid)?;
        let snapshot = openraft::Snapshot { meta, snapshot };
        let response = running
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(stopped)?;
        failpoint!("peer.snapshot.before_answer", stopped);
        Ok(Response::new(wire::SnapshotReply {
            vote: Some(convert::vote_out(response.vote)),
        }))
    }

    async fn snapshot_offset(
        &self,
        request: Request<wire::SnapshotOffsetRequest>,
    ) -> Result<Response<wire::SnapshotOffsetReply>, Status> {
        let request = request.into_inner();
        let (_, from) = self.admit(request.header)?;
        failpoint!("peer.snapshot_offset.received", stopped);
        // Asking makes room by removing what another sender left, which must not be under way.
        let _turn = self.turn()?;
        let path = self.store.state().receiving_path(from, request.id);
        let path = path.map_err(|err| Status::internal(err.to_string()))?;
        Ok(Response::new(wire::SnapshotOffsetReply {
            offset: transfer::received_bytes(&path).await,
        }))
    }

    type ProposeStream = BoxStream<'static, Result<wire::ProposeReply, Status>>;

    async fn propose(
        &self,
        request: Request<Streaming<wire::ProposeRequest>>,
    ) -> Result<Response<Self::ProposeStream>, Status> {
        let running = self.running()?.clone();
        let node = self.node;
        let check = move |header| check_header(node, running.cluster, header).map(|_| ());
        let running = self.running()?.clone();
        Ok(Response::new(forwarded::serve(running, request.into_inner(), check)))
    }

    async fn read_index(
        &self,
        request: Request<wire::ReadIndexRequest>,
    ) -> Result<Response<wire::ReadIndexReply>, Status> {
        let (running, _) = self.admit(request.into_inner().header)?;
        failpoint!("peer.read_index.received", stopped);
        let (reply, answer) = oneshot::channel();
        let call = ReadCall {
            deadline: Instant::now() + READ_DEADLINE,
            forwarded: true,
            reply,
        };
        running.reads.send(call).map_err(stopped)?;
        let index = answer
            .await
            .map_err(stopped)?
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(wire::ReadIndexReply { index }))
    }

    async fn vouch(&self, request: Request<wire::VouchRequest>) -> Result<Response<wire::VouchReply>, Status> {
        let request = request.into_inner();
        let (running, from) = self.admit(request.header)?;
        self.leads(running)?;
        failpoint!("peer.vouch.received", stopped);
        let sessions: Vec<_> = request.sessions.into_iter().map(session_in).collect();
        running.sink.vouched(from, &sessions);
        Ok(Response::new(wire::VouchReply {}))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinReply>, Status> {
        let request = request.into_inner();
        let (running, from) = self.admit(request.header)?;
        failpoint!("peer.join.received", stopped);
        let outcome = joins::join(&running.membership, from, request).await?;
        failpoint!("peer.join.before_answer", stopped);
        Ok(Response::new(wire::JoinReply { outcome: Some(outcome) }))
    }

    async fn progress(&self, request: Request<wire::ProgressRequest>) -> Result<Response<wire::ProgressReply>, Status> {
        let (running, _) = self.admit(request.into_inner().header)?;
        self.leads(running)?;
        Ok(Response::new(joins::progress(&running.membership)))
    }

    async fn hand_over(
        &self,
        request: Request<wire::HandOverRequest>,
    ) -> Result<Response<wire::HandOverReply>, Status> {
        let request = request.into_inner();
        let (running, _) = self.admit(request.header)?;
        self.leads(running)?;
        failpoint!("peer.hand_over.received", stopped);
        let outcome = membership::hand_over(&running.membership, request.to_node).await;
        Ok(Response::new(joins::hand_over_out(outcome)))
    }

    async fn exchange(&self, request: Request<wire::ExchangeRequest>) -> Result<Response<wire::ExchangeReply>, Status> {
        let request = request.into_inner();
        let (running, from) = self.admit(request.header)?;
        failpoint!("peer.exchange.received", stopped);
        running.facts.note(from, request.facts.unwrap_or_default());
        Ok(Response::new(wire::ExchangeReply {
            facts: Some(running.facts.own()),
        }))
    }

    async fn log_end(&self, request: Request<wire::LogEndRequest>) -> Result<Response<wire::LogEndReply>, Status> {
        let (running, _) = self.admit(request.into_inner().header)?;
        failpoint!("peer.log_end.received", stopped);
        let last = log_end(&running.raft, &self.store).await.map_err(stopped)?;
        let last = last.ok_or_else(|| Status::unavailable(format!("node {} is not the leader", self.node)))?;
        Ok(Response::new(wire::LogEndReply {
            last_log: Some(convert::log_id_out(last)),
        }))
    }
}

fn session_in(id: wire::SessionId) -> SessionId {
    SessionId(u128::from(id.high) << 64 | u128::from(id.low))
}

pub(crate) fn session_out(id: SessionId) -> wire::SessionId {
    wire::SessionId {
        high: (id.0 >> 64) as u64,
        low: id.0 as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cluster: u128, group: u32, to: NodeId) -> wire::Header {
        wire::Header {
            cluster: Some(convert::cluster_out(cluster)),
            group,
            from: 2,
            to,
        }
    }

    #[test]
    fn only_messages_for_this_node_of_this_cluster_pass() {
        let cluster = 0xabc_0000_0000_0000_0000_0001;
        assert_eq!(check_header(1, cluster, Some(header(cluster, GROUP, 1))).ok(), Some(2));
        let refused = [
            (None, "no header"),
            (Some(header(5, GROUP, 1)), "cluster 00000000000000000000000000000005"),
            (Some(header(cluster, GROUP, 3)), "for node 3"),
            (Some(header(cluster, 2, 1)), "group 2"),
        ];
        for (header, text) in refused {
            let status = check_header(1, cluster, header)
                .err()
                .map(|status| status.message().to_owned());
            assert!(
                status.as_ref().is_some_and(|message| message.contains(text)),
                "{status:?} lacks {text:?}"
            );
        }
    }
}

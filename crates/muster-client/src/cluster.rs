//! The cluster: its members, how they change, who leads.

use std::future::Future;
use std::time::{Duration, SystemTime};

use muster_proto::v1;
use muster_proto::v1::cluster_service_client::ClusterServiceClient;
use serde::Serialize;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::call::RequestId;
use crate::client::Client;
use crate::error::Result;
use crate::views::{duration, rfc3339, time};

/// The cluster as the answering node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// 32 hexadecimal digits.
    pub cluster_id: String,
    /// The node that answered.
    pub node_id: u64,
    /// Raft term.
    pub term: u64,
    /// `None`: no leader known.
    pub leader_id: Option<u64>,
    /// Last entry in the node's log.
    pub last_log_index: u64,
    /// Last entry known to be on a majority.
    pub committed_index: u64,
    /// Last entry applied by the node.
    pub applied_index: u64,
    /// All nodes.
    pub members: Vec<MemberInfo>,
    /// Version of the answering node.
    pub version: String,
    /// Live jobs that wait for their time.
    pub scheduled: u64,
    /// Live jobs that wait for an earlier one of their ordering key.
    pub blocked: u64,
    /// Live jobs that may start.
    pub available: u64,
    /// Live jobs under lease.
    pub running: u64,
    /// Live jobs that wait for their backoff.
    pub retrying: u64,
    /// Rolling hash of the replicated state at `applied_index`.
    pub state_hash: u64,
    /// What an acknowledgement means, e.g. `synced on a majority`.
    pub durability: String,
    /// Log index of the membership that the node knows.
    pub membership_index: u64,
    /// The membership is between two: a change is half-way.
    pub joint: bool,
    /// The change of the membership under way.
    pub change: Option<MembershipChange>,
    /// The change that ended last.
    pub last_change: Option<MembershipChange>,
    /// The lowest node id above all that were ever used.
    pub next_node_id: u64,
    /// The data of the node that answered.
    pub storage: StorageInfo,
    /// What live jobs take of memory.
    pub memory: JobsMemory,
}

/// Memory of live jobs. Every node holds all of them, so the smallest node decides how much they may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JobsMemory {
    /// Bytes that they take, about.
    pub used_bytes: u64,
    /// Bytes that they may take; 0: not bounded. Nearly full, the greediest tenants are refused (`MEMORY_FULL`), in the end all.
    pub limit_bytes: u64,
}

impl From<v1::JobsMemory> for JobsMemory {
    fn from(memory: v1::JobsMemory) -> Self {
        Self {
            used_bytes: memory.used_bytes,
            limit_bytes: memory.limit_bytes,
        }
    }
}

/// What a node says of its own data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StorageInfo {
    /// It was damaged and is being got anew from the other nodes; until then the node neither votes nor leads.
    pub refilling: bool,
    /// Room on its disk: `enough`, `low` (less than the reserve), `out` (less than a fourth of it) or `unknown`.
    pub room: &'static str,
    /// Bytes that the node may still write.
    pub disk_free_bytes: u64,
    /// Bytes that are to stay free.
    pub disk_reserve_bytes: u64,
}

impl From<v1::NodeStorage> for StorageInfo {
    fn from(storage: v1::NodeStorage) -> Self {
        Self {
            refilling: storage.refilling,
            room: match storage.room() {
                v1::node_storage::Room::Enough => "enough",
                v1::node_storage::Room::Low => "low",
                v1::node_storage::Room::Out => "out",
                v1::node_storage::Room::Unspecified => "unknown",
            },
            disk_free_bytes: storage.disk_free_bytes,
            disk_reserve_bytes: storage.disk_reserve_bytes,
        }
    }
}

/// A node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemberInfo {
    /// Identity.
    pub node_id: u64,
    /// Where it serves clients.
    pub api_address: String,
    /// Where it serves its peers.
    pub peer_address: String,
    /// `leader`, `follower`, `learner` or `unknown`.
    pub role: &'static str,
    /// How far its log matches the leader's; known to the leader alone.
    pub matched_index: Option<u64>,
    /// Did it answer lately; known to the leader alone.
    pub reachable: Option<bool>,
    /// It takes no worker sessions and leads only if nobody else can.
    pub drained: bool,
    /// Why it is drained.
    pub drain_note: String,
    /// Worker sessions that it holds.
    pub worker_sessions: u32,
}

/// A change of the membership.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MembershipChange {
    /// Log index of its acceptance.
    pub id: u64,
    /// In words, e.g. `add node 4`.
    pub change: String,
    /// The node that it is about; of a replacement the one that comes.
    pub node_id: u64,
    /// When it was accepted, by the cluster's time.
    #[serde(serialize_with = "rfc3339")]
    pub begun_at: Option<SystemTime>,
    /// When it ended, by the cluster's time.
    #[serde(serialize_with = "rfc3339")]
    pub ended_at: Option<SystemTime>,
    /// `under way`, `aborting`, `done` or `undone`.
    pub outcome: &'static str,
    /// Why it was, or is to be, given up.
    pub reason: String,
    /// What the leader does about it; known to the leader alone.
    pub stage: String,
}

impl MembershipChange {
    /// The membership is as asked for.
    pub fn is_done(&self) -> bool {
        self.outcome == "done"
    }
}

impl From<v1::MembershipChange> for MembershipChange {
    fn from(change: v1::MembershipChange) -> Self {
        use v1::membership_change::Outcome;
        Self {
            outcome: match change.outcome() {
                Outcome::UnderWay => "under way",
                Outcome::Aborting => "aborting",
                Outcome::Done => "done",
                Outcome::Undone => "undone",
                Outcome::Unspecified => "unknown",
            },
            id: change.id,
            change: change.change,
            node_id: change.node_id,
            begun_at: time(change.begun_at),
            ended_at: time(change.ended_at),
            reason: change.reason,
            stage: change.stage,
        }
    }
}

impl From<v1::GetStatusResponse> for ClusterStatus {
    fn from(status: v1::GetStatusResponse) -> Self {
        Self {
            cluster_id: status.cluster_id,
            node_id: status.node_id,
            term: status.term,
            leader_id: (status.leader_id != 0).then_some(status.leader_id),
            last_log_index: status.last_log_index,
            committed_index: status.committed_index,
            applied_index: status.applied_index,
            members: status
                .members
                .into_iter()
                .map(|member| MemberInfo {
                    role: match member.role() {
                        v1::member::Role::Leader => "leader",
                        v1::member::Role::Follower => "follower",
                        v1::member::Role::Learner => "learner",
                        v1::member::Role::Unspecified => "unknown",
                    },
                    node_id: member.node_id,
                    api_address: member.api_address,
                    peer_address: member.peer_address,
                    matched_index: member.matched_index,
                    reachable: member.reachable,
                    drained: member.drained,
                    drain_note: member.drain_note,
                    worker_sessions: member.worker_sessions,
                })
                .collect(),
            version: status.version,
            scheduled: status.scheduled,
            blocked: status.blocked,
            available: status.available,
            running: status.running,
            retrying: status.retrying,
            state_hash: status.state_hash,
            durability: status.durability,
            membership_index: status.membership_index,
            joint: status.joint,
            change: status.change.map(MembershipChange::from),
            last_change: status.last_change.map(MembershipChange::from),
            next_node_id: status.next_node_id,
            storage: status.storage.unwrap_or_default().into(),
            memory: status.memory.unwrap_or_default().into(),
        }
    }
}

/// A new node that is to join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewNode {
    /// Its id: from 1, never used before.
    pub node_id: u64,
    /// Life of the token; `None`: 15 minutes.
    pub ttl: Option<Duration>,
    /// It stays a learner.
    pub learner: bool,
    /// The voter whose place it takes.
    pub replaces: Option<u64>,
    /// Where it must be for other nodes, `host:port`; empty: where its configuration says.
    pub peer_address: String,
    /// Where it must be for clients; likewise.
    pub api_address: String,
}

/// The permission for a node to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// To be given to the new node. A secret; the cluster does not keep it.
    pub token: String,
    /// When it becomes useless, by the cluster's time.
    pub expires_at: Option<SystemTime>,
}

/// A join token that is neither used nor revoked nor expired, without its secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JoinTokenInfo {
    /// Node that may join.
    pub node_id: u64,
    /// When it was made.
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Option<SystemTime>,
    /// When it becomes useless.
    #[serde(serialize_with = "rfc3339")]
    pub expires_at: Option<SystemTime>,
    /// The node stays a learner.
    pub learner: bool,
    /// The voter whose place it takes.
    pub replaces: Option<u64>,
}

impl Client {
    /// Members, roles and positions, as the node that answers sees them: the leader when it can be reached.
    pub async fn cluster_status(&self) -> Result<ClusterStatus> {
        let response = self
            .call(|channel, envelope| async move {
                ClusterServiceClient::new(channel)
                    .get_status(envelope.wrap(v1::GetStatusRequest {}))
                    .await
            })
            .await?;
        Ok(response.into())
    }

    /// Lets one new node join, once. A repeat makes another token, so an unknown outcome does no harm.
    pub async fn create_join_token(&self, node: &NewNode) -> Result<JoinToken> {
        let message = v1::CreateJoinTokenRequest {
            node_id: node.node_id,
            ttl: node.ttl.and_then(duration),
            learner: node.learner,
            replaces_node_id: node.replaces.unwrap_or_default(),
            peer_address: node.peer_address.clone(),
            api_address: node.api_address.clone(),
        };
        let response = self
            .call(|channel, envelope| {
                let request = envelope.wrap(message.clone());
                async move { ClusterServiceClient::new(channel).create_join_token(request).await }
            })
            .await?;
        Ok(JoinToken {
            token: response.token,
            expires_at: time(response.expires_at),
        })
    }

    /// Join tokens that can still be used.
    pub async fn join_tokens(&self) -> Result<Vec<JoinTokenInfo>> {
        let response = self
            .call(|channel, envelope| async move {
                ClusterServiceClient::new(channel)
                    .list_join_tokens(envelope.wrap(v1::ListJoinTokensRequest {}))
                    .await
            })
            .await?;
        let info = |token: v1::JoinToken| JoinTokenInfo {
            node_id: token.node_id,
            created_at: time(token.created_at),
            expires_at: time(token.expires_at),
            learner: token.learner,
            replaces: (token.replaces_node_id != 0).then_some(token.replaces_node_id),
        };
        Ok(response.tokens.into_iter().map(info).collect())
    }

    /// Makes all tokens for a node useless.
    pub async fn revoke_join_token(&self, node_id: u64) -> Result<()> {
        let message = v1::RevokeJoinTokenRequest { node_id };
        self.cluster_call(
            |mut service, request| async move { service.revoke_join_token(request).await },
            message,
        )
        .await
        .map(drop)
    }

    /// Takes a member out; returns the change that began. [`Client::cluster_status`] shows how it goes.
    pub async fn remove_node(&self, node_id: u64) -> Result<u64> {
        let message = v1::RemoveNodeRequest { node_id };
        self.cluster_call(
            |mut service, request| async move { service.remove_node(request).await },
            message,
        )
        .await
        .map(|response| response.change_id)
    }

    /// Gives a learner a vote; returns the change that began.
    pub async fn promote_node(&self, node_id: u64) -> Result<u64> {
        let message = v1::PromoteNodeRequest { node_id };
        self.cluster_call(
            |mut service, request| async move { service.promote_node(request).await },
            message,
        )
        .await
        .map(|response| response.change_id)
    }

    /// Takes the vote from a voter; returns the change that began.
    pub async fn demote_node(&self, node_id: u64) -> Result<u64> {
        let message = v1::DemoteNodeRequest { node_id };
        self.cluster_call(
            |mut service, request| async move { service.demote_node(request).await },
            message,
        )
        .await
        .map(|response| response.change_id)
    }

    /// Says where a member is to be found; what is empty stays. Returns the change that began; 0: it is there already.
    pub async fn set_node_address(&self, node_id: u64, peer_address: &str, api_address: &str) -> Result<u64> {
        let message = v1::SetNodeAddressRequest {
            node_id,
            peer_address: peer_address.to_owned(),
            api_address: api_address.to_owned(),
        };
        self.cluster_call(
            |mut service, request| async move { service.set_node_address(request).await },
            message,
        )
        .await
        .map(|response| response.change_id)
    }

    /// Gives up the change of the membership under way; what has gone too far is completed. `change_id` 0: whichever it is.
    pub async fn abort_change(&self, change_id: u64, reason: &str) -> Result<()> {
        let message = v1::AbortChangeRequest {
            change_id,
            reason: reason.to_owned(),
        };
        self.cluster_call(
            |mut service, request| async move { service.abort_change(request).await },
            message,
        )
        .await
        .map(drop)
    }

    /// Has a node hand over the lead and its worker sessions and take no new ones. `note` (at most 1 KiB) tells the next
    /// operator why.
    pub async fn drain_node(&self, node_id: u64, note: &str) -> Result<()> {
        let message = v1::DrainNodeRequest {
            node_id,
            note: note.to_owned(),
        };
        self.cluster_call(
            |mut service, request| async move { service.drain_node(request).await },
            message,
        )
        .await
        .map(drop)
    }

    /// Ends a drain.
    pub async fn undrain_node(&self, node_id: u64) -> Result<()> {
        let message = v1::UndrainNodeRequest { node_id };
        self.cluster_call(
            |mut service, request| async move { service.undrain_node(request).await },
            message,
        )
        .await
        .map(drop)
    }

    /// Has a voter take the lead. `Ok`: it leads.
    pub async fn transfer_leader(&self, node_id: u64) -> Result<()> {
        let message = v1::TransferLeaderRequest { node_id };
        self.cluster_call(
            |mut service, request| async move { service.transfer_leader(request).await },
            message,
        )
        .await
        .map(drop)
    }

    /// A call that changes something: all of its attempts are one request.
    async fn cluster_call<Q, A, Fut>(
        &self,
        send: impl Fn(ClusterServiceClient<Channel>, Request<Q>) -> Fut,
        message: Q,
    ) -> Result<A>
    where
        Q: Clone,
        Fut: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        let id = RequestId::new();
        self.call(|channel, envelope| {
            send(
                ClusterServiceClient::new(channel),
                envelope.wrap_as(id, message.clone()),
            )
        })
        .await
    }

    /// The status as the node at `address` alone sees it, for a look at each node in turn.
    pub async fn node_status(&self, address: &str) -> Result<ClusterStatus> {
        let client = Self::builder()
            .addresses([address])
            .tenant(self.tenant())
            .deadline(self.members().timing().attempt)
            .connect_lazy()?;
        client.cluster_status().await
    }
}

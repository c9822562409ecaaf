//! Connections to the other nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use muster_core::NodeId;
use muster_proto::peer as wire;
use muster_proto::peer::peer_client::PeerClient;
use parking_lot::{Mutex, RwLock};
use tonic::transport::{Channel, Endpoint};

use crate::convert;
use crate::options::{MemberConfig, RaftOptions};
use crate::peer::{GROUP, MESSAGE_BYTES_MAX};
use crate::types::Address;

/// What a connection is for. Each has its own, so that a heartbeat or a vote never queues behind megabytes of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Log entries.
    Log,
    /// Heartbeats, votes, short questions.
    Control,
    /// Snapshots.
    Bulk,
    /// Commands for the leader.
    Commands,
}

pub(crate) type Client = PeerClient<Channel>;

/// Connections of this node, made on first use and kept; a broken one reconnects with the next call. Cheap to clone.
/// To be used on the raft thread's runtime.
#[derive(Clone)]
pub(crate) struct Channels(Arc<Inner>);

struct Inner {
    node: NodeId,
    cluster: OnceLock<u128>,
    /// Nodes that are reached in another way than at their own addresses.
    dial: BTreeMap<NodeId, String>,
    /// Where the membership in force says that nodes are.
    members: RwLock<BTreeMap<NodeId, String>>,
    /// Where the configuration says so.
    configured: BTreeMap<NodeId, String>,
    /// Where they were when this node last knew, if it is being refilled.
    noted: OnceLock<BTreeMap<NodeId, String>>,
    open: Mutex<HashMap<(String, Lane), Channel>>,
    /// Members to which a snapshot is under way.
    sending: Mutex<BTreeSet<NodeId>>,
}

/// A snapshot is under way to a member, until this is dropped.
pub(crate) struct Sending {
    to: NodeId,
    channels: Channels,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.channels.0.sending.lock().remove(&self.to);
    }
}

/// An address that is none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("node {node} has no usable peer address ({address:?}): {reason}")]
pub(crate) struct BadAddress {
    node: NodeId,
    address: String,
    reason: String,
}

impl Inner {
    fn noted(&self) -> &BTreeMap<NodeId, String> {
        static NOBODY: BTreeMap<NodeId, String> = BTreeMap::new();
        self.noted.get().unwrap_or(&NOBODY)
    }
}

impl Channels {
    pub(crate) fn new(options: &RaftOptions) -> Self {
        let configured = options.members.iter().map(|member| (member.id, member.peer.clone()));
        let configured: BTreeMap<_, _> = configured.collect();
        let mut dial = options.dial.clone();
        if options.moved {
            // The membership still names the places that all have left.
            for (node, peer) in &configured {
                dial.entry(*node).or_insert_with(|| peer.clone());
            }
        }
        Self::make(options.node, dial, configured)
    }

    /// Of one that is not a node itself and asks in the name of `from`.
    pub(crate) fn outside(from: NodeId, members: &[MemberConfig]) -> Self {
        let members = members.iter().map(|member| (member.id, member.peer.clone()));
        Self::make(from, BTreeMap::new(), members.collect())
    }

    fn make(node: NodeId, dial: BTreeMap<NodeId, String>, configured: BTreeMap<NodeId, String>) -> Self {
        Self(Arc::new(Inner {
            node,
            cluster: OnceLock::new(),
            dial,
            members: RwLock::default(),
            configured,
            noted: OnceLock::new(),
            open: Mutex::default(),
            sending: Mutex::default(),
        }))
    }

    /// Notes that a snapshot is under way to a member.
    pub(crate) fn begin_sending(&self, to: NodeId) -> Sending {
        self.0.sending.lock().insert(to);
        Sending {
            to,
            channels: self.clone(),
        }
    }

    /// Members to which a snapshot is under way: sent, read or installed. They answer no heartbeat while they install it, and are
    /// not dead.
    pub(crate) fn sending(&self) -> BTreeSet<NodeId> {
        self.0.sending.lock().clone()
    }

    /// Where the members are by the membership in force. Connections to places where nobody is any more are dropped.
    pub(crate) fn set_members(&self, members: BTreeMap<NodeId, String>) {
        let inner = &self.0;
        let known = members
            .values()
            .chain(inner.dial.values())
            .chain(inner.configured.values())
            .chain(inner.noted().values());
        let known: BTreeSet<&String> = known.collect();
        inner.open.lock().retain(|(address, _), _| known.contains(address));
        *inner.members.write() = members;
    }

    /// Sets where the members were when a node that is being refilled last knew; once. Its log may be at a membership that is
    /// long over, or be empty, and those whom it names may all have left.
    pub(crate) fn note(&self, members: BTreeMap<NodeId, String>) {
        let _already = self.0.noted.set(members);
    }

    /// Nodes that could be asked: members, configured ones, and those noted.
    pub(crate) fn known(&self) -> BTreeSet<NodeId> {
        let members = self.0.members.read();
        let other = self.0.configured.keys().chain(self.0.noted().keys());
        members.keys().chain(other).copied().collect()
    }

    /// Sets the cluster that all messages name; once.
    pub(crate) fn bind(&self, cluster: u128) {
        let _already = self.0.cluster.set(cluster);
    }

    /// The header of a message to `to`.
    pub(crate) fn header(&self, to: NodeId) -> wire::Header {
        wire::Header {
            cluster: Some(convert::cluster_out(self.0.cluster.get().copied().unwrap_or_default())),
            group: GROUP,
            from: self.0.node,
            to,
        }
    }

    /// A client for a node. The membership says where it is; the configuration only where to ask first, before there is
    /// one. `logged`: as openraft has it, which may know of a change a moment earlier.
    pub(crate) fn client(&self, node: NodeId, logged: Option<&Address>, lane: Lane) -> Result<Client, BadAddress> {
        let inner = &self.0;
        let member = inner.members.read().get(&node).cloned();
        let address = inner.dial.get(&node).cloned().or(member);
        let address = address
            .or_else(|| logged.map(|member| member.peer.clone()))
            .or_else(|| inner.configured.get(&node).cloned())
            .or_else(|| inner.noted().get(&node).cloned());
        let bad = |reason: String| BadAddress {
            node,
            address: address.clone().unwrap_or_default(),
            reason,
        };
        let address = address
            .as_ref()
            .ok_or_else(|| bad("it is neither a member nor configured".to_owned()))?;
        let mut open = self.0.open.lock();
        let key = (address.clone(), lane);
        let channel = if let Some(channel) = open.get(&key) {
            channel.clone()
        } else {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|err| bad(err.to_string()))?;
            let channel = configure(endpoint).connect_lazy();
            open.insert(key, channel.clone());
            channel
        };
        Ok(PeerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}

fn configure(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        // A peer that vanished without a word must not hold a stream open for ever.
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
}

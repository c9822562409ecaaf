//! Connections to the other nodes.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use muster_core::NodeId;
use muster_proto::peer as wire;
use muster_proto::peer::peer_client::PeerClient;
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::convert;
use crate::options::MemberConfig;
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
    configured: HashMap<NodeId, String>,
    open: Mutex<HashMap<(String, Lane), Channel>>,
}

/// An address that is none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("node {node} has no usable peer address ({address:?}): {reason}")]
pub(crate) struct BadAddress {
    node: NodeId,
    address: String,
    reason: String,
}

impl Channels {
    pub(crate) fn new(node: NodeId, members: &[MemberConfig]) -> Self {
        Self(Arc::new(Inner {
            node,
            cluster: OnceLock::new(),
            configured: members.iter().map(|member| (member.id, member.peer.clone())).collect(),
            open: Mutex::default(),
        }))
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

    /// A client for a node. The configuration says where it is; the membership in the log does, for nodes not in it.
    pub(crate) fn client(&self, node: NodeId, logged: Option<&Address>, lane: Lane) -> Result<Client, BadAddress> {
        let address = self.0.configured.get(&node).or(logged.map(|member| &member.peer));
        let bad = |reason: String| BadAddress {
            node,
            address: address.cloned().unwrap_or_default(),
            reason,
        };
        let address = address.ok_or_else(|| bad("not configured".to_owned()))?;
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

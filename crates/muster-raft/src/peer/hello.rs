//! Asking a node who it is, and what it knows of the one that asks.

use std::time::Duration;

use muster_core::{Core, NodeId, NodeState};
use muster_proto::peer as wire;
use tonic::Request;

use crate::convert;
use crate::error::Error;
use crate::peer::{Channels, Lane};
use crate::witness::Witness;

/// One question to one node.
pub(crate) const ASK: Duration = Duration::from_secs(1);

/// What a node says of itself, and of the one that asks.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) node: NodeId,
    pub(crate) cluster: Option<u128>,
    /// The cluster that its cluster took the place of.
    pub(crate) predecessor: Option<u128>,
    pub(crate) initialised: bool,
    pub(crate) members: Vec<NodeId>,
    pub(crate) configured: Vec<NodeId>,
    /// `None`: it does not take part itself, so it cannot say.
    pub(crate) standing: Option<Standing>,
    /// The lowest id above all that were ever used; 0: not known.
    pub(crate) next_node: NodeId,
    /// What it has seen of the one that asks.
    pub(crate) witness: Option<Witness>,
}

/// What a member's applied state says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing.
    Unknown,
    /// It is a member, or about to become one, and is to be found there.
    Belongs { peer: String, api: String },
    /// It was a member until this log index.
    Removed { index: u64 },
}

impl Standing {
    pub(crate) fn out(core: &Core, node: NodeId) -> wire::Standing {
        use wire::standing::State;
        let Some(row) = core.node(node) else {
            return wire::Standing::default();
        };
        let state = match row.state {
            NodeState::Joining => State::Joining,
            NodeState::Member => State::Member,
            NodeState::Removed => State::Removed,
        };
        wire::Standing {
            state: state.into(),
            peer: row.peer.to_string(),
            api: row.api.to_string(),
            since_index: row.since_index,
        }
    }

    fn read(standing: wire::Standing) -> Self {
        use wire::standing::State;
        match standing.state() {
            State::Unknown => Self::Unknown,
            State::Joining | State::Member => Self::Belongs {
                peer: standing.peer,
                api: standing.api,
            },
            State::Removed => Self::Removed {
                index: standing.since_index,
            },
        }
    }
}

/// `None` when it does not answer; an error when another node answers in its place.
pub(crate) async fn hello(channels: &Channels, from: NodeId, to: NodeId) -> Result<Option<Hello>, Error> {
    let Ok(mut client) = channels.client(to, None, Lane::Control) else {
        return Ok(None);
    };
    let request = wire::HelloRequest { from, to };
    let Ok(Ok(reply)) = tokio::time::timeout(ASK, client.hello(Request::new(request))).await else {
        return Ok(None);
    };
    let reply = reply.into_inner();
    if reply.node != to {
        return Err(Error::WrongNode {
            expected: to,
            actual: reply.node,
        });
    }
    Ok(Some(Hello {
        node: to,
        cluster: reply.cluster.map(convert::cluster_in),
        predecessor: reply.predecessor.map(convert::cluster_in),
        initialised: reply.initialised,
        members: reply.members,
        configured: reply.configured,
        standing: reply.standing.map(Standing::read),
        next_node: reply.next_node,
        witness: Witness::from_wire(reply.witnessed_vote, reply.witnessed_log),
    }))
}

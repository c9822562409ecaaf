//! Commands about nodes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::row::{ChangeOutcome, TokenHash};
use crate::ids::{LogIndex, Millis, Name, NodeId};

/// A command about nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterCommand {
    /// Lets one new node join, once, within `ttl`. By the API, for an operator. Several tokens for one id may be
    /// outstanding, at most 64 in all; the first that is used makes the others useless.
    /// Refused if the id was ever used, or if the node to be replaced is not a voter.
    CreateJoinToken {
        /// Id of the node that may join.
        node: NodeId,
        /// SHA-256 of the token's secret.
        hash: TokenHash,
        /// Life of the token, 1 minute to 24 hours.
        ttl: Millis,
        /// The node becomes a voter once it has caught up; otherwise it stays a learner.
        voter: bool,
        /// The voter whose place it takes; 0: none.
        replaces: NodeId,
        /// Where it must be for other nodes; empty: where it says it is.
        peer: Name,
        /// Where it must be for clients; empty: where it says it is.
        api: Name,
    },
    /// Makes all tokens for an id useless. By the API.
    RevokeJoinToken {
        /// The id.
        node: NodeId,
    },
    /// A new node presents its token: the token is used up, its id taken for ever, and the change that brings it in
    /// begins. By the member that the new node asked. A repeat from the same data directory is answered as before.
    /// Refused while another change is under way; the token stays good then.
    Join {
        /// Its id.
        node: NodeId,
        /// SHA-256 of the secret that it showed.
        hash: TokenHash,
        /// Random number of its data directory.
        instance: u128,
        /// Where it is for other nodes.
        peer: Name,
        /// Where it is for clients.
        api: Name,
    },
    /// Begins a change of the membership other than those that begin with a join. By the API.
    /// Refused while another is under way, for an unknown node, and if no voter would be left.
    Change(MembershipChange),
    /// Gives up the change under way, as far as it can still be given up. By the API, or by the leader for a node that
    /// does not come.
    AbortChange {
        /// Its id.
        change: LogIndex,
        /// Why.
        reason: Name,
    },
    /// The change is through. By the leader, once the membership is as it should be.
    EndChange {
        /// Its id.
        change: LogIndex,
        /// What came of it.
        outcome: ChangeOutcome,
    },
    /// A drained node leads only if nobody else can, and takes no worker sessions. By the API.
    /// Refused if no other voter would be left undrained.
    Drain {
        /// The node.
        node: NodeId,
        /// Drain it, or end that.
        drained: bool,
        /// Why, for the next operator.
        note: Name,
    },
}

/// A change of the membership. One at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipChange {
    /// A new node: a learner first; a voter once it has caught up, if it is to be one.
    Add {
        /// The node.
        node: NodeId,
        /// Whether it is to vote.
        voter: bool,
    },
    /// A new node takes a voter's place in one step of joint consensus, once it has caught up.
    Replace {
        /// The voter that goes.
        old: NodeId,
        /// The node that comes.
        new: NodeId,
    },
    /// A learner becomes a voter.
    Promote {
        /// The node.
        node: NodeId,
    },
    /// A voter becomes a learner.
    Demote {
        /// The node.
        node: NodeId,
    },
    /// A member leaves, its worker sessions first.
    Remove {
        /// The node.
        node: NodeId,
    },
    /// A member is to be found elsewhere.
    SetAddress {
        /// The node.
        node: NodeId,
        /// For other nodes.
        peer: Name,
        /// For clients.
        api: Name,
    },
}

impl MembershipChange {
    /// The node that it is about; of a replacement the one that comes.
    pub fn node(&self) -> NodeId {
        match self {
            Self::Add { node, .. }
            | Self::Promote { node }
            | Self::Demote { node }
            | Self::Remove { node }
            | Self::SetAddress { node, .. } => *node,
            Self::Replace { new, .. } => *new,
        }
    }

    /// The node that is no member after it.
    pub fn leaves(&self) -> Option<NodeId> {
        match self {
            Self::Remove { node } => Some(*node),
            Self::Replace { old, .. } => Some(*old),
            Self::Add { .. } | Self::Promote { .. } | Self::Demote { .. } | Self::SetAddress { .. } => None,
        }
    }
}

/// For people: `add node 4`.
impl fmt::Display for MembershipChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { node, voter: true } => write!(f, "add node {node}"),
            Self::Add { node, voter: false } => write!(f, "add node {node} as a learner"),
            Self::Replace { old, new } => write!(f, "replace node {old} by node {new}"),
            Self::Promote { node } => write!(f, "promote node {node}"),
            Self::Demote { node } => write!(f, "demote node {node}"),
            Self::Remove { node } => write!(f, "remove node {node}"),
            Self::SetAddress { node, peer, api } => write!(f, "set the address of node {node} to {peer} and {api}"),
        }
    }
}

//! Why a command about nodes was refused.

use serde::{Deserialize, Serialize};

use crate::ids::{LogIndex, Name, NodeId, Timestamp};

/// Why a command about nodes was refused; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ClusterRefusal {
    /// The id belongs or belonged to a node.
    #[error("the id {node} was used before and is never used again; the next free one is {next}")]
    NodeIdUsed {
        /// The id.
        node: NodeId,
        /// The lowest above all used ones.
        next: NodeId,
    },
    /// No member has this id.
    #[error("there is no node {node} in the cluster")]
    UnknownNode {
        /// The id.
        node: NodeId,
    },
    /// The node is no member any more.
    #[error("node {node} was removed from the cluster at log index {index}")]
    NodeRemoved {
        /// The id.
        node: NodeId,
        /// When.
        index: LogIndex,
    },
    /// No such token, or it is revoked.
    #[error("this token does not let node {node} join: it is unknown, revoked, or made for another cluster")]
    TokenUnknown {
        /// The node that showed it.
        node: NodeId,
    },
    /// The token is too old.
    #[error("the token for node {node} expired {ago} ms ago", ago = now.saturating_sub(*at))]
    TokenExpired {
        /// The node that showed it.
        node: NodeId,
        /// When, in replicated time.
        at: Timestamp,
        /// The replicated time of the attempt.
        now: Timestamp,
    },
    /// The token was used from another data directory.
    #[error("the token for node {node} was used before, from another data directory")]
    TokenUsed {
        /// The node that showed it.
        node: NodeId,
    },
    /// More tokens are outstanding than are kept.
    #[error("{limit} join tokens are outstanding; revoke some")]
    TooManyTokens {
        /// The bound.
        limit: usize,
    },
    /// The token was made for a node at another address.
    #[error("node {node} says its {field} is {given}, its token was made for {expected}")]
    AddressUnexpected {
        /// The node.
        node: NodeId,
        /// `peer` or `api`.
        field: Name,
        /// What it says.
        given: Name,
        /// What the token says.
        expected: Name,
    },
    /// Another member is there.
    #[error("{address} is the address of node {node}")]
    AddressTaken {
        /// The address.
        address: Name,
        /// Whose it is.
        node: NodeId,
    },
    /// One change at a time.
    #[error("another change is under way: {change}; wait for it, or give it up with `muster cluster abort`")]
    ChangeUnderWay {
        /// Its id.
        id: LogIndex,
        /// In words.
        change: Name,
    },
    /// That change is not under way.
    #[error("no change with id {id} is under way")]
    NoSuchChange {
        /// The id asked for.
        id: LogIndex,
    },
    /// Nobody could vote any more.
    #[error("node {node} is the last voter; a cluster has at least one")]
    LastVoter {
        /// The node.
        node: NodeId,
    },
    /// It is a learner.
    #[error("node {node} is a learner, not a voter")]
    NotVoter {
        /// The node.
        node: NodeId,
    },
    /// It votes already.
    #[error("node {node} is a voter already")]
    AlreadyVoter {
        /// The node.
        node: NodeId,
    },
    /// Nobody could lead or take workers any more.
    #[error("all other voters are drained; node {node} is the last that can lead")]
    LastUndrained {
        /// The node.
        node: NodeId,
    },
}

//! What is persisted about nodes.

use serde::{Deserialize, Serialize};

use super::command::MembershipChange;
use super::view::Member;
use crate::ids::{LogIndex, Name, NodeId, Timestamp};

/// SHA-256 of a join token's secret.
pub type TokenHash = [u8; 32];

/// A node that is, was, or is about to be a member. Kept for ever: its id is never used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Identity.
    pub node: NodeId,
    /// Where it is for other nodes.
    pub peer: Name,
    /// Where it is for clients.
    pub api: Name,
    /// Whether it is a member.
    pub state: NodeState,
    /// Whether it votes; a member that does not is a learner.
    pub voter: bool,
    /// It takes no worker sessions and leads only if nobody else can.
    pub drained: bool,
    /// Why it is drained.
    pub note: Name,
    /// Random number of the data directory with which it joined; 0: a member from the start.
    pub instance: u128,
    /// Replicated time since which `state` is as it is.
    pub since: Timestamp,
    /// Log index since which `state` is as it is.
    pub since_index: LogIndex,
}

/// Whether a node is a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// Its token was accepted; the membership does not contain it yet.
    Joining,
    /// The membership contains it.
    Member,
    /// It left, or its join was given up.
    Removed,
}

impl NodeRow {
    /// The row of a member that the core did not know before.
    pub(super) fn of(member: &Member, since: Timestamp, since_index: LogIndex) -> Self {
        Self {
            node: member.node,
            peer: member.peer.clone(),
            api: member.api.clone(),
            state: NodeState::Member,
            voter: member.voter,
            drained: false,
            note: "".into(),
            instance: 0,
            since,
            since_index,
        }
    }

    /// A member with a vote.
    pub fn is_voter(&self) -> bool {
        self.state == NodeState::Member && self.voter
    }
}

/// The permission for one new node to join. The secret is not kept, only its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenRow {
    /// Id of the node that may join.
    pub node: NodeId,
    /// Hash of the secret.
    pub hash: TokenHash,
    /// When it was made, in replicated time.
    pub created_at: Timestamp,
    /// When it becomes useless, in replicated time.
    pub expires_at: Timestamp,
    /// The node is to vote.
    pub voter: bool,
    /// The voter whose place it takes; 0: none.
    pub replaces: NodeId,
    /// Where it must be for other nodes; empty: anywhere.
    pub peer: Name,
    /// Where it must be for clients; empty: anywhere.
    pub api: Name,
}

/// The single row of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesRow {
    /// The one under way.
    pub current: Option<ChangeRow>,
    /// The one that ended last.
    pub last: Option<EndedChange>,
}

/// A change that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRow {
    /// Log index of its acceptance: its identity.
    pub id: LogIndex,
    /// What is to change.
    pub change: MembershipChange,
    /// When it was accepted, in replicated time.
    pub begun_at: Timestamp,
    /// It is to be given up, if that is still possible.
    pub aborted: bool,
    /// Why it is to be given up.
    pub reason: Name,
    /// The node that leaves was drained before.
    pub was_drained: bool,
}

/// A change that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedChange {
    /// As it was accepted.
    pub change: ChangeRow,
    /// When it ended, in replicated time.
    pub ended_at: Timestamp,
    /// What came of it.
    pub outcome: ChangeOutcome,
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeOutcome {
    /// The membership is as asked for.
    Done,
    /// The membership is as it was before.
    Undone {
        /// Why.
        reason: Name,
    },
}

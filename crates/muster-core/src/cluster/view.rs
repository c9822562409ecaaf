//! What can be asked about nodes.

use super::row::{ChangesRow, JoinTokenRow, NodeRow};
use crate::core::Core;
use crate::ids::{Name, NodeId};

/// A member as Raft's membership has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Identity.
    pub node: NodeId,
    /// Where it is for other nodes.
    pub peer: Name,
    /// Where it is for clients.
    pub api: Name,
    /// Whether it votes.
    pub voter: bool,
}

impl Core {
    /// All nodes that are, were or are about to be members, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRow> {
        self.cluster.nodes.values()
    }

    /// One node.
    pub fn node(&self, node: NodeId) -> Option<&NodeRow> {
        self.cluster.nodes.get(&node)
    }

    /// Join tokens that are neither used nor revoked, by node; some may have expired.
    pub fn join_tokens(&self) -> impl Iterator<Item = &JoinTokenRow> {
        self.cluster.tokens.values()
    }

    /// The change of the membership under way, and the last one.
    pub fn membership_changes(&self) -> &ChangesRow {
        &self.cluster.changes
    }

    /// The lowest id that no node has or had, above all that do.
    pub fn next_node_id(&self) -> NodeId {
        self.cluster.next_node()
    }

    /// Open worker sessions that a node holds.
    pub fn sessions_on(&self, node: NodeId) -> usize {
        let sessions = self.session_of.values();
        sessions
            .filter(|session| self.sessions[**session].row.spec.node == node)
            .count()
    }
}

//! What this node is at the moment.

use std::collections::BTreeMap;

use muster_core::{LogIndex, NodeId};
use muster_store::Space;

use crate::memory::MemoryUse;

/// Role of this node in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows, or looks for a leader.
    Follower {
        /// Term known.
        term: u64,
        /// Leader of that term, when known.
        leader: Option<NodeId>,
    },
    /// Elected, but has not applied an entry of its own term yet: its state may lack what the last leader
    /// acknowledged.
    BecomingLeader {
        /// Own term.
        term: u64,
    },
    /// Leads, with a state that holds all that was ever acknowledged. Another leader may already be elected: only a
    /// proposal or a linearizable read tells.
    Leader {
        /// Own term.
        term: u64,
    },
}

impl Role {
    /// The term, whatever the role.
    pub fn term(self) -> u64 {
        match self {
            Self::Follower { term, .. } | Self::BecomingLeader { term } | Self::Leader { term } => term,
        }
    }

    /// True for [`Role::Leader`].
    pub fn is_leader(self) -> bool {
        matches!(self, Self::Leader { .. })
    }
}

/// Figures of the replicated log on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// This node.
    pub node: NodeId,
    /// Cluster; 0 before bootstrap.
    pub cluster: u128,
    /// Current term.
    pub term: u64,
    /// Leader known to this node.
    pub leader: Option<NodeId>,
    /// Last entry in this node's log.
    pub last_log_index: LogIndex,
    /// Last entry known to be committed.
    pub commit_index: LogIndex,
    /// Last entry applied here.
    pub applied_index: LogIndex,
    /// Last entry of the last snapshot.
    pub snapshot_index: LogIndex,
    /// Last entry dropped from the log.
    pub purged_index: LogIndex,
    /// Voting members.
    pub voters: Vec<NodeId>,
    /// On the leader: last entry known to be on each other node.
    pub matched: Vec<(NodeId, LogIndex)>,
    /// On the leader: each other node, and whether it answered within the last election timeout.
    pub answered: BTreeMap<NodeId, bool>,
    /// This node's data was damaged and is being got anew; until then it neither votes nor leads.
    pub refilling: bool,
    /// Room on the disk of this node.
    pub space: Space,
    /// What live jobs take of memory, and what they may.
    pub memory: MemoryUse,
}

//! Why a node does not start, or had to stop; each with its exit code.

use std::path::PathBuf;

/// The end of a server process. `docs/operations.md` lists the exit codes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("{file}: {reason}", file = .file.display())]
    Config {
        /// Where it stands.
        file: PathBuf,
        /// Key, value and what is allowed.
        reason: String,
    },
    /// A listen address cannot be had.
    #[error("node {node}: cannot listen on {key} = \"{address}\": {reason}")]
    Listen {
        /// The node.
        node: u64,
        /// Key in the configuration.
        key: &'static str,
        /// Its value.
        address: String,
        /// The system's word, and what to do.
        reason: String,
    },
    /// The data directory cannot be used.
    #[error("node {node}: data directory {dir}: {source}", dir = .dir.display())]
    Store {
        /// The node.
        node: u64,
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        source: muster_store::Error,
    },
    /// It is not known how this node voted, so its data cannot be refilled.
    #[error(
        "node {node}: data directory {dir}: both copies of the high-water mark are lost: {detail}. It is not known how this node \
         voted, so it must not return under its id. If the directory was moved, not mounted or restored in parts, bring the whole \
         of it back. Otherwise replace the node, with an id that was never used: muster cluster replace {node} NEW_ID",
        dir = .dir.display()
    )]
    VotesLost {
        /// The node.
        node: u64,
        /// The directory.
        dir: PathBuf,
        /// What is wrong with the marks.
        detail: String,
    },
    /// The node may not take part in the cluster, or its log failed.
    #[error("node {node}: {source}")]
    Raft {
        /// The node.
        node: u64,
        /// What is wrong.
        source: muster_raft::Error,
    },
    /// The `[backup]` table names a location or a key that cannot be used.
    #[error("node {node}: [backup] {source}")]
    Backup {
        /// The node.
        node: u64,
        /// What is wrong.
        source: muster_backup::Error,
    },
    /// An actor, a checkpoint or a listener failed for good.
    #[error("node {node}: {reason}")]
    Node {
        /// The node.
        node: u64,
        /// What failed.
        reason: String,
    },
}

impl Error {
    /// The process's exit code: 2 configuration, 3 address in use, 4 data directory or cluster refused, 5 failed while running.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } | Self::Backup { .. } => 2,
            Self::Listen { .. } => 3,
            Self::Store { .. } | Self::VotesLost { .. } => 4,
            Self::Raft { source, .. } => match source {
                muster_raft::Error::Options(_) => 2,
                muster_raft::Error::Storage(_)
                | muster_raft::Error::Damaged(_)
                | muster_raft::Error::Diverged { .. }
                | muster_raft::Error::Raft(_)
                | muster_raft::Error::Stopped => 5,
                _ => 4,
            },
            Self::Node { .. } => 5,
        }
    }
}

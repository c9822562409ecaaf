//! What can go wrong with stored data.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::log::LogPosition;

/// Why an operation on the store failed.
///
/// *Refused*: the caller asked for something that cannot be ([`Error::NotContiguous`], [`Error::Purged`],
/// [`Error::TooLarge`], [`Error::OtherIdentity`]); nothing changed. *Refused to open*: [`Error::Locked`],
/// [`Error::NewerFormat`] and everything that says data is damaged or missing: the node must not vote or lead.
/// *Fatal*: [`Error::Failed`], [`Error::Database`] and [`Error::Io`] while running: the node must exit.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Another process (or another handle of this one) has the data directory open.
    #[error("data directory {dir} is in use by another process")]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The operating system said no.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's word.
        source: Arc<io::Error>,
    },
    /// RocksDB said no.
    #[error("{doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// RocksDB's word.
        source: rocksdb::Error,
    },
    /// The data directory was written by a newer Muster.
    #[error("data is of format {found}, this program knows formats up to {newest}; start a newer program")]
    NewerFormat {
        /// Format of the data directory.
        found: u32,
        /// Newest format this program reads.
        newest: u32,
    },
    /// A stored value has a version byte that this program does not know.
    #[error("{what} has version {found}, this program knows versions up to {newest}")]
    UnknownVersion {
        /// Kind of value.
        what: &'static str,
        /// Version byte found.
        found: u8,
        /// Newest version this program reads.
        newest: u8,
    },
    /// Bytes that are not what they should be.
    #[error("{what} is damaged: {detail}")]
    Damaged {
        /// Kind of value or file.
        what: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// A log entry's hash does not fit its bytes or its predecessor, or the entry is missing.
    #[error("log entry {index} is damaged: {detail}")]
    LogDamaged {
        /// Index of the entry.
        index: u64,
        /// What is wrong.
        detail: String,
    },
    /// The log lacks entries that had been synced. The node may have acknowledged them: it must not vote or lead
    /// until it was refilled by its peers.
    #[error("log ends at {found:?} but had been synced up to {expected:?}; this node must not vote")]
    LogBelowMark {
        /// What the log has: its end, or the entry found where the mark points.
        found: Option<LogPosition>,
        /// What the mark says it must have.
        expected: LogPosition,
    },
    /// The stored vote is older than one that had been synced. The node could vote twice in a term.
    #[error("stored vote is number {found}, but number {expected} had been synced; this node must not vote")]
    VoteBelowMark {
        /// Number of the stored vote; 0 = none.
        found: u64,
        /// Number the mark says it must have.
        expected: u64,
    },
    /// The saved state ends before the log begins: entries between are lost.
    #[error("state is saved up to {applied:?}, but the log begins only after {purged:?}")]
    StateBelowLog {
        /// Applied position of the saved state.
        applied: Option<LogPosition>,
        /// Position up to which the log was purged.
        purged: LogPosition,
    },
    /// An append that does not follow the log's last entry.
    #[error("append at index {found}, but the log continues at {expected}")]
    NotContiguous {
        /// Index that may be appended.
        expected: u64,
        /// Index that was given.
        found: u64,
    },
    /// A read below the log's beginning.
    #[error("log entry {index} was purged; the log begins after {purged}")]
    Purged {
        /// Index asked for.
        index: u64,
        /// Last purged index.
        purged: u64,
    },
    /// A value above its limit.
    #[error("{what} has {size} bytes, at most {max} are allowed")]
    TooLarge {
        /// Kind of value.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The data directory belongs to another node or cluster.
    #[error(
        "data directory belongs to node {found_node} of cluster {found_cluster:032x}, \
         not to node {node} of cluster {cluster:032x}"
    )]
    OtherIdentity {
        /// Cluster asked for.
        cluster: u128,
        /// Node asked for.
        node: u64,
        /// Cluster on disk.
        found_cluster: u128,
        /// Node on disk.
        found_node: u64,
    },
    /// A data directory that was to be made holds something already.
    #[error("{dir} is not empty; move away what is in it, or choose another data directory")]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// An earlier write or sync failed. What is on disk is unknown, so nothing is done any more: the node must exit.
    #[error("storage failed before and does nothing any more: {reason}")]
    Failed {
        /// The first failure.
        reason: Arc<str>,
    },
    /// The store was closed.
    #[error("storage is closed")]
    Closed,
}

/// Result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing: doing.into(),
            source: Arc::new(source),
        }
    }

    /// For `map_err` on database operations.
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(rocksdb::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    pub(crate) fn damaged(what: &'static str, detail: impl Into<String>) -> Self {
        Self::Damaged {
            what,
            detail: detail.into(),
        }
    }
}

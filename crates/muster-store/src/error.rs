//! What can go wrong with stored data.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use muster_failpoint::Injected;

use crate::log::LogPosition;

/// Why an operation on the store failed.
///
/// *Refused*: the caller asked for something that cannot be ([`Error::NotContiguous`], [`Error::Purged`],
/// [`Error::TooLarge`], [`Error::OtherIdentity`]); nothing changed. *Refused to open*: [`Error::Locked`],
/// [`Error::NewerFormat`], [`Error::MarkLost`]. *Damaged* ([`Error::is_damage`]): the node must not vote or lead until its
/// peers have refilled it. *Fatal*: [`Error::Failed`], [`Error::Database`] and [`Error::Io`] while running: the node must
/// exit.
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
    /// The data directory holds data of a feature level that this program does not understand.
    #[error(
        "the data is of feature level {found}, this program understands levels up to {newest}; start a program that understands it"
    )]
    NewerLevel {
        /// Level of the data.
        found: u32,
        /// Highest level this program understands.
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
    #[error("log ends at {} but had been synced up to {expected}", shown(*found))]
    LogBelowMark {
        /// What the log has: its end, or the entry found where the mark points.
        found: Option<LogPosition>,
        /// What the mark says it must have.
        expected: LogPosition,
    },
    /// The stored vote is older than one that had been synced. The node could vote twice in a term.
    #[error("stored vote is number {found}, but number {expected} had been synced")]
    VoteBelowMark {
        /// Number of the stored vote; 0 = none.
        found: u64,
        /// Number the mark says it must have.
        expected: u64,
    },
    /// Both copies of the high-water mark are unreadable or missing beside data. Which votes this node gave is not known, so
    /// no refill makes it safe again: it must be replaced by a node with another id.
    #[error("both copies of the high-water mark are lost: {detail}; it is not known how this node voted")]
    MarkLost {
        /// What is wrong with them.
        detail: String,
    },
    /// The directory was marked: its data is to be thrown away and got anew from the other nodes.
    #[error("the data is to be refilled from the other nodes: {reason}")]
    ToRefill {
        /// Why, as it was noted.
        reason: String,
    },
    /// The state was found to differ from that of a majority. It must be rebuilt by an operator's word.
    #[error("{reason}")]
    Diverged {
        /// What was found, as it was noted.
        reason: String,
    },
    /// The saved state ends before the log begins: entries between are lost.
    #[error("state is saved up to {}, but the log begins only after {purged}", shown(*applied))]
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

fn shown(position: Option<LogPosition>) -> String {
    position.map_or_else(|| "nothing".to_owned(), |position| position.to_string())
}

/// The device could not read or write.
const EIO: i32 = 5;

impl Error {
    /// True when stored data is damaged, lost or rolled back: the node must be refilled by its peers. What another attempt
    /// may get past (no room, no rights, too many open files) is no damage.
    pub fn is_damage(&self) -> bool {
        match self {
            // A value of an unknown version in a directory whose format is known was not written by a newer program.
            Self::Damaged { .. }
            | Self::LogDamaged { .. }
            | Self::LogBelowMark { .. }
            | Self::VoteBelowMark { .. }
            | Self::StateBelowLog { .. }
            | Self::UnknownVersion { .. }
            | Self::ToRefill { .. } => true,
            Self::Io { source, .. } => source.raw_os_error() == Some(EIO),
            Self::Database { source, .. } => database_is_damaged(source),
            _ => false,
        }
    }

    /// True when a checksum or a structure in stored data is wrong. A write that the disk refused is not: what was synced
    /// before is checked by the next start.
    pub(crate) fn is_corruption(&self) -> bool {
        match self {
            Self::Database { source, .. } => source.kind() == rocksdb::ErrorKind::Corruption,
            Self::Io { .. } => false,
            other => other.is_damage(),
        }
    }

    /// True when nothing may go on: not a refusal.
    pub(crate) fn is_fatal(&self) -> bool {
        self.is_damage() || matches!(self, Self::Io { .. } | Self::Database { .. } | Self::Failed { .. })
    }

    /// For `map_err` on file operations.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing: doing.into(),
            source: Arc::new(source),
        }
    }

    /// What a failpoint returns: as if the operating system had said no.
    pub(crate) fn injected(injected: Injected) -> Self {
        Self::io("stopped by a test")(injected.into())
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

/// RocksDB reports damage in many ways, and lack of resources as an I/O error with the system's word for it.
fn database_is_damaged(error: &rocksdb::Error) -> bool {
    use rocksdb::ErrorKind as Kind;
    let text = error.as_ref();
    match error.kind() {
        Kind::Corruption | Kind::InvalidArgument | Kind::NotSupported | Kind::NotFound | Kind::Unknown => true,
        Kind::IOError => text.contains("No such file or directory") || text.contains("Input/output error"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_resources_is_no_damage() {
        let io = |code| Error::io("reading")(io::Error::from_raw_os_error(code));
        for (error, damage) in [
            (io(EIO), true),
            (io(28), false),
            (io(13), false),
            (Error::Closed, false),
            (Error::MarkLost { detail: String::new() }, false),
            (Error::NewerFormat { found: 2, newest: 1 }, false),
            (Error::damaged("row", "bad"), true),
        ] {
            assert_eq!(error.is_damage(), damage, "{error}");
        }
        // RocksDB's own words.
        let dir = tempfile::tempdir().unwrap();
        let mut options = rocksdb::Options::default();
        options.create_if_missing(false);
        let missing = rocksdb::DB::open(&options, dir.path().join("none")).unwrap_err();
        assert!(database_is_damaged(&missing), "{missing}");
        options.create_if_missing(true);
        let held = rocksdb::DB::open(&options, dir.path().join("held")).unwrap();
        let busy = rocksdb::DB::open(&options, dir.path().join("held")).unwrap_err();
        assert!(!database_is_damaged(&busy), "{busy}");
        drop(held);
    }
}

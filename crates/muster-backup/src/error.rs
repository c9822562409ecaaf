//! What can go wrong with backups. Whatever is refused has changed nothing.

use std::path::PathBuf;
use std::sync::Arc;

use muster_core::LogIndex;
use muster_failpoint::Injected;

use crate::keys::VerifyKey;

/// Why something was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A location that is none.
    #[error("backup location {url:?}: {reason}")]
    Location {
        /// As given, without credentials.
        url: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// The object store said no, or did not answer.
    #[error("{doing}: {source}")]
    ObjectStore {
        /// What was being done.
        doing: String,
        /// Its word.
        source: Arc<object_store::Error>,
    },
    /// The object store did not answer in time.
    #[error("{doing}: no answer within {seconds} s")]
    TimedOut {
        /// What was being done.
        doing: String,
        /// The bound.
        seconds: u64,
    },
    /// The operating system said no.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Its word.
        source: Arc<std::io::Error>,
    },
    /// The state of the node, or one being restored.
    #[error("{doing}: {source}")]
    Store {
        /// What was being done.
        doing: String,
        /// What is wrong.
        source: muster_store::Error,
    },
    /// The replicated log of the node, or one being restored.
    #[error("{doing}: {source}")]
    Raft {
        /// What was being done.
        doing: String,
        /// What is wrong.
        source: muster_raft::Error,
    },
    /// A key that is none.
    #[error("{what}: {reason}")]
    Key {
        /// Which key.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// An object has no signature, and that was not allowed.
    #[error("{object} is not signed; if you know where it comes from, allow it with --unsigned")]
    Unsigned {
        /// The object.
        object: String,
    },
    /// An object is signed with a key that is not among those that are trusted.
    #[error("{object} is signed with key {key}, which is not the one to be trusted")]
    UntrustedKey {
        /// The object.
        object: String,
        /// The key it names.
        key: VerifyKey,
    },
    /// Bytes that are not those that were written.
    #[error("{object} is not what was written: {reason}")]
    Tampered {
        /// The object.
        object: String,
        /// What does not fit.
        reason: String,
    },
    /// An object that should be there is not.
    #[error("{object} is missing")]
    Missing {
        /// The object.
        object: String,
    },
    /// Written by a newer program.
    #[error("{object} is of format {found}, this program knows formats up to {newest}; use a newer program")]
    NewerFormat {
        /// The object.
        object: String,
        /// Its format.
        found: u32,
        /// The newest format known.
        newest: u32,
    },
    /// An object belongs to another cluster than the place where it lies.
    #[error("{object} belongs to cluster {found:032x}, not to cluster {expected:032x}")]
    Foreign {
        /// The object.
        object: String,
        /// Cluster it names.
        found: u128,
        /// Cluster expected.
        expected: u128,
    },
    /// The location holds no cluster, or not this one.
    #[error("{url} has no backups of {wanted}; it has those of {found}")]
    NoSuchCluster {
        /// The location.
        url: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// Several clusters, and none was chosen.
    #[error("{url} has backups of several clusters: {found}; choose one with --from-cluster")]
    WhichCluster {
        /// The location.
        url: String,
        /// What there is.
        found: String,
    },
    /// No backup of this name, or none at all.
    #[error("there is no backup {wanted}; see `muster backup list`")]
    NoSuchBackup {
        /// What was asked for.
        wanted: String,
    },
    /// Entries are missing in the archived log.
    #[error(
        "the archived log lacks entries {from} to {to}; what follows them cannot be restored from backup {backup}. \
         Restore to a point before with --at, or from a later backup"
    )]
    Gap {
        /// First entry missing.
        from: LogIndex,
        /// Last entry missing.
        to: LogIndex,
        /// Where the restore begins.
        backup: String,
    },
    /// A point in time that cannot be restored.
    #[error("{wanted} cannot be restored: what is here reaches from {from} to {to}")]
    OutOfRange {
        /// What was asked for.
        wanted: String,
        /// Earliest point.
        from: String,
        /// Latest point.
        to: String,
    },
    /// Replaying the log gave another state than a backup of the same position holds.
    #[error("{object}: the state hash at log index {index} is {found:016x}, must be {expected:016x}")]
    Diverged {
        /// Whose word was not met.
        object: String,
        /// Position.
        index: LogIndex,
        /// What came out.
        found: u64,
        /// What was written down.
        expected: u64,
    },
    /// Somebody else is at work in the repository.
    #[error(
        "{what} has been at work here since {since}; wait for its end (one that died is forgotten after 30 minutes)"
    )]
    Busy {
        /// What it is.
        what: String,
        /// Since when.
        since: String,
    },
    /// The marker of this work was taken away: something else took it for dead.
    #[error(
        "the work took so long without a sign of life that it was given up by others; nothing was finished, begin anew"
    )]
    Superseded,
    /// Asked to stop.
    #[error("stopped before the end; nothing half-done is left")]
    Cancelled,
    /// The node has no `[backup]` table.
    #[error("this cluster has no backups: cluster.toml has no [backup] url")]
    NotConfigured,
    /// Nothing has been written yet.
    #[error("the cluster is new: there is nothing to back up yet")]
    Empty,
    /// A combination of arguments that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A data directory that is not empty.
    #[error("data directory of node {node}: {reason}")]
    NotEmpty {
        /// The node.
        node: u64,
        /// Which, and what to do.
        reason: String,
    },
    /// A file that should exist.
    #[error("{path} does not exist")]
    NoFile {
        /// The file.
        path: PathBuf,
    },
}

/// Result of an operation on backups.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            doing: doing.into(),
            source: Arc::new(source),
        }
    }

    /// What a failpoint returns: as if the operating system had said no.
    pub(crate) fn injected(injected: Injected) -> Self {
        Self::io("stopped by a test")(injected.into())
    }

    /// For `map_err` on the store.
    pub(crate) fn store(doing: impl Into<String>) -> impl FnOnce(muster_store::Error) -> Self {
        move |source| Self::Store {
            doing: doing.into(),
            source,
        }
    }

    /// For `map_err` on the replicated log.
    pub(crate) fn raft(doing: impl Into<String>) -> impl FnOnce(muster_raft::Error) -> Self {
        move |source| Self::Raft {
            doing: doing.into(),
            source,
        }
    }

    pub(crate) fn tampered(object: impl ToString, reason: impl Into<String>) -> Self {
        Self::Tampered {
            object: object.to_string(),
            reason: reason.into(),
        }
    }
}

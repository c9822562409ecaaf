//! What the log holds.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Position of an entry: the term and leader that proposed it, and its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogPosition {
    /// Raft term of the leader that proposed it.
    pub term: u64,
    /// That leader.
    pub node: u64,
    /// Index in the log.
    pub index: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} (term {}, leader {})", self.index, self.term, self.node)
    }
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum EntryKind {
    /// Nothing; a leader's first entry.
    Blank = 1,
    /// The cluster's membership.
    Membership = 2,
    /// A batch of commands.
    Commands = 3,
}

impl EntryKind {
    /// The kind with this number, as it is stored.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Blank, Self::Membership, Self::Commands]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// One entry. The data is opaque here and never re-encoded: the same bytes go to the log, to the peers and to disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it stands.
    pub position: LogPosition,
    /// What it is for.
    pub kind: EntryKind,
    /// Its bytes, at most [`crate::codec::BATCH_BYTES_MAX`].
    pub data: Bytes,
}

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBounds {
    /// Everything up to here was purged; the log begins after it.
    pub purged: Option<LogPosition>,
    /// The last entry, synced or not; `purged` when there is none after it.
    pub last: Option<LogPosition>,
}

/// Called once by the writer thread when an append is synced or has failed. Must not block.
pub type AppendDone = Box<dyn FnOnce(Result<(), Error>) + Send>;

//! What is given to and got from the state store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_core::{Changes, JobId, JobRow, LogIndex, Row, Timestamp};

use crate::log::LogPosition;

/// The state as it was saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// All rows, in key order.
    pub rows: Vec<Row>,
    /// Position of the last log entry contained; `None` = nothing was ever saved.
    pub applied: Option<LogPosition>,
    /// Membership as given with the last checkpoint; empty when nothing was ever saved.
    pub membership: Bytes,
}

/// What changed since the last checkpoint, as of one applied position. Written whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// Rows that were taken ahead; what `changes` says of the same keys overrides them.
    pub ahead: Vec<Row>,
    /// Rows of the state.
    pub changes: Changes,
    /// Jobs that ended; they move to history.
    pub ended: Vec<Arc<JobRow>>,
    /// Position of the last log entry contained.
    pub applied: Option<LogPosition>,
    /// Membership in force there; opaque here.
    pub membership: Bytes,
}

/// What writing a checkpoint came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointStats {
    /// Rows written.
    pub put: usize,
    /// Rows removed.
    pub deleted: usize,
    /// Jobs moved to history.
    pub ended: usize,
    /// Size of the write batch.
    pub bytes: usize,
    /// Whether the state was flushed, so that [`crate::StateStore::durable_applied`] moved.
    pub flushed: bool,
    /// Time it took.
    pub took: Duration,
}

/// Place in a listing of ended jobs, newest first: the next page begins after the job that ended at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryCursor {
    /// Log index at which the job ended.
    pub ended_index: LogIndex,
    /// The job's sequence.
    pub sequence: u64,
}

/// The ended job that held an idempotency key last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHolder {
    /// The job.
    pub job: JobId,
    /// When it was accepted; the key binds for 24 hours from there.
    pub enqueued_at: Timestamp,
}

/// What a snapshot contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Position of the last log entry contained.
    pub applied: Option<LogPosition>,
    /// Membership in force there.
    pub membership: Bytes,
    /// Feature level of its data; 0 when it was not read in full.
    pub level: u32,
}

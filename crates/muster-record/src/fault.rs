//! Faults.

use serde::{Deserialize, Serialize};

use crate::Micros;

/// An injected fault, written when it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What was done.
    pub kind: FaultKind,
    /// To whom: a node, a pair, a worker.
    pub target: String,
    /// When it began.
    pub start: Micros,
    /// When it was over.
    pub end: Micros,
    /// It was seen to do something, e.g. the killed process had been running and came back.
    pub took_effect: bool,
}

/// What can be done to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A node's process killed; its memory is lost.
    Kill,
    /// A node loses what it had not synced.
    PowerCut,
    /// A node frozen and thawed.
    Pause,
    /// A node cut off from the others.
    Partition,
    /// Messages delayed.
    Delay,
    /// Messages delivered twice.
    Duplicate,
    /// Messages dropped.
    Drop,
    /// The lead moved.
    LeaderChange,
    /// A node's clock moved.
    ClockJump,
    /// A node rebuilt from another's snapshot.
    Snapshot,
    /// A full disk.
    DiskFull,
    /// Damaged data on a disk.
    Corruption,
    /// Slow disk or processor.
    Slow,
    /// The set of nodes changed.
    Membership,
    /// A worker killed.
    WorkerKill,
    /// A worker frozen past its session's time, then thawed.
    WorkerHang,
    /// A worker's connection lost.
    SessionLoss,
    /// A worker reported twice.
    DoubleReport,
    /// A worker reported long after its attempt.
    LateReport,
    /// Anything else.
    Other,
}

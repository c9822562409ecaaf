//! What workers did.

use muster_core::Name;
use serde::{Deserialize, Serialize};

use crate::{Id, Micros};

/// A handler begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// When, before the handler does anything.
    pub at: Micros,
    /// The worker, e.g. host and process.
    pub worker: Name,
    /// The job.
    pub job: Id,
    /// Fencing token: log index · 2^24 + position.
    pub fence: u64,
    /// Attempt number as the worker was told.
    pub attempt: u32,
}

/// A handler ended and its report is about to be sent; written again for every repeat of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, before the report is sent.
    pub at: Micros,
    /// The worker.
    pub worker: Name,
    /// The job.
    pub job: Id,
    /// Fencing token.
    pub fence: u64,
    /// What the report says.
    pub how: How,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Done.
    Succeeded,
    /// Failed; the job may be tried again, after the backoff or, when not 0, after `retry_after_ms`.
    Failed {
        /// Overrides the backoff.
        #[serde(default)]
        retry_after_ms: u64,
    },
    /// Failed, and not to be tried again.
    FailedForGood,
    /// Handed back, not counted.
    Preempted,
    /// Put off, not counted.
    Snoozed,
    /// A service throttles, not counted.
    Throttled,
    /// Stopped because a cancel was asked for.
    Cancelled,
    /// Taken back: it ran out of time.
    TimedOut,
    /// Taken back: its worker vanished.
    Crashed,
}

/// The report of an attempt is answered. No record: never answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// When.
    pub at: Micros,
    /// The worker.
    pub worker: Name,
    /// The job.
    pub job: Id,
    /// Fencing token.
    pub fence: u64,
    /// Taken (now or before), or else the lease was lost.
    pub accepted: bool,
}

/// A handler used a resource that refuses fences lower than the highest it has seen for the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrote {
    /// When.
    pub at: Micros,
    /// The job.
    pub job: Id,
    /// Fencing token.
    pub fence: u64,
    /// The resource took it.
    pub accepted: bool,
}

//! The last scan, made when faults are over and the run is done.

use muster_core::{JobState, Name};
use serde::{Deserialize, Serialize};

use crate::{Counts, Id, Micros};

/// A job, live or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalJob {
    /// The job.
    pub job: Id,
    /// Owner.
    pub tenant: Name,
    /// Queue.
    pub queue: Name,
    /// Its idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Name>,
    /// State.
    pub state: JobState,
    /// Attempts begun that count.
    pub attempts: u32,
    /// Attempts that failed or ran out of time.
    pub failures: u32,
    /// Attempts whose worker vanished.
    pub crashes: u32,
    /// Failures allowed.
    pub max_attempts: u32,
    /// Vanished workers allowed.
    pub max_crashes: u32,
    /// Milliseconds since the Unix epoch; 0 = live.
    #[serde(default)]
    pub ended_at: u64,
    /// The dead job it revives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_from: Option<Id>,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalTenant {
    /// Its name.
    pub tenant: Name,
    /// Live jobs.
    pub live: Counts,
    /// Jobs accepted since its creation; `None` = the totals are not known.
    pub totals: Option<Totals>,
}

/// Counts since a tenant's creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Jobs accepted.
    pub enqueued: u64,
    /// Jobs ended well.
    pub succeeded: u64,
    /// Jobs that died.
    pub dead: u64,
    /// Jobs cancelled.
    pub cancelled: u64,
    /// Jobs expired.
    pub expired: u64,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalQueue {
    /// Owner.
    pub tenant: Name,
    /// Its name.
    pub queue: Name,
    /// Live jobs.
    pub live: Counts,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalNode {
    /// The node.
    pub node: u64,
    /// Index of the last entry it applied.
    pub index: u64,
    /// State hash after it.
    pub hash: u64,
}

/// The last scan is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanned {
    /// When.
    pub at: Micros,
    /// All jobs of all tenants stand above, also those that ended.
    pub complete: bool,
}

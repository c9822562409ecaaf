//! What can be asked of the state.

use crate::command::TenantSettings;
use crate::ids::{Name, TenantId, Timestamp};
use crate::job::JobState;
use crate::row::{SessionRow, Totals};

/// Live jobs by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCounts {
    /// Waiting for their time.
    pub scheduled: u64,
    /// May start.
    pub available: u64,
    /// Leased.
    pub running: u64,
    /// Waiting for their backoff.
    pub retrying: u64,
}

impl LiveCounts {
    /// All live jobs.
    pub fn total(&self) -> u64 {
        self.scheduled + self.available + self.running + self.retrying
    }
}

/// A tenant as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantView {
    /// Identity.
    pub id: TenantId,
    /// Name.
    pub name: Name,
    /// Settings.
    pub settings: TenantSettings,
    /// Counts since creation.
    pub totals: Totals,
    /// Live jobs.
    pub live: LiveCounts,
}

/// A queue as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// Name.
    pub name: Name,
    /// No job of it starts.
    pub paused: bool,
    /// Why.
    pub note: Name,
    /// Live jobs.
    pub live: LiveCounts,
    /// Since when the oldest available job waits; 0 = none waits.
    pub oldest_available_at: Timestamp,
    /// Available jobs that no open session accepts.
    pub unroutable: u64,
}

/// A session as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its row.
    pub row: SessionRow,
    /// Leases held.
    pub running: u32,
}

/// Filter over live jobs of one tenant; what is empty matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Queue.
    pub queue: Option<Name>,
    /// Kind.
    pub kind: Option<Name>,
    /// States.
    pub states: Vec<JobState>,
}

//! What can be asked of the state.

use crate::command::TenantSettings;
use crate::explain::WorkerMatch;
use crate::ids::{JobId, Millis, Name, TenantId, Timestamp};
use crate::job::JobState;
use crate::limit::{LimitRule, LimitSelector};
use crate::quota::QuotaUse;
use crate::row::{SessionRow, Totals};

/// Live jobs by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCounts {
    /// Waiting for their time.
    pub scheduled: u64,
    /// Waiting for an earlier job of their ordering key.
    pub blocked: u64,
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
        self.scheduled + self.blocked + self.available + self.running + self.retrying
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
    /// What it uses of its quota.
    pub quota_use: QuotaUse,
    /// Jobs that may run at once, by the rule of the level tenant that applies to it; 0 = not limited.
    pub concurrency: u32,
    /// Slots that its running jobs take.
    pub running_slots: u64,
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
    /// Its weight among the lines of its tenant; 0: it stands in the common one.
    pub weight: u32,
    /// Live jobs.
    pub live: LiveCounts,
    /// Since when the oldest available job waits; 0 = none waits.
    pub oldest_available_at: Timestamp,
    /// Available jobs that no open session accepts.
    pub unroutable: u64,
}

/// What goes on behind a rule of the rule book, summed over the names that it applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitUse {
    /// Names with live jobs, or with something to remember, that it applies to.
    pub names: u64,
    /// Running jobs.
    pub running: u64,
    /// Available jobs.
    pub waiting: u64,
    /// Names at which nothing can start now.
    pub closed: u64,
}

/// The limiter of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimiterView {
    /// Rules that match the name, most specific first: the first one applies. None: it is not limited.
    pub rules: Vec<LimitRule>,
    /// Tokens that can be taken now; `None` if no rate applies.
    pub tokens: Option<u32>,
    /// Running jobs.
    pub running: u64,
    /// Available jobs.
    pub waiting: u64,
    /// As many run as may: the next one starts when one of them ends.
    pub full: bool,
    /// The queue or kind is paused.
    pub paused: bool,
    /// Nothing starts before, since it would come too early; 0 = not so.
    pub shut_until: Timestamp,
    /// Nothing starts before, by a worker's word; 0 = not so.
    pub throttled_until: Timestamp,
    /// Jobs that wait for this limiter and not for another one, in their turn; the first few.
    pub waiters: Vec<JobId>,
    /// Jobs that cost more than the burst and never start under this rule; the first few.
    pub too_costly: Vec<JobId>,
}

/// Rules and what goes on behind them, from a look at some limiters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitUses {
    /// By rule; those without limiters among the ones looked at are left out.
    pub uses: Vec<(LimitSelector, LimitUse)>,
    /// Where to look on; `None`: all were looked at.
    pub next: Option<u32>,
}

/// A kind of a tenant's jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindView {
    /// Name.
    pub name: Name,
    /// No job of it starts: why, by who paused it.
    pub paused: Option<Name>,
    /// Available jobs.
    pub available: u64,
    /// Running jobs.
    pub running: u64,
    /// Mean run time of its attempts; `None`: none has ended.
    pub mean_run: Option<Millis>,
    /// Open sessions that serve the tenant and run the kind.
    pub sessions: u64,
}

/// Available jobs that are alike, and that no open session accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnroutableView {
    /// What they are.
    pub what: UnroutableKey,
    /// How many.
    pub jobs: u64,
    /// Since when the oldest of them waits.
    pub oldest_available_at: Timestamp,
    /// How far the open sessions match them.
    pub workers: WorkerMatch,
}

/// What a worker must accept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnroutableKey {
    /// Queue.
    pub queue: Name,
    /// Kind.
    pub kind: Name,
    /// Schema version.
    pub schema_version: u32,
    /// Required labels.
    pub labels: Vec<(Name, Name)>,
    /// Slots that a job takes.
    pub slots: u32,
}

/// An ordering key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderView {
    /// The key.
    pub key: Name,
    /// The dead job for which the others wait.
    pub held_by: Option<JobId>,
    /// The first live job.
    pub first: Option<JobId>,
    /// Live jobs.
    pub jobs: u64,
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

//! What a job is: its description as given by the client, its state, and the row that is kept of it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{JobId, LeaseId, LogIndex, Millis, Name, SessionId, TenantId, Timestamp};
use crate::limit::JobLimits;

/// Where a job stands. `docs/job-lifecycle.md` draws the edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum JobState {
    /// Waits for its `available_at`.
    Scheduled = 1,
    /// Its time has come, but it waits for an earlier job of its ordering key.
    Blocked = 2,
    /// May start as soon as a worker, its tenant's share and its limits allow.
    Available = 3,
    /// A worker holds its lease.
    Running = 4,
    /// An attempt failed; waits for its backoff.
    Retrying = 5,
    /// Ended well. Terminal.
    Succeeded = 6,
    /// Ended without success and waits for an operator: the dead-letter state. Terminal until redriven.
    Dead = 7,
    /// Ended by request. Terminal.
    Cancelled = 8,
    /// Never started in time. Terminal.
    Expired = 9,
}

impl JobState {
    /// True for states that a job leaves only by redrive.
    pub fn is_terminal(self) -> bool {
        self >= Self::Succeeded
    }
}

/// Urgency within a tenant; it never reaches across tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Priority {
    /// Served as if available now.
    Critical = 0,
    /// Served as if it had become available one aging step later.
    High = 1,
    /// The default: two steps.
    #[default]
    Normal = 2,
    /// Three steps.
    Low = 3,
    /// Four steps.
    Bulk = 4,
}

impl Priority {
    /// All levels, most urgent first.
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Normal, Self::Low, Self::Bulk];

    /// How many aging steps a job of this level is set back.
    pub fn level(self) -> u64 {
        self as u64
    }
}

/// Wait between a failed attempt and the next. `attempt` counts failed attempts from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backoff {
    /// Always `delay`.
    Fixed {
        /// The wait.
        delay: Millis,
    },
    /// `base × attempt`, at most `cap`.
    Linear {
        /// Wait after the first failure.
        base: Millis,
        /// Longest wait.
        cap: Millis,
    },
    /// `base × 2^(attempt − 1)`, at most `cap`, then moved by up to ± `jitter_percent`.
    Exponential {
        /// Wait after the first failure.
        base: Millis,
        /// Longest wait, before jitter.
        cap: Millis,
        /// 0–100. The direction comes from the job's seed, the attempt, and nothing else.
        jitter_percent: u8,
    },
}

impl Default for Backoff {
    fn default() -> Self {
        Self::Exponential {
            base: 2_000,
            cap: 3_600_000,
            jitter_percent: 20,
        }
    }
}

/// How the payload bytes are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Encoding {
    /// As they are.
    #[default]
    Identity = 0,
    /// Zstandard.
    Zstd = 1,
}

/// What the handler gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The bytes; never looked into.
    pub data: Bytes,
    /// Media type, e.g. `application/json`; empty when not said.
    pub content_type: Name,
    /// Packing of `data`.
    pub encoding: Encoding,
}

/// Options with which a job runs; alike for most jobs of a kind, so the core interns them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    /// Failures and timeouts allowed, from 1. Default 20.
    pub max_attempts: u32,
    /// Attempts that may end with a vanished worker before the job counts as poison, from 1. Default 3.
    pub max_crashes: u32,
    /// Wait between attempts.
    pub backoff: Backoff,
    /// Longest run of one attempt; 0 = no limit. Default 10 minutes. Running out counts as a failure.
    pub attempt_timeout: Millis,
    /// A job never started within this time of its availability expires; 0 = never. Default 0.
    pub expires_in: Millis,
    /// Labels that a worker must carry, sorted by key.
    pub required_labels: Vec<(Name, Name)>,
    /// What its starts take of limits.
    pub limits: JobLimits,
    /// Labels that its worker had better carry, sorted by key: of the workers that are to have it next, the one with most of
    /// them gets it. It waits for none of them.
    pub preferred_labels: Vec<(Name, Name)>,
    /// Slots of its worker that an attempt takes, 1 to [`SLOTS_MAX`]. Default 1.
    pub slots: u32,
}

/// Most slots that one job takes.
pub const SLOTS_MAX: u32 = 256;

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            max_attempts: 20,
            max_crashes: 3,
            backoff: Backoff::default(),
            attempt_timeout: 600_000,
            expires_in: 0,
            required_labels: Vec::new(),
            limits: JobLimits::default(),
            preferred_labels: Vec::new(),
            slots: 1,
        }
    }
}

/// Jobs of one key in a queue run one at a time, in the order in which they were accepted. A job that waits for its time
/// or its backoff holds up those behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderingKey {
    /// The key, e.g. `account:17`; at most 256 bytes.
    pub key: Name,
    /// What becomes of the jobs behind it if it dies.
    pub policy: OrderingPolicy,
}

/// What becomes of the jobs behind a job that died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum OrderingPolicy {
    /// They go on.
    #[default]
    SkipDead = 0,
    /// They wait until the dead job is redriven and ends otherwise, or an operator releases the key.
    Strict = 1,
}

/// Who caused a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A call of the public interface.
    #[default]
    Api,
    /// The redrive of a dead job.
    Redrive,
}

/// A job as its client describes it, validated and given an id before it reaches the core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Identity; a second enqueue with it returns the first job.
    pub id: JobId,
    /// Name of the owner.
    pub tenant: Name,
    /// Line within the tenant; made by its first job.
    pub queue: Name,
    /// Name of the handler.
    pub kind: Name,
    /// Version of the payload's schema; a worker says which it accepts. Default 1.
    pub schema_version: u32,
    /// What the handler gets.
    pub payload: Payload,
    /// Urgency within the tenant.
    pub priority: Priority,
    /// Not to start before; 0 = at once.
    pub available_at: Timestamp,
    /// A second name for the job, unique in its tenant for 24 hours.
    pub idempotency_key: Option<Name>,
    /// How it runs.
    pub options: JobOptions,
    /// Its place among the jobs of a key, if their order matters.
    pub ordering: Option<OrderingKey>,
    /// Free pairs of the caller (trace context, correlation id), stored with the job and given to the worker.
    pub metadata: Vec<(Name, Name)>,
    /// Seed of the jitter.
    pub seed: u64,
    /// Who caused it.
    pub origin: Origin,
    /// Applied index up to which the history of ended jobs was searched for this id and key without a find.
    ///
    /// The core itself remembers only jobs that ended lately. A proposal whose search is older than that memory is
    /// refused with [`crate::Refusal::SearchHistoryAgain`].
    pub history_searched: LogIndex,
}

impl JobSpec {
    /// Hash of kind, schema version and payload: tells a retry from another job under the same id or key.
    pub fn fingerprint(&self) -> u64 {
        crate::hash::fingerprint(self)
    }
}

/// What a handler reports of a failed attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// Kind of error, e.g. a type name; groups dead jobs.
    pub class: Name,
    /// One line for people.
    pub message: Name,
}

/// Everything kept of one job: the form in which jobs are persisted, queried and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// The job as it was enqueued, but for its `available_at`, raised to the time of its acceptance if that is later, and its
    /// priority, which may have been changed. Shared, so that a row costs no copy of the payload.
    pub spec: Arc<JobSpec>,
    /// Owner.
    pub tenant: TenantId,
    /// Hash of kind, schema version and payload; tells a retry from another job under the same key.
    pub fingerprint: u64,
    /// Where it stands.
    pub state: JobState,
    /// When it was accepted.
    pub enqueued_at: Timestamp,
    /// When it may (or might first) start; moved by backoff.
    pub available_at: Timestamp,
    /// Order among jobs with the same turn, and among those of one ordering key: log index and position of the enqueue.
    /// It grows from job to job and says nothing else; a redriven job has that of the dead one if it takes its place.
    pub sequence: u64,
    /// Attempts begun that count: preempted ones are taken back.
    pub attempts: u32,
    /// Attempts that ended in a reported failure or timeout.
    pub failures: u32,
    /// Attempts whose worker vanished.
    pub crashes: u32,
    /// The lease in force, while running.
    pub lease: Option<Lease>,
    /// The last lease whose holder's report was taken: a repeat of that report is recognised and changes nothing.
    pub last_report: Option<LeaseId>,
    /// A cancel was asked for while it ran: unless the attempt succeeds, its end is the job's end.
    pub cancel_asked: bool,
    /// Log index of the last change.
    pub changed_index: LogIndex,
    /// When the last attempt began; 0 = never.
    pub started_at: Timestamp,
    /// When it ended; 0 = live.
    pub ended_at: Timestamp,
    /// The last failure.
    pub error: Option<JobError>,
    /// What the handler returned, at most 64 KiB.
    pub result: Bytes,
    /// The dead job that this one revives.
    pub redriven_from: Option<JobId>,
}

/// The right to run an attempt, as stored with a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Fencing token.
    pub id: LeaseId,
    /// Holder.
    pub session: SessionId,
    /// When the attempt times out; 0 = never.
    pub deadline: Timestamp,
    /// Run time charged to the tenant's virtual time in advance, times the job's slots; corrected when the attempt ends.
    pub charged: Millis,
    /// It began while the tenant was below its guarantee.
    pub guaranteed: bool,
}

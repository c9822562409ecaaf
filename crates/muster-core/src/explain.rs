//! What can be told of why a job does not run now.

use std::sync::Arc;

use crate::ids::{JobId, Name, NodeId, SessionId, Timestamp};
use crate::job::{JobRow, JobState};
use crate::limit::{LimitLevel, LimitRule};

/// Why a live job does not run, as far as the state tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The job.
    pub job: Arc<JobRow>,
    /// Replicated time at which all of this holds.
    pub now: Timestamp,
    /// Everything that keeps it from starting, what decides first. None: it runs, or it starts with one of the next log
    /// entries. What passes by itself (used-up rates, full limits, busy workers) is told only of a job that may start
    /// otherwise.
    pub reasons: Vec<WaitReason>,
    /// Who runs it.
    pub holder: Option<Holder>,
    /// Its place among its like, while it is available.
    pub position: Option<LanePosition>,
    /// Where its tenant stands before the workers that accept the job; `None` if there are none.
    pub share: Option<ShareView>,
    /// How far the open sessions match the job.
    pub workers: WorkerMatch,
    /// The worker that gathers free slots for the tenant's next job that takes as many as this one.
    pub gatherer: Option<Holder>,
    /// When it starts if nothing else happens than what is known now: no job with an earlier turn comes, and workers keep
    /// room. `None`: unknown, or it runs.
    pub expected_start: Option<Timestamp>,
}

/// One thing that keeps a job from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// Its time has not come.
    NotDue {
        /// When it comes.
        at: Timestamp,
        /// It waits for the backoff after an attempt, not for a delay that was asked for.
        backoff: bool,
    },
    /// An earlier job of its ordering key has not ended.
    Ordering(OrderWait),
    /// No open session accepts it: it is unroutable. [`Explanation::workers`] tells what is missing.
    NoWorker,
    /// Its queue or kind is paused.
    Paused {
        /// What is paused.
        level: LimitLevel,
        /// Its name.
        name: Name,
        /// Why, by the operator.
        note: Name,
    },
    /// A limit refuses its start.
    Limit(LimitWait),
    /// Workers accept it, and none of them has as many slots free as it takes.
    NoSlot,
}

/// Whom a job waits for within its ordering key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderWait {
    /// The key.
    pub key: Name,
    /// The dead job that holds the key.
    pub held_by: Option<JobId>,
    /// The first live job of the key, and its state.
    pub first: Option<(JobId, JobState)>,
    /// Live jobs of the key before this one.
    pub before: u64,
}

/// How a limit refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitCause {
    /// As many run as may.
    Full,
    /// There are not tokens enough.
    Rate,
    /// A worker reported that a service throttles.
    Throttled,
    /// The job costs more than the burst: it never starts under this rule.
    TooCostly,
}

/// A limit that refuses the start of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitWait {
    /// Level.
    pub level: LimitLevel,
    /// Queue, kind or key; empty for cluster and tenant.
    pub name: Name,
    /// How it refuses.
    pub cause: LimitCause,
    /// When it admits the next start; 0: when a running job ends, or never.
    pub opens_at: Timestamp,
    /// The rule in force; `None` for a key that is throttled without one.
    pub rule: Option<LimitRule>,
    /// Tokens that a start of the job takes of its rate.
    pub cost: u32,
    /// Tokens that can be taken now; `None` if no rate applies.
    pub tokens: Option<u32>,
    /// Running jobs behind it.
    pub running: u64,
    /// Available jobs behind it, whatever they wait for.
    pub waiting: u64,
    /// The job's lane waits in the room of this very limit; others refuse it besides.
    pub parked: bool,
}

/// Who runs a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The session.
    pub session: SessionId,
    /// The worker's name.
    pub worker: Name,
    /// The node that holds its stream.
    pub node: NodeId,
}

/// A job's place among the available jobs of its lane: those alike in queue, kind, schema version, labels, cost and limit
/// keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanePosition {
    /// Jobs before it.
    pub before: u64,
    /// False: `before` was not counted to the end, there may be fewer or more.
    pub exact: bool,
    /// All of the lane.
    pub available: u64,
}

/// Where a tenant stands in fair sharing, before the most numerous class of workers that accept the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareView {
    /// The tenant's weight.
    pub weight: u32,
    /// Tenants that compete, this one included.
    pub tenants: u64,
    /// Sum of their weights; `None` if there are too many to look at.
    pub weights: Option<u64>,
    /// Tenants served before it; `None` if there are too many to look at.
    pub before: Option<u64>,
    /// Of those before it: they run in fewer slots than they are guaranteed, which it does not. `None` if there are too many to
    /// look at.
    pub before_by_guarantee: Option<u64>,
    /// If slots are guaranteed to the tenant: how many, and in how many its jobs run.
    pub guarantee: Option<(u32, u64)>,
    /// If queues of the tenant have weights: that of the job's line, and the sum of those of lines with available jobs.
    pub line: Option<(u32, u64)>,
}

/// How far open sessions match a job: each count is of those that the count before has, and that match one thing more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerMatch {
    /// Open sessions.
    pub open: u64,
    /// They serve its tenant.
    pub tenant: u64,
    /// They serve its queue.
    pub queue: u64,
    /// They run its kind.
    pub kind: u64,
    /// They accept its schema version.
    pub version: u64,
    /// They carry its required labels.
    pub labels: u64,
    /// They have as many slots as it takes, and so accept it.
    pub accept: u64,
    /// Of those that accept it: they take no new jobs, since they drain.
    pub quiet: u64,
    /// Jobs that those that accept it run.
    pub running: u64,
    /// Slots that those that accept it have free, in all.
    pub free: u64,
    /// Most slots that one of them has free.
    pub most_free: u64,
}

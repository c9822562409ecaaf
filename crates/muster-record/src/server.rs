//! What nodes did with the log. Optional: without it a history is judged from outside only.

use muster_core::{Backoff, JobState, LimitRule, LimitSelector, Name, Priority, Quota, WorkerClass};
use serde::{Deserialize, Serialize};

use crate::{Claims, Counts, How, Id, Micros};

/// A node took the lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// When.
    pub at: Micros,
    /// The node.
    pub node: u64,
    /// Its term.
    pub term: u64,
}

/// A node applied a log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// When.
    pub at: Micros,
    /// The node.
    pub node: u64,
    /// Which life of the node's process: grows with every restart. Within one, indexes only grow.
    pub life: u32,
    /// Log index.
    pub index: u64,
    /// Term of the entry.
    pub term: u64,
    /// Digest of the entry as it stands in the log.
    pub digest: u64,
    /// Replicated time after it, in milliseconds.
    pub now: u64,
    /// State hash after it.
    pub hash: u64,
    /// What it brought about, in order. Empty on nodes that do not record it: one node's are enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
}

/// One effect of an entry. Effects of commands stand before grants, which come at the end of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// A new job.
    Accepted(Box<AcceptedJob>),
    /// A live job entered another live state.
    Entered {
        /// The job.
        job: Id,
        /// The state.
        state: JobState,
    },
    /// A job waits for its backoff until an instant of replicated time.
    Waits {
        /// The job.
        job: Id,
        /// Milliseconds.
        until: u64,
    },
    /// A lease was granted.
    Granted {
        /// The job.
        job: Id,
        /// Fencing token.
        fence: u64,
        /// Attempt number.
        attempt: u32,
        /// The session that holds it; 0 = not recorded.
        #[serde(default)]
        session: Id,
    },
    /// A report was judged.
    Reported {
        /// The job.
        job: Id,
        /// The fence it was made under.
        fence: u64,
        /// What it said.
        how: How,
        /// What was said to it.
        verdict: ReportVerdict,
    },
    /// A lease was taken back without a report.
    Revoked {
        /// The job.
        job: Id,
        /// The fence.
        fence: u64,
        /// Why.
        why: How,
    },
    /// A job ended.
    Ended {
        /// The job.
        job: Id,
        /// How.
        state: JobState,
        /// Attempts begun that count.
        attempts: u32,
        /// Attempts that failed or ran out of time.
        failures: u32,
        /// Attempts whose worker vanished.
        crashes: u32,
    },
    /// A rule of the rule book from now on.
    Limit(LimitRule),
    /// A rule is gone.
    LimitGone(LimitSelector),
    /// A worker's report closed a limit key until an instant of replicated time.
    Throttled {
        /// Owner.
        tenant: Name,
        /// The key.
        key: Name,
        /// Milliseconds.
        until: u64,
    },
    /// A dead job does not hold up the others of its ordering key any more.
    Released {
        /// The dead job.
        job: Id,
    },
    /// A queue was stopped or resumed.
    Paused {
        /// Owner.
        tenant: Name,
        /// The queue.
        queue: Name,
        /// Stopped.
        paused: bool,
    },
    /// A kind was stopped or resumed.
    KindPaused {
        /// Owner.
        tenant: Name,
        /// The kind.
        kind: Name,
        /// Stopped.
        paused: bool,
    },
    /// A live job has another priority from now on.
    Prioritised {
        /// The job.
        job: Id,
        /// Its priority.
        priority: Priority,
    },
    /// What one priority level is worth in a tenant from now on.
    Aging {
        /// The tenant.
        tenant: Name,
        /// Milliseconds of waiting.
        aging: u64,
    },
    /// A worker's session is open.
    SessionOpened {
        /// The session.
        session: Id,
        /// What its worker accepts.
        accepts: Box<WorkerClass>,
    },
    /// How many attempts a session has made room for since it opened.
    Credits {
        /// The session.
        session: Id,
        /// In total; a lower number than before changes nothing.
        total: u64,
    },
    /// A session is to get no more leases.
    SessionQuiet {
        /// The session.
        session: Id,
    },
    /// A session is gone.
    SessionClosed {
        /// The session.
        session: Id,
    },
    /// The quota of a tenant from now on.
    Quota {
        /// The tenant.
        tenant: Name,
        /// Its bounds.
        quota: Quota,
    },
    /// The node's own count of a tenant's live jobs after this entry.
    Counted {
        /// The tenant.
        tenant: Name,
        /// Live jobs.
        live: Counts,
    },
}

/// A job as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedJob {
    /// The job.
    pub job: Id,
    /// Owner.
    pub tenant: Name,
    /// Queue.
    pub queue: Name,
    /// Handler.
    pub kind: Name,
    /// What it wants of limits and order.
    pub claims: Claims,
    /// The dead job that it revives.
    pub redrives: Option<Id>,
    /// First state.
    pub state: JobState,
    /// Not to start before, as the client asked; milliseconds.
    pub due: u64,
    /// Failures allowed.
    pub max_attempts: u32,
    /// Vanished workers allowed.
    pub max_crashes: u32,
    /// Wait between attempts.
    pub backoff: Backoff,
    /// What it counts for the quota.
    #[serde(default)]
    pub bytes: u64,
    /// Its priority then.
    #[serde(default)]
    pub priority: Priority,
    /// Version of the payload's schema.
    #[serde(default)]
    pub version: u32,
    /// Longest run of an attempt in milliseconds; 0 = no limit.
    #[serde(default)]
    pub attempt_timeout: u64,
    /// It expires when it has not started so many milliseconds after it could; 0 = never.
    #[serde(default)]
    pub expires_in: u64,
    /// Labels that its worker must carry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_labels: Vec<(Name, Name)>,
    /// Labels that its worker had better carry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_labels: Vec<(Name, Name)>,
    /// Slots of its worker that an attempt takes.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub slots: u32,
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_one(slots: &u32) -> bool {
    *slots == 1
}

/// What was said to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportVerdict {
    /// Taken.
    Accepted,
    /// It had been taken before.
    Repeated,
    /// The lease was not in force.
    LeaseLost,
}

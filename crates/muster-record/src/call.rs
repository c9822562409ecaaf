//! Calls of clients.

use muster_core::{Backoff, JobState, LimitRule, LimitSelector, Name, Priority};
use serde::{Deserialize, Serialize};

use crate::{Id, Micros};

/// A call leaves the client. A repeat with the same ids after an unknown outcome is a call of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoke {
    /// When, before anything was sent.
    pub at: Micros,
    /// Client; one call at a time, the next only after this one is over.
    pub process: u32,
    /// Number of the call within the client, growing.
    pub call: u32,
    /// What is asked.
    pub operation: Operation,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// One job.
    Enqueue(JobArgs),
    /// Many jobs of one tenant.
    EnqueueMany {
        /// The jobs in order.
        jobs: Vec<JobArgs>,
        /// All or none.
        all_or_nothing: bool,
    },
    /// Looks at one job.
    Get {
        /// Owner.
        tenant: Name,
        /// The job.
        job: Id,
    },
    /// Lists jobs.
    List {
        /// Owner.
        tenant: Name,
        /// Of one queue only.
        queue: Option<Name>,
    },
    /// Counts of a queue, or of the tenant.
    Stats {
        /// Owner.
        tenant: Name,
        /// Of one queue only.
        queue: Option<Name>,
    },
    /// Ends a job.
    Cancel {
        /// Owner.
        tenant: Name,
        /// The job.
        job: Id,
    },
    /// Revives a dead job as a new one.
    Redrive {
        /// Owner.
        tenant: Name,
        /// The dead job.
        from: Id,
        /// Id of the new one.
        job: Id,
    },
    /// Stops or resumes a queue.
    SetPaused {
        /// Owner.
        tenant: Name,
        /// The queue.
        queue: Name,
        /// Stop or resume.
        paused: bool,
    },
    /// Stops or resumes a kind.
    SetKindPaused {
        /// Owner.
        tenant: Name,
        /// The kind.
        kind: Name,
        /// Stop or resume.
        paused: bool,
    },
    /// Gives live jobs another priority.
    SetPriority {
        /// Owner.
        tenant: Name,
        /// The jobs.
        jobs: Vec<Id>,
        /// What they get.
        priority: Priority,
    },
    /// Creates a tenant or changes its settings.
    SetTenant {
        /// Its name.
        tenant: Name,
        /// Share.
        weight: u32,
    },
    /// Sets a rule of the rule book of limits.
    SetLimit(LimitRule),
    /// Takes a rule out of it.
    DeleteLimit(LimitSelector),
    /// Lets the jobs of an ordering key go on that wait for a dead one.
    ReleaseOrder {
        /// Owner.
        tenant: Name,
        /// The queue.
        queue: Name,
        /// The ordering key.
        key: Name,
    },
    /// Follows a job, or all jobs of a tenant; delivers [`Watched`] until its completion.
    Watch {
        /// Owner.
        tenant: Name,
        /// One job only.
        job: Option<Id>,
        /// Changes after this log index.
        after: u64,
        /// Of changes that follow each other fast only the latest may be told; the last always is. Else every change.
        #[serde(default)]
        latest: bool,
    },
    /// Waits for the end of a job; answers like a look at it.
    Wait {
        /// Owner.
        tenant: Name,
        /// The job.
        job: Id,
    },
    /// Gives a queue a part of its tenant's worker time, or none of its own.
    SetQueueWeight {
        /// Owner.
        tenant: Name,
        /// The queue.
        queue: Name,
        /// Its weight; 0 = none.
        weight: u32,
    },
}

/// Kinds of [`Operation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// One job.
    Enqueue,
    /// Many jobs.
    EnqueueMany,
    /// One job looked at.
    Get,
    /// Jobs listed.
    List,
    /// Counts.
    Stats,
    /// A job ended by request.
    Cancel,
    /// A dead job revived.
    Redrive,
    /// A queue stopped or resumed.
    SetPaused,
    /// A kind stopped or resumed.
    SetKindPaused,
    /// Priorities changed.
    SetPriority,
    /// A tenant's settings.
    SetTenant,
    /// A rule set.
    SetLimit,
    /// A rule deleted.
    DeleteLimit,
    /// An ordering key released.
    ReleaseOrder,
    /// Changes followed.
    Watch,
    /// The end of a job awaited.
    Wait,
    /// A queue's weight.
    SetQueueWeight,
}

impl Operation {
    /// Its kind.
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Enqueue(_) => OperationKind::Enqueue,
            Self::EnqueueMany { .. } => OperationKind::EnqueueMany,
            Self::Get { .. } => OperationKind::Get,
            Self::List { .. } => OperationKind::List,
            Self::Stats { .. } => OperationKind::Stats,
            Self::Cancel { .. } => OperationKind::Cancel,
            Self::Redrive { .. } => OperationKind::Redrive,
            Self::SetPaused { .. } => OperationKind::SetPaused,
            Self::SetKindPaused { .. } => OperationKind::SetKindPaused,
            Self::SetPriority { .. } => OperationKind::SetPriority,
            Self::SetTenant { .. } => OperationKind::SetTenant,
            Self::SetLimit(_) => OperationKind::SetLimit,
            Self::DeleteLimit(_) => OperationKind::DeleteLimit,
            Self::ReleaseOrder { .. } => OperationKind::ReleaseOrder,
            Self::Watch { .. } => OperationKind::Watch,
            Self::Wait { .. } => OperationKind::Wait,
            Self::SetQueueWeight { .. } => OperationKind::SetQueueWeight,
        }
    }
}

/// A job as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobArgs {
    /// Identity, chosen by the client, so that a repeat is recognised.
    pub job: Id,
    /// Owner.
    pub tenant: Name,
    /// Queue.
    pub queue: Name,
    /// Handler.
    pub kind: Name,
    /// Idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Name>,
    /// Not to start before, in milliseconds since the Unix epoch; 0 = at once. A delay is written as the instant.
    #[serde(default)]
    pub available_at: u64,
    /// Failures allowed.
    pub max_attempts: u32,
    /// Vanished workers allowed.
    pub max_crashes: u32,
    /// Wait between attempts.
    pub backoff: Backoff,
    /// Longest run of an attempt in milliseconds; 0 = no limit, or not recorded.
    #[serde(default)]
    pub attempt_timeout: u64,
    /// It expires when it has not started so many milliseconds after it could; 0 = never.
    #[serde(default)]
    pub expires_in: u64,
    /// What its starts take of limits, and its place in an order.
    #[serde(default, skip_serializing_if = "Claims::is_plain")]
    pub claims: Claims,
}

/// What a job wants of limits and order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Tokens that a start takes of the rates of cluster, tenant, queue and kind.
    pub cost: u32,
    /// Limit keys, with the tokens that a start takes of each.
    #[serde(default)]
    pub limit_keys: Vec<(Name, u32)>,
    /// Ordering key.
    #[serde(default)]
    pub ordering_key: Option<Name>,
    /// Its death holds up the others of its ordering key.
    #[serde(default)]
    pub strict: bool,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            cost: 1,
            limit_keys: Vec::new(),
            ordering_key: None,
            strict: false,
        }
    }
}

impl Claims {
    fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Of a job.
    pub fn of(spec: &muster_core::JobSpec) -> Self {
        let limits = &spec.options.limits;
        let ordering = spec.ordering.as_ref();
        Self {
            cost: limits.cost,
            limit_keys: limits.keys.iter().map(|key| (key.key.clone(), key.cost)).collect(),
            ordering_key: ordering.map(|ordering| ordering.key.clone()),
            strict: ordering.is_some_and(|ordering| ordering.policy == muster_core::OrderingPolicy::Strict),
        }
    }
}

/// A call comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// When.
    pub at: Micros,
    /// Client.
    pub process: u32,
    /// The call.
    pub call: u32,
    /// How.
    pub outcome: Outcome,
    /// Log index at which a write took effect, or as of which a read was answered; `None` = the reply did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Ok(Answer),
    /// Not done: it certainly had no effect and will have none.
    Fail(String),
    /// Unknown: it may have had its effect, or may yet.
    Info(String),
}

/// What a call that went well returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To calls that return nothing.
    Done,
    /// To `Enqueue` and `Redrive`.
    Enqueued(Enqueued),
    /// To `EnqueueMany`, one per job; `None` = this one was refused.
    EnqueuedMany(Vec<Option<Enqueued>>),
    /// To `Get` and `Wait`; `None` = no such job.
    Job(Option<JobSeen>),
    /// To `List`.
    Jobs(Vec<JobSeen>),
    /// To `Stats`.
    Stats(Counts),
    /// To `Cancel`: the state after it.
    Cancelled(JobState),
}

/// A state by its name in lower case, as clients show it.
pub fn job_state(name: &str) -> Option<JobState> {
    Some(match name {
        "scheduled" => JobState::Scheduled,
        "blocked" => JobState::Blocked,
        "available" => JobState::Available,
        "running" => JobState::Running,
        "retrying" => JobState::Retrying,
        "succeeded" => JobState::Succeeded,
        "dead" => JobState::Dead,
        "cancelled" => JobState::Cancelled,
        "expired" => JobState::Expired,
        _ => return None,
    })
}

/// A job was accepted, or had been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enqueued {
    /// Its id; that of the first job when it had been accepted before.
    pub job: Id,
    /// It had been accepted before.
    pub existed: bool,
    /// Its state then, if the reply said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
}

/// A job as a reader saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSeen {
    /// The job.
    pub job: Id,
    /// Its state.
    pub state: JobState,
    /// Attempts begun.
    pub attempts: u32,
    /// Log index of its last change; 0 = not known.
    #[serde(default)]
    pub version: u64,
}

/// Jobs by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Waiting for their time.
    pub scheduled: u64,
    /// May start.
    pub available: u64,
    /// Leased.
    pub running: u64,
    /// Waiting for their backoff.
    pub retrying: u64,
    /// Waiting for an earlier job of their ordering key.
    #[serde(default)]
    pub blocked: u64,
}

/// A watch delivers a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// When it arrived.
    pub at: Micros,
    /// Client.
    pub process: u32,
    /// The `Watch` call.
    pub call: u32,
    /// The job.
    pub job: Id,
    /// State it entered.
    pub state: JobState,
    /// Log index of the change.
    pub index: u64,
}

/// A watch says that all changes up to an index were delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When it arrived.
    pub at: Micros,
    /// Client.
    pub process: u32,
    /// The `Watch` call.
    pub call: u32,
    /// The log index.
    pub index: u64,
}

//! What `apply` answers and announces.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::{ClusterRefusal, NodeState};
use crate::ids::{JobId, LeaseId, LogIndex, Name, NodeId, RequestId, SessionId, TenantId, Timestamp};
use crate::job::{JobRow, JobState};
use crate::limit::LimitLevel;
use crate::quota::Excess;

/// Everything one log entry brought about.
#[derive(Debug, Default)]
pub struct Applied {
    /// One per command, in order.
    pub replies: Vec<Reply>,
    /// For the shell on every node; each acts on what concerns it.
    pub events: Vec<Event>,
    /// One per command, in order: how many of the events had come up to its end. Those after the last mark come from
    /// the entry's end, where waiting jobs are given to sessions.
    pub marks: Vec<u32>,
    /// Positions of administrative requests that were done before, so that nothing was done.
    pub repeated: Vec<u32>,
}

/// Answer to one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done, nothing to add (`Bootstrap`, `QuietSession`, `CloseSession`, `LoseSession`, `Vouch`, `Tick`, `OpenSession`,
    /// `PauseQueue`, `PauseKind`, `SetLimit`, `DeleteLimit`, `OpenKey`, `ReleaseOrder`, and most commands about nodes).
    Done,
    /// To `Enqueue` and `Redrive`.
    Enqueued(Enqueued),
    /// To `EnqueueMany`, one per job in order.
    EnqueuedMany(Vec<Result<Enqueued, Refusal>>),
    /// To `Cancel`: the state after it. `Running` means the worker is being told.
    Cancelled(JobState),
    /// To `Report`, one per result in order.
    Reported(Vec<ReportReply>),
    /// To `SetTenant`.
    Tenant(TenantId),
    /// A rule said no; nothing changed.
    Refused(Refusal),
    /// To `CreateJoinToken`: when the token becomes useless.
    JoinToken {
        /// In replicated time.
        expires_at: Timestamp,
    },
    /// To `Join` and `Change`: the change that began, or 0 when there was nothing to change.
    ChangeBegun {
        /// Its id.
        id: LogIndex,
    },
    /// To `SetPriority`.
    Prioritised {
        /// Jobs that have another priority now.
        changed: u32,
    },
}

/// A job was accepted, or had been before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enqueued {
    /// Its id: that of the first job when this was a repeat.
    pub job: JobId,
    /// Its state now.
    pub state: JobState,
    /// True when it had been accepted before.
    pub existed: bool,
}

/// Answer to one reported attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportReply {
    /// Taken; the job's state after it.
    Accepted(JobState),
    /// This report had been taken already (a repeat after an unknown outcome).
    Repeated,
    /// The lease is not in force any more; nothing changed.
    LeaseLost,
}

/// Why a rule said no. Refusals change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No tenant of that name.
    #[error("tenant {0:?} does not exist")]
    UnknownTenant(Name),
    /// `create_only` met an existing one.
    #[error("tenant {0:?} exists already")]
    TenantExists(Name),
    /// No such job in this tenant, live or lately ended.
    #[error("job {0} does not exist")]
    UnknownJob(JobId),
    /// The id or idempotency key belongs to a job with another kind, schema version or payload.
    #[error("job {first} was enqueued before under the same {what} with another kind, schema version or payload")]
    Conflict {
        /// The job accepted first.
        first: JobId,
        /// `id` or `idempotency_key`.
        what: Name,
    },
    /// The search of the history is too old to be relied on; search again and repeat.
    #[error("the search of ended jobs reaches to log index {searched}, but must reach to {needed}; search again")]
    SearchHistoryAgain {
        /// How far it reached.
        searched: LogIndex,
        /// How far it must reach.
        needed: LogIndex,
    },
    /// Another item of an all-or-nothing call was refused.
    #[error("not accepted because item {item} of the same call was refused")]
    OtherItemRefused {
        /// Position of the first refused item.
        item: u32,
    },
    /// The session is unknown, closed or lost.
    #[error("the worker session is closed; open a new one")]
    SessionClosed,
    /// The log belongs to another cluster.
    #[error("this log belongs to cluster {actual:032x}, not {expected:032x}")]
    OtherCluster {
        /// The id asked for.
        expected: u128,
        /// The id that is set.
        actual: u128,
    },
    /// A value out of range reached the core (the API refuses these first).
    #[error("{field} is {value}, allowed is {allowed}")]
    OutOfRange {
        /// Field name as in the proto.
        field: Name,
        /// What was given.
        value: Name,
        /// The bound.
        allowed: Name,
    },
    /// The id of an administrative request stands for another command.
    #[error("request {request} was another command before; give each command an id of its own")]
    RequestReused {
        /// The id.
        request: RequestId,
    },
    /// So many requests were made since that it cannot be told whether this one was done.
    #[error("it cannot be told any more whether request {request} was done; look before you make a new one")]
    RequestForgotten {
        /// The id.
        request: RequestId,
    },
    /// A rule about nodes.
    #[error(transparent)]
    Cluster(ClusterRefusal),
    /// A feature level never falls.
    #[error("the feature level is {current} and never falls; {asked} was asked for")]
    LevelFalls {
        /// In force.
        current: u32,
        /// Asked for.
        asked: u32,
    },
    /// The tenant would have more than its quota allows.
    #[error("not accepted for tenant {tenant:?}: {excess}")]
    QuotaExceeded {
        /// The tenant.
        tenant: Name,
        /// What of, by how much, and when to try again.
        excess: Excess,
    },
}

impl From<ClusterRefusal> for Refusal {
    fn from(refusal: ClusterRefusal) -> Self {
        Self::Cluster(refusal)
    }
}

/// Something happened that a shell may act on. The same events on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A lease was granted; the node that holds the session hands it to the worker.
    Assigned(Box<Assignment>),
    /// A running job's cancel was asked for; its worker is to be told.
    CancelAsked {
        /// Holder.
        session: SessionId,
        /// The job.
        job: JobId,
        /// The attempt.
        lease: LeaseId,
    },
    /// A lease ended otherwise than by its holder's report; the worker must stop, its report will be refused.
    LeaseRevoked {
        /// Former holder.
        session: SessionId,
        /// The job.
        job: JobId,
        /// The attempt.
        lease: LeaseId,
    },
    /// A live job entered another state.
    JobChanged {
        /// Owner.
        tenant: TenantId,
        /// The job.
        job: JobId,
        /// Its state now.
        state: JobState,
        /// Attempts begun.
        attempts: u32,
    },
    /// A live job got another priority; its state is as it was.
    PriorityChanged {
        /// Owner.
        tenant: TenantId,
        /// The job.
        job: JobId,
        /// Its state.
        state: JobState,
        /// Attempts begun.
        attempts: u32,
    },
    /// A job ended and left the core's memory; the row goes to history.
    JobEnded(Arc<JobRow>),
    /// A limiter refused a start that would have come too early, or a worker reported a key as throttled; nothing starts
    /// there until its time.
    LimitClosed {
        /// Level.
        level: LimitLevel,
        /// Owner; 0 for the cluster.
        tenant: TenantId,
        /// The queue, kind or key; empty for cluster and tenant.
        name: Name,
        /// Its time.
        until: Timestamp,
        /// By a worker's word.
        throttled: bool,
    },
    /// A dead job holds up the others of its ordering key.
    OrderHeld {
        /// Owner.
        tenant: TenantId,
        /// The queue.
        queue: Name,
        /// The ordering key.
        key: Name,
        /// The dead job.
        job: JobId,
    },
    /// It holds them up no longer: it was redriven, or an operator released the key.
    OrderReleased {
        /// Owner.
        tenant: TenantId,
        /// The dead job.
        job: JobId,
    },
    /// A session is open.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// Node that holds it.
        node: NodeId,
    },
    /// A session is gone (closed or lost).
    SessionClosed {
        /// The session.
        session: SessionId,
        /// Node that held it.
        node: NodeId,
    },
    /// What is known of a node changed.
    NodeChanged {
        /// The node.
        node: NodeId,
        /// Whether it is a member now.
        state: NodeState,
        /// Whether it is drained now.
        drained: bool,
    },
    /// A change of the membership began, is to be given up, or ended.
    MembershipChange,
}

/// A lease with all that its worker needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Holder.
    pub session: SessionId,
    /// Node that holds the session.
    pub node: NodeId,
    /// Fencing token.
    pub lease: LeaseId,
    /// When the attempt times out; 0 = never.
    pub deadline: Timestamp,
    /// Attempt number, from 1.
    pub attempt: u32,
    /// When the job became available: its wait counts from here.
    pub available_at: Timestamp,
    /// Its place among the jobs of its ordering key.
    pub sequence: u64,
    /// The job.
    pub spec: Arc<crate::job::JobSpec>,
}

//! Commands: all that can be done to the replicated state.
//!
//! Every command is idempotent, so a proposal whose outcome is unknown may be repeated as it is.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterCommand;
use crate::hash;
use crate::ids::{JobId, LeaseId, LogIndex, Millis, Name, NodeId, RequestId, SessionId, Timestamp};
use crate::job::{JobError, JobSpec, Priority};
use crate::limit::{LimitRule, LimitSelector};
use crate::quota::Quota;

/// Commands of many callers that share one log entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The leader's clock when it built the entry.
    pub stamped_at: Timestamp,
    /// In order. Each gets its own reply.
    pub commands: Vec<Command>,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// First command of a cluster's life, proposed by its first leader: binds the log to a cluster id.
    /// Refused ([`crate::Refusal::OtherCluster`]) when another id is already set; the same id again is a success.
    Bootstrap {
        /// Random id that no other cluster has.
        cluster: u128,
    },

    // ---- jobs ----
    /// Accepts a job. By the API, for a client.
    /// A known id or idempotency key returns the first job, or is refused if kind, version or payload differ.
    Enqueue(Box<JobSpec>),
    /// Accepts many jobs. By the API, for a client.
    /// `all_or_nothing`: if any would be refused, none is accepted and every item's reply says why.
    EnqueueMany {
        /// The jobs, all of one tenant.
        jobs: Vec<JobSpec>,
        /// Accept all or none.
        all_or_nothing: bool,
    },
    /// Ends a job that waits; tells the worker of one that runs, whose report then ends it as cancelled (a success
    /// reported all the same stays a success). By the API. A job that already ended is answered with its state.
    Cancel {
        /// Owner, as the caller's credential has it.
        tenant: Name,
        /// The job.
        job: JobId,
    },
    /// Makes a dead job available again as a new job with fresh budgets that names the old one. By the API, which
    /// reads the dead job from memory or history. `spec.id` is the new id, minted once per request, so a repeat
    /// returns the same job. Refused if the tenant does not own it.
    Redrive {
        /// The dead job.
        from: JobId,
        /// The new job.
        spec: Box<JobSpec>,
    },

    // ---- sessions and their reports ----
    /// A worker connected. By the node that holds the stream.
    OpenSession(Box<SessionSpec>),
    /// What a worker says in one frame: results of attempts and room for new ones. By the node that holds the stream.
    /// Each result is judged alone by its lease id, also when the session is closed by now; a late one is answered
    /// [`crate::ReportReply::LeaseLost`]. Refused ([`crate::Refusal::SessionClosed`]) only if the session is not open and
    /// there are no results.
    Report {
        /// The session.
        session: SessionId,
        /// Ended attempts.
        results: Vec<AttemptReport>,
        /// Slots that the session has made free since it opened, in total, never counted back: the leases ever granted to it
        /// take at most `credit_total` slots. A total, not a difference, so that a repeat adds nothing.
        credit_total: u64,
    },
    /// No new leases for this session; those it holds stay. By the node (worker drains) or the leader (node silent).
    QuietSession {
        /// The session.
        session: SessionId,
    },
    /// The worker went away in order: its leases are taken back without counting the attempts (preempted).
    CloseSession {
        /// The session.
        session: SessionId,
    },
    /// The worker vanished: its leases are reclaimed and the attempts count as crashes. By the leader after the TTL,
    /// or by the node whose stream broke for good.
    LoseSession {
        /// The session.
        session: SessionId,
    },
    /// The leader's record of when sessions were last heard of, at most once a TTL each.
    Vouch {
        /// Sessions heard of since the last record.
        sessions: Vec<SessionId>,
    },

    // ---- administration ----
    /// Creates a tenant, or changes the settings of one. By the API.
    SetTenant {
        /// Name.
        name: Name,
        /// All of its settings.
        settings: TenantSettings,
        /// Refuse instead of changing one that exists.
        create_only: bool,
    },
    /// Stops or resumes the start of a queue's jobs. By the API. What runs goes on.
    PauseQueue {
        /// Owner.
        tenant: Name,
        /// Queue; need not have jobs.
        queue: Name,
        /// Pause or resume.
        paused: bool,
        /// Why, for the next operator.
        note: Name,
    },

    // ---- time ----
    /// Lets due timers fire: at most a batch of them, oldest first. By the leader when [`crate::Core::next_due`] has
    /// come. Carries nothing: `stamped_at` of the batch is the time.
    Tick,

    // ---- limits and order ----
    /// Sets a rule of the rule book, or replaces the one with the same selector. By the API. What was used of the old
    /// limit counts for the new one. Refused when a number is out of its range, when an exact tenant does not exist, or
    /// when the book is full.
    SetLimit(Box<LimitRule>),
    /// Takes a rule out of the rule book; a success also when it is not there. By the API.
    DeleteLimit(LimitSelector),
    /// Forgets that a worker reported a key as throttled, so that its jobs may start again. By the API.
    OpenKey {
        /// Owner.
        tenant: Name,
        /// The limit key.
        key: Name,
    },
    /// Lets the jobs go on that wait behind a dead job of their ordering key. By the API, for an operator who does not
    /// want to redrive it. A success also when nothing is held.
    ReleaseOrder {
        /// Owner.
        tenant: Name,
        /// The queue.
        queue: Name,
        /// The ordering key.
        key: Name,
    },

    // ---- administration, continued ----
    /// An administrative command that is done once: a repeat under the same id is answered as the first time and changes
    /// nothing, so it cannot undo what somebody else did in between. By the API, around each administrative command.
    /// The last 4,096 are remembered. Refused ([`crate::Refusal::RequestReused`]) for another command under a known
    /// id, and ([`crate::Refusal::RequestForgotten`]) when it cannot be told any more whether it is a repeat.
    Once {
        /// Identity of the request.
        request: RequestId,
        /// [`Command::fingerprint`] of the command.
        fingerprint: u64,
        /// Index up to which the node had applied when it first saw the request.
        proposed_after: LogIndex,
        /// What is to be done.
        command: Box<Command>,
    },
    /// About nodes and the membership.
    Cluster(Box<ClusterCommand>),

    /// Brings a feature level into force, for all replicas at this entry. By the API for an operator, once every member says that
    /// it understands the level; by the first leader of a new cluster. The level in force again is a success; a lower one is
    /// refused ([`crate::Refusal::LevelFalls`]).
    SetLevel {
        /// From [`crate::LEVEL_MIN`].
        level: u32,
    },

    /// Stops or resumes the start of a kind's jobs. By the API. What runs goes on. Refused when 1,024 kinds of the tenant are
    /// paused.
    PauseKind {
        /// Owner.
        tenant: Name,
        /// Kind; need not have jobs.
        kind: Name,
        /// Pause or resume.
        paused: bool,
        /// Why, for the next operator.
        note: Name,
    },
    /// Changes the priority of live jobs; those that have ended, or are not the tenant's, are passed over. By the API. What runs
    /// goes on; the priority counts when it starts again. Refused for more than 10,000 jobs.
    SetPriority {
        /// Owner, as the caller's credential has it.
        tenant: Name,
        /// The jobs.
        jobs: Vec<JobId>,
        /// What they get.
        priority: Priority,
    },
    /// Gives a queue a weight within its tenant, or takes it away. By the API. Refused when 64 queues of the tenant have weights.
    SetQueueWeight {
        /// Owner.
        tenant: Name,
        /// Queue; need not have jobs.
        queue: Name,
        /// 1 to 10,000; 0: none any more.
        weight: u32,
    },
}

impl Command {
    /// A number that tells this command from others, for [`Command::Once`]. Taken before a command is proposed, never
    /// when it is applied: another version of the program may find another number.
    pub fn fingerprint(&self) -> u64 {
        hash::text(&format!("{self:?}"))
    }

    /// True for what an operator does, and what [`Command::Once`] may carry.
    pub fn is_administrative(&self) -> bool {
        matches!(
            self,
            Self::SetTenant { .. }
                | Self::PauseQueue { .. }
                | Self::PauseKind { .. }
                | Self::SetPriority { .. }
                | Self::SetQueueWeight { .. }
                | Self::SetLimit(_)
                | Self::DeleteLimit(_)
                | Self::OpenKey { .. }
                | Self::ReleaseOrder { .. }
                | Self::Cluster(_)
        )
    }
}

/// How one attempt ended, by the worker's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptReport {
    /// The job.
    pub job: JobId,
    /// The lease under which it ran.
    pub lease: LeaseId,
    /// The end.
    pub outcome: AttemptOutcome,
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptOutcome {
    /// Done; the result is kept with the job.
    Succeeded {
        /// At most 64 KiB.
        result: Bytes,
    },
    /// Failed.
    Failed {
        /// What went wrong.
        error: JobError,
        /// False: straight to dead.
        retryable: bool,
        /// Overrides the backoff when not 0.
        retry_after: Millis,
    },
    /// Handed back by a draining worker: available at once, the attempt not counted.
    Preempted,
    /// Not now (e.g. the handler's own service throttles): available again after `delay`, the attempt not counted.
    Snoozed {
        /// The wait.
        delay: Millis,
    },
    /// Stopped at the handler after a cancel was asked for. Of a job nobody asked to cancel: a failure.
    Cancelled,
    /// A service behind the handler is throttling (an HTTP 429): no job with this limit key starts for `retry_after`.
    /// The job itself is available again at once, in its old place, the attempt not counted. If the job does not carry
    /// the key, no key is closed and the job alone waits.
    Throttled {
        /// One of the job's limit keys.
        key: Name,
        /// How long, from 1 ms.
        retry_after: Millis,
    },
}

/// A worker's session as it is replicated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// Identity.
    pub session: SessionId,
    /// Node that holds the stream.
    pub node: NodeId,
    /// The worker's name for people, e.g. host and process id.
    pub worker: Name,
    /// What it takes.
    pub class: WorkerClass,
    /// Silence after which the leader declares it lost. Default 10 s.
    pub ttl: Millis,
    /// Index up to which the node had applied when it proposed this: an open that arrives for a session already
    /// closed is refused, since sessions are never reused.
    pub proposed_after: LogIndex,
}

/// What a fleet of like workers subscribes to. Interned: sessions with equal classes share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerClass {
    /// Tenants served, sorted; empty = all.
    pub tenants: Vec<Name>,
    /// Queues served, sorted; a trailing `*` matches any ending; empty = all.
    pub queues: Vec<Name>,
    /// Job kinds with the schema versions accepted, sorted.
    pub kinds: Vec<KindVersions>,
    /// What the worker is, sorted by key; a job's required labels must all be here.
    pub labels: Vec<(Name, Name)>,
    /// Slots that it has in all; a job that takes more does not go to it.
    pub slots: u32,
}

/// One job kind that a worker handles.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KindVersions {
    /// Name of the kind.
    pub kind: Name,
    /// Lowest schema version accepted.
    pub min_version: u32,
    /// Highest schema version accepted.
    pub max_version: u32,
}

/// Aging of a tenant whose jobs of a level start before all of the next one, however long those wait. No other aging is as
/// large, and no job waits that long.
pub const AGING_STRICT: Millis = 1 << 56;

/// Settings of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantSettings {
    /// Share relative to other tenants, 1–10,000. Default 100.
    pub weight: u32,
    /// One priority level is worth this much waiting: 0 to 31 days, or [`AGING_STRICT`]. With 0 priorities do not count. Default
    /// 30 s.
    pub aging: Millis,
    /// Largest payload in bytes, up to 8 MiB. Default 1 MiB. Checked before a job is proposed.
    pub payload_bytes_max: u32,
    /// Bounds on the jobs that it brings in. Default: none.
    pub quota: Quota,
    /// Slots that it has for sure while it has jobs for them, over all fleets, up to 1,000,000. Others use what it does not.
    /// Default: 0.
    pub guaranteed_slots: u32,
}

impl Default for TenantSettings {
    fn default() -> Self {
        Self {
            weight: 100,
            aging: 30_000,
            payload_bytes_max: 1 << 20,
            quota: Quota::default(),
            guaranteed_slots: 0,
        }
    }
}

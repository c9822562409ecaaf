//! The rows in which the core's state is persisted. Load order does not matter.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::{ChangesRow, JoinTokenRow, NodeRow, TokenHash};
use crate::command::{KindVersions, SessionSpec, TenantSettings};
use crate::ids::{JobId, LogIndex, Name, NodeId, SessionId, TenantId, Timestamp};
use crate::job::{JobRow, JobState};
use crate::limit::{LimitLevel, LimitRule, LimitSelector};
use crate::requests::RequestRow;

/// A unit of persisted state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Row {
    /// The single row of counters.
    Meta(MetaRow),
    /// A tenant.
    Tenant(TenantRow),
    /// A queue that has settings (one without is made and freed by its jobs).
    Queue(QueueRow),
    /// A live job.
    Job(Arc<JobRow>),
    /// An open session.
    Session(SessionRow),
    /// Jobs that ended in one log entry, for the memory of lately ended jobs.
    Ended(EndedRow),
    /// Mean run time of a kind, for the cost estimate of fair sharing.
    KindCost(KindCostRow),
    /// A rule of the rule book.
    Limit(LimitRule),
    /// The state of a limiter that is not as new.
    Gate(GateRow),
    /// An ordering key whose jobs wait for a dead one.
    Order(OrderRow),
    /// A fleet of workers.
    Fleet(FleetRow),
    /// A node that is, was or is about to be a member.
    Node(NodeRow),
    /// The permission for a node to join.
    JoinToken(JoinTokenRow),
    /// The single row of changes of the membership.
    Changes(ChangesRow),
    /// An administrative request that was done.
    Request(RequestRow),
}

/// Where a row lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RowKey {
    /// The single row of counters.
    Meta,
    /// By tenant.
    Tenant(TenantId),
    /// By owner and name.
    Queue(TenantId, Name),
    /// By job.
    Job(JobId),
    /// By session.
    Session(SessionId),
    /// By log index.
    Ended(LogIndex),
    /// By owner and kind.
    KindCost(TenantId, Name),
    /// By selector.
    Limit(LimitSelector),
    /// By level, owner (0 for the cluster) and name (empty for cluster and tenant).
    Gate(LimitLevel, TenantId, Name),
    /// By owner, queue and key.
    Order(TenantId, Name, Name),
    /// By identity.
    Fleet(u64),
    /// By node.
    Node(NodeId),
    /// By node and hash of the secret.
    JoinToken(NodeId, TokenHash),
    /// The single row of changes.
    Changes,
    /// By log index and position.
    Request(LogIndex, u32),
}

impl Row {
    /// Where this row lies.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Meta(_) => RowKey::Meta,
            Self::Tenant(row) => RowKey::Tenant(row.id),
            Self::Queue(row) => RowKey::Queue(row.tenant, row.queue.clone()),
            Self::Job(row) => RowKey::Job(row.spec.id),
            Self::Session(row) => RowKey::Session(row.spec.session),
            Self::Ended(row) => RowKey::Ended(row.index),
            Self::KindCost(row) => RowKey::KindCost(row.tenant, row.kind.clone()),
            Self::Limit(rule) => RowKey::Limit(rule.selector.clone()),
            Self::Gate(row) => RowKey::Gate(row.level, row.tenant, row.name.clone()),
            Self::Order(row) => RowKey::Order(row.tenant, row.queue.clone(), row.key.clone()),
            Self::Fleet(row) => RowKey::Fleet(row.id),
            Self::Node(row) => RowKey::Node(row.node),
            Self::JoinToken(row) => RowKey::JoinToken(row.node, row.hash),
            Self::Changes(_) => RowKey::Changes,
            Self::Request(row) => RowKey::Request(row.index, row.position),
        }
    }
}

/// Rows that changed since they were last taken, as of one applied index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// To write.
    pub put: Vec<Row>,
    /// To remove.
    pub delete: Vec<RowKey>,
}

/// Counters of the whole state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRow {
    /// Cluster id; 0 until bootstrap.
    pub cluster: u128,
    /// Index of the last applied entry.
    pub applied: LogIndex,
    /// Replicated time: the greatest stamp so far.
    pub now: Timestamp,
    /// Id for the next tenant.
    pub next_tenant: u64,
    /// Rolling hash of applied effects.
    pub hash: u64,
    /// Lately ended jobs are remembered from this index on.
    pub ended_floor: LogIndex,
    /// Id for the next fleet.
    pub next_fleet: u64,
    /// Closed sessions are remembered from this index on; an open proposed before it is refused.
    pub closed_floor: LogIndex,
    /// The sessions closed last, oldest first, at most 1,024.
    pub closed: Vec<ClosedSession>,
    /// Feature level in force; 0 is the first.
    pub level: u32,
}

/// A session that was closed or lost lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedSession {
    /// Log index of the end.
    pub index: LogIndex,
    /// The session.
    pub session: SessionId,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRow {
    /// Identity.
    pub id: TenantId,
    /// Name.
    pub name: Name,
    /// Settings.
    pub settings: TenantSettings,
    /// Its place in the fair sharing of each fleet that it keeps busy, or was ahead in when it last did.
    pub shares: Vec<ShareRow>,
    /// Totals since creation.
    pub totals: Totals,
    /// Theoretical arrival time of the quota's enqueue rate (see `gcra`); 0 = nothing taken.
    pub enqueue_arrival: u128,
}

/// A tenant's place in the fair sharing of one fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRow {
    /// The fleet.
    pub fleet: u64,
    /// Its next start is tagged with this, or later if the fleet is further: run time used over weight.
    pub tag: u64,
    /// How far its tag may lie behind the fleet: what was charged too much in advance.
    pub owed: u64,
    /// Among the lines of a tenant whose queues have weights, the tag of the job started last.
    pub line_time: u64,
    /// Places of those lines that have started jobs while the tenant competed, by queue.
    pub lines: Vec<LineRow>,
    /// What `tag` and `owed` are, among starts below guarantees, and of those alone.
    pub guarantee_tag: u64,
    /// See there.
    pub guarantee_owed: u64,
}

/// A line's place in the sharing of its tenant's time, in one fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRow {
    /// The queue; empty for the common line of the queues without weights.
    pub queue: Name,
    /// Its next start is tagged with this, or later if the tenant is further: run time used over weight.
    pub tag: u64,
    /// How far its tag may lie behind: what was charged too much in advance.
    pub owed: u64,
}

/// Counts since creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Jobs accepted.
    pub enqueued: u64,
    /// Attempts begun.
    pub started: u64,
    /// Jobs ended well.
    pub succeeded: u64,
    /// Jobs that died.
    pub dead: u64,
    /// Jobs cancelled.
    pub cancelled: u64,
    /// Jobs expired.
    pub expired: u64,
    /// Attempts that failed or timed out.
    pub failures: u64,
    /// Attempts whose worker vanished.
    pub crashes: u64,
    /// Worker time used by ended attempts: milliseconds times slots.
    pub run_ms: u64,
}

/// Settings of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// Owner.
    pub tenant: TenantId,
    /// Name.
    pub queue: Name,
    /// No job of it starts.
    pub paused: bool,
    /// Why.
    pub note: Name,
    /// Share of the tenant's time relative to its other queues with weights and to the common line; 0 = it stands in the common
    /// line.
    pub weight: u32,
}

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// As opened.
    pub spec: SessionSpec,
    /// When opened.
    pub opened_at: Timestamp,
    /// Last time the log says it was heard of.
    pub vouched_at: Timestamp,
    /// Slots it made free, in total.
    pub credit_total: u64,
    /// Slots of the leases granted to it, in total.
    pub granted_total: u64,
    /// No new leases.
    pub quiet: bool,
    /// It gathers free slots and starts nothing until it has enough of them.
    pub gathers: Option<GatherRow>,
}

/// For what a session gathers free slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatherRow {
    /// Whose turn it is.
    pub tenant: TenantId,
    /// How many slots its job takes.
    pub slots: u32,
}

/// Jobs that ended in one log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRow {
    /// Log index.
    pub index: LogIndex,
    /// Replicated time of that entry.
    pub at: Timestamp,
    /// The jobs.
    pub jobs: Vec<EndedJob>,
}

/// What is remembered of a job that ended lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedJob {
    /// Its id.
    pub job: JobId,
    /// Owner.
    pub tenant: TenantId,
    /// How it ended.
    pub state: JobState,
    /// Tells a retry from another job.
    pub fingerprint: u64,
    /// Its key, if it had one.
    pub idempotency_key: Option<Name>,
    /// The lease whose report ended it; a repeat of that report is recognised.
    pub lease: Option<crate::ids::LeaseId>,
}

/// Mean run time of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCostRow {
    /// Owner.
    pub tenant: TenantId,
    /// Job kind.
    pub kind: Name,
    /// Moving average of run times, in 1/256 of a millisecond.
    pub mean: u64,
}

/// The state of the limiter of one name, where it is not as new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateRow {
    /// Level.
    pub level: LimitLevel,
    /// Owner; 0 for the cluster.
    pub tenant: TenantId,
    /// Name of the queue, kind or key; empty for cluster and tenant.
    pub name: Name,
    /// Theoretical arrival time of the rate, in units of 1/`count` ms (see `gcra`); 0 = full.
    pub arrival: u128,
    /// Closed until a `Tick` at or after this time, since the next start would have come too early; 0 = not.
    pub shut_until: Timestamp,
    /// The same, by a worker's word.
    pub throttled_until: Timestamp,
    /// An operator paused the kind, and why.
    pub paused: Option<Name>,
}

/// An ordering key whose jobs wait for a dead one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// Owner.
    pub tenant: TenantId,
    /// Queue.
    pub queue: Name,
    /// The key.
    pub key: Name,
    /// The dead job.
    pub held_by: JobId,
    /// Its place.
    pub sequence: u64,
}

/// What tells one fleet of workers from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FleetKey {
    /// Tenants served, sorted; empty = all.
    pub tenants: Vec<Name>,
    /// Patterns of queues served, sorted; empty = all.
    pub queues: Vec<Name>,
    /// Job kinds with the schema versions accepted, sorted.
    pub kinds: Vec<KindVersions>,
}

/// A fleet of workers: those that serve the same tenants, queues and kinds, whatever their labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetRow {
    /// Identity, never reused.
    pub id: u64,
    /// What it serves.
    pub key: FleetKey,
    /// Tag of the job started last.
    pub virtual_time: u64,
    /// Since when it has no sessions; 0 = it has.
    pub idle_since: Timestamp,
    /// Tag of the job started last below a guarantee.
    pub guarantee_time: u64,
}

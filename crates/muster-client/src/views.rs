//! What the cluster tells: jobs, queues, tenants, nodes, workers. Plain data, all of it serialisable.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use muster_proto::v1;
use serde::{Deserialize, Serialize, Serializer};

use crate::admin::Quota;
use crate::job::OrderingPolicy;
use crate::limits::RateLimit;
use crate::priority::PriorityOrder;
use crate::states::{JobState, Priority};

/// A failure as the handler reported it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// Kind of failure, e.g. the error's type.
    pub class: String,
    /// For people.
    pub message: String,
}

impl fmt::Display for JobFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.class.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.class, self.message)
        }
    }
}

/// A job as it stands. Times serialise as RFC 3339 text; payload and result are left out of the serialised form,
/// since only the caller knows what they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobInfo {
    /// Identity.
    pub id: String,
    /// Owner.
    pub tenant: String,
    /// Queue.
    pub queue: String,
    /// Name of the handler.
    pub kind: String,
    /// Version of the payload's schema.
    pub schema_version: u32,
    /// What the handler gets; empty in lists.
    #[serde(skip)]
    pub payload: Bytes,
    /// Media type of the payload.
    pub content_type: String,
    /// Urgency.
    pub priority: Priority,
    /// Where it stands.
    pub state: JobState,
    /// When it was accepted.
    #[serde(serialize_with = "rfc3339")]
    pub enqueued_at: Option<SystemTime>,
    /// When it may start (again).
    #[serde(serialize_with = "rfc3339")]
    pub available_at: Option<SystemTime>,
    /// When its last attempt began.
    #[serde(serialize_with = "rfc3339")]
    pub started_at: Option<SystemTime>,
    /// When it ended.
    #[serde(serialize_with = "rfc3339")]
    pub ended_at: Option<SystemTime>,
    /// Attempts begun that count.
    pub attempts: u32,
    /// Failures and timeouts allowed.
    pub max_attempts: u32,
    /// Attempts whose worker vanished.
    pub crashes: u32,
    /// Such attempts allowed.
    pub max_crashes: u32,
    /// The last failure.
    pub failure: Option<JobFailure>,
    /// What the handler returned; JSON for typed handlers.
    #[serde(skip)]
    pub result: Bytes,
    /// The dead job this one revives.
    pub redriven_from: Option<String>,
    /// The caller's key.
    pub idempotency_key: Option<String>,
    /// Free pairs.
    pub metadata: BTreeMap<String, String>,
    /// Log index of its last change: grows with every change.
    pub changed_index: u64,
    /// Limit keys, with the tokens that a start takes of each.
    pub limit_keys: BTreeMap<String, u32>,
    /// Tokens that a start takes of the rates of cluster, tenant, queue and kind.
    pub cost: u32,
    /// Key of the jobs that run in order with it.
    pub ordering_key: Option<String>,
    /// What becomes of those behind it if it dies.
    pub ordering_policy: Option<OrderingPolicy>,
    /// Its place among the jobs of its ordering key; 0 without one.
    pub sequence: u64,
    /// Labels that its worker must carry.
    pub required_labels: BTreeMap<String, String>,
    /// Labels that its worker had better carry.
    pub preferred_labels: BTreeMap<String, String>,
    /// Slots of its worker that an attempt takes.
    pub slots: u32,
}

impl From<v1::Job> for JobInfo {
    fn from(job: v1::Job) -> Self {
        let ordering_policy = match job.ordering_policy() {
            v1::OrderingPolicy::Unspecified => None,
            v1::OrderingPolicy::SkipDead => Some(OrderingPolicy::SkipDead),
            v1::OrderingPolicy::Strict => Some(OrderingPolicy::Strict),
        };
        let payload = job.payload.unwrap_or_default();
        Self {
            id: job.id,
            tenant: job.tenant,
            queue: job.queue,
            kind: job.kind,
            schema_version: job.schema_version,
            payload: payload.data,
            content_type: payload.content_type,
            priority: Priority::from_proto(job.priority),
            state: JobState::from_proto(job.state),
            enqueued_at: time(job.enqueued_at),
            available_at: time(job.available_at),
            started_at: time(job.started_at),
            ended_at: time(job.ended_at),
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            crashes: job.crashes,
            max_crashes: job.max_crashes,
            failure: job.error.map(|error| JobFailure {
                class: error.class,
                message: error.message,
            }),
            result: job.result,
            redriven_from: (!job.redriven_from.is_empty()).then_some(job.redriven_from),
            idempotency_key: (!job.idempotency_key.is_empty()).then_some(job.idempotency_key),
            metadata: job.metadata.into_iter().collect(),
            changed_index: job.changed_index,
            limit_keys: job.limit_keys.into_iter().map(|key| (key.key, key.cost)).collect(),
            cost: job.cost,
            ordering_key: (!job.ordering_key.is_empty()).then_some(job.ordering_key),
            ordering_policy,
            sequence: job.sequence,
            required_labels: job.required_labels.into_iter().collect(),
            preferred_labels: job.preferred_labels.into_iter().collect(),
            slots: job.slots,
        }
    }
}

/// A page of jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JobPage {
    /// Without their payloads.
    pub jobs: Vec<JobInfo>,
    /// For the next page; `None` at the end.
    pub next: Option<String>,
}

/// A named line within a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueInfo {
    /// Name.
    pub name: String,
    /// No job of it starts.
    pub paused: bool,
    /// Why it is paused.
    pub note: String,
    /// Jobs that wait for their time.
    pub scheduled: u64,
    /// Jobs that wait for an earlier one of their ordering key.
    pub blocked: u64,
    /// Jobs that may start.
    pub available: u64,
    /// Jobs under lease.
    pub running: u64,
    /// Jobs that wait for their backoff.
    pub retrying: u64,
    /// How long the oldest available job has waited.
    pub oldest_wait: Option<Duration>,
    /// Available jobs that no connected worker accepts.
    pub unroutable: u64,
    /// Its weight among the tenant's queues; `None`: it stands with all others that have none.
    pub weight: Option<u32>,
}

impl From<v1::Queue> for QueueInfo {
    fn from(queue: v1::Queue) -> Self {
        Self {
            name: queue.name,
            paused: queue.paused,
            note: queue.note,
            scheduled: queue.scheduled,
            blocked: queue.blocked,
            available: queue.available,
            running: queue.running,
            retrying: queue.retrying,
            oldest_wait: queue.oldest_wait.and_then(|wait| wait.try_into().ok()),
            unroutable: queue.unroutable,
            weight: (queue.weight > 0).then_some(queue.weight),
        }
    }
}

/// An owner of queues and jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TenantInfo {
    /// Name.
    pub name: String,
    /// Share relative to others.
    pub weight: u32,
    /// Largest payload in bytes.
    pub payload_bytes_max: u32,
    /// How its jobs are ordered.
    pub priority_order: PriorityOrder,
    /// Counts since creation.
    pub totals: TenantTotals,
    /// Jobs that wait for their time.
    pub scheduled: u64,
    /// Jobs that wait for an earlier one of their ordering key.
    pub blocked: u64,
    /// Jobs that may start.
    pub available: u64,
    /// Jobs under lease.
    pub running: u64,
    /// Jobs that wait for their backoff.
    pub retrying: u64,
    /// Bounds on the jobs that it brings in.
    pub quota: Quota,
    /// Bytes of its live jobs that count for the quota.
    pub bytes: u64,
    /// Jobs that the enqueue rate of the quota would let in at once now; `None`: it has none.
    pub enqueue_tokens: Option<u32>,
    /// Jobs that may run at once, by the limit of the level tenant; 0: not limited.
    pub concurrency: u32,
    /// Slots that it has for sure while it has jobs for them; 0: none.
    pub guaranteed_slots: u32,
    /// Slots that its running jobs take.
    pub running_slots: u64,
}

impl TenantInfo {
    /// Live jobs, in whatever state.
    pub fn live(&self) -> u64 {
        self.scheduled + self.blocked + self.available + self.running + self.retrying
    }
}

/// Counts since a tenant's creation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TenantTotals {
    /// Jobs accepted.
    pub enqueued: u64,
    /// Attempts begun.
    pub started: u64,
    /// Jobs ended well.
    pub succeeded: u64,
    /// Jobs ended dead.
    pub dead: u64,
    /// Jobs cancelled.
    pub cancelled: u64,
    /// Jobs never started in time.
    pub expired: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Attempts whose worker vanished.
    pub crashes: u64,
    /// Worker time used.
    pub run_time: Duration,
}

impl From<v1::Tenant> for TenantInfo {
    fn from(tenant: v1::Tenant) -> Self {
        let priority_order = PriorityOrder::from_proto(&tenant);
        let totals = tenant.totals.unwrap_or_default();
        let quota = tenant.quota.unwrap_or_default();
        Self {
            name: tenant.name,
            weight: tenant.weight,
            guaranteed_slots: tenant.guaranteed_slots,
            running_slots: tenant.running_slots,
            payload_bytes_max: tenant.payload_bytes_max,
            priority_order,
            totals: TenantTotals {
                enqueued: totals.enqueued,
                started: totals.started,
                succeeded: totals.succeeded,
                dead: totals.dead,
                cancelled: totals.cancelled,
                expired: totals.expired,
                failures: totals.failures,
                crashes: totals.crashes,
                run_time: totals
                    .run_time
                    .and_then(|time| time.try_into().ok())
                    .unwrap_or_default(),
            },
            scheduled: tenant.scheduled,
            blocked: tenant.blocked,
            available: tenant.available,
            running: tenant.running,
            retrying: tenant.retrying,
            quota: Quota {
                jobs_max: quota.jobs_max,
                bytes_max: quota.bytes_max,
                enqueue_rate: quota.enqueue_rate.as_ref().map(RateLimit::from_proto),
            },
            bytes: tenant.bytes,
            enqueue_tokens: tenant.enqueue_tokens,
            concurrency: tenant.concurrency,
        }
    }
}

/// A connected worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerInfo {
    /// Identity of its session.
    pub session_id: String,
    /// For people.
    pub name: String,
    /// Node that holds its stream.
    pub node_id: u64,
    /// Tenants served; empty: all.
    pub tenants: Vec<String>,
    /// Queues served; empty: all.
    pub queues: Vec<String>,
    /// Kinds it runs.
    pub kinds: Vec<String>,
    /// What it is.
    pub labels: BTreeMap<String, String>,
    /// When its session began.
    #[serde(serialize_with = "rfc3339")]
    pub opened_at: Option<SystemTime>,
    /// Leases held.
    pub running: u32,
    /// Slots it has free.
    pub credits: u32,
    /// Takes no more jobs.
    pub quiet: bool,
    /// Slots it has in all.
    pub slots: u32,
    /// It gathers free slots until it has so many, for a job that takes them; 0: it does not.
    pub gathers: u32,
}

impl From<v1::WorkerInfo> for WorkerInfo {
    fn from(worker: v1::WorkerInfo) -> Self {
        Self {
            session_id: worker.session_id,
            name: worker.name,
            node_id: worker.node_id,
            tenants: worker.tenants,
            queues: worker.queues,
            kinds: worker.kinds.into_iter().map(|kind| kind.kind).collect(),
            labels: worker.labels.into_iter().collect(),
            opened_at: time(worker.opened_at),
            running: worker.running,
            credits: worker.credits,
            quiet: worker.quiet,
            slots: worker.slots,
            gathers: worker.gathers,
        }
    }
}

pub(crate) fn time(timestamp: Option<prost_types::Timestamp>) -> Option<SystemTime> {
    timestamp.and_then(|timestamp| timestamp.try_into().ok())
}

/// As a protobuf duration; one beyond its range (millions of years) is left out.
pub(crate) fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

// The signature is serde's.
#[allow(clippy::ref_option)]
pub(crate) fn rfc3339<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&prost_types::Timestamp::from(*time)),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_serialise_as_text() {
        let mut info = JobInfo::from(v1::Job {
            id: "a".into(),
            ..v1::Job::default()
        });
        info.enqueued_at = Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
        let json = serde_json::to_value(&info).unwrap();
        assert_eq!(json["enqueued_at"], "1970-01-01T00:00:01.500Z");
        assert_eq!(json["ended_at"], serde_json::Value::Null);
    }
}

//! From the core's types to those of the proto. The other way is `validate`, since what comes from outside must be
//! looked at first.

use std::collections::HashMap;
use std::time::Duration;

use muster_core::{
    AGING_STRICT, Encoding, JobRow, JobSpec, JobState, KindVersions, KindView, LimitLevel, LimitRule, LimitUse, Millis,
    Name, OrderView, OrderingPolicy, Payload, Priority, QueueView, RateLimit, ReportReply, SessionView, TenantView,
    Timestamp, UnroutableView, WorkerMatch,
};
use muster_proto::v1;

/// A length of time.
pub(crate) fn duration(duration: Duration) -> prost_types::Duration {
    millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// A length of time in milliseconds.
pub(crate) fn millis(millis: Millis) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(millis / 1_000).unwrap_or(i64::MAX),
        nanos: ((millis % 1_000) * 1_000_000) as i32,
    }
}

/// An instant; 0 stands for "never" and becomes absent.
pub(crate) fn timestamp(at: Timestamp) -> Option<prost_types::Timestamp> {
    (at != 0).then(|| prost_types::Timestamp {
        seconds: i64::try_from(at / 1_000).unwrap_or(i64::MAX),
        nanos: ((at % 1_000) * 1_000_000) as i32,
    })
}

/// The state's number in the proto, which is the core's.
pub(crate) fn state(state: JobState) -> i32 {
    match state {
        JobState::Scheduled => v1::JobState::Scheduled,
        JobState::Blocked => v1::JobState::Blocked,
        JobState::Available => v1::JobState::Available,
        JobState::Running => v1::JobState::Running,
        JobState::Retrying => v1::JobState::Retrying,
        JobState::Succeeded => v1::JobState::Succeeded,
        JobState::Dead => v1::JobState::Dead,
        JobState::Cancelled => v1::JobState::Cancelled,
        JobState::Expired => v1::JobState::Expired,
    }
    .into()
}

/// The state as people write it.
pub(crate) fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Scheduled => "scheduled",
        JobState::Blocked => "blocked",
        JobState::Available => "available",
        JobState::Running => "running",
        JobState::Retrying => "retrying",
        JobState::Succeeded => "succeeded",
        JobState::Dead => "dead",
        JobState::Cancelled => "cancelled",
        JobState::Expired => "expired",
    }
}

fn priority(priority: Priority) -> i32 {
    match priority {
        Priority::Critical => v1::Priority::Critical,
        Priority::High => v1::Priority::High,
        Priority::Normal => v1::Priority::Normal,
        Priority::Low => v1::Priority::Low,
        Priority::Bulk => v1::Priority::Bulk,
    }
    .into()
}

/// What the handler gets; the bytes are shared, not copied.
pub(crate) fn payload(payload: &Payload) -> v1::Payload {
    v1::Payload {
        data: payload.data.clone(),
        content_type: payload.content_type.to_string(),
        encoding: match payload.encoding {
            Encoding::Identity => v1::Encoding::Unspecified,
            Encoding::Zstd => v1::Encoding::Zstd,
        }
        .into(),
    }
}

/// Pairs.
pub(crate) fn pairs(pairs: &[(Name, Name)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

/// A job as it stands.
pub(crate) fn job(row: &JobRow) -> v1::Job {
    v1::Job {
        payload: Some(payload(&row.spec.payload)),
        result: row.result.clone(),
        ..job_without_data(row)
    }
}

/// A job as lists show it: without payload and result.
pub(crate) fn job_without_data(row: &JobRow) -> v1::Job {
    let spec = &row.spec;
    v1::Job {
        id: spec.id.to_string(),
        tenant: spec.tenant.to_string(),
        queue: spec.queue.to_string(),
        kind: spec.kind.to_string(),
        schema_version: spec.schema_version,
        payload: None,
        priority: priority(spec.priority),
        state: state(row.state),
        enqueued_at: timestamp(row.enqueued_at),
        available_at: timestamp(row.available_at),
        started_at: timestamp(row.started_at),
        ended_at: timestamp(row.ended_at),
        attempts: row.attempts,
        max_attempts: spec.options.max_attempts,
        max_crashes: spec.options.max_crashes,
        crashes: row.crashes,
        error: row.error.as_ref().map(|error| v1::JobError {
            class: error.class.to_string(),
            message: error.message.to_string(),
        }),
        result: bytes::Bytes::new(),
        redriven_from: row.redriven_from.map(|id| id.to_string()).unwrap_or_default(),
        idempotency_key: spec.idempotency_key.as_deref().unwrap_or_default().to_owned(),
        metadata: pairs(&spec.metadata),
        changed_index: row.changed_index,
        limit_keys: spec
            .options
            .limits
            .keys
            .iter()
            .map(|key| v1::LimitKey {
                key: key.key.to_string(),
                cost: key.cost,
            })
            .collect(),
        cost: spec.options.limits.cost,
        ordering_key: ordering_key(spec),
        ordering_policy: match spec.ordering.as_ref().map(|ordering| ordering.policy) {
            None => v1::OrderingPolicy::Unspecified,
            Some(OrderingPolicy::SkipDead) => v1::OrderingPolicy::SkipDead,
            Some(OrderingPolicy::Strict) => v1::OrderingPolicy::Strict,
        }
        .into(),
        sequence: sequence(spec, row.sequence),
        required_labels: pairs(&spec.options.required_labels),
        preferred_labels: pairs(&spec.options.preferred_labels),
        slots: spec.options.slots,
    }
}

fn ordering_key(spec: &JobSpec) -> String {
    spec.ordering
        .as_ref()
        .map(|ordering| ordering.key.to_string())
        .unwrap_or_default()
}

/// A place in an order is nobody's business without one.
fn sequence(spec: &JobSpec, sequence: u64) -> u64 {
    if spec.ordering.is_some() { sequence } else { 0 }
}

/// The permission for a node to join.
pub(crate) fn join_token(row: &muster_core::JoinTokenRow) -> v1::JoinToken {
    v1::JoinToken {
        node_id: row.node,
        created_at: timestamp(row.created_at),
        expires_at: timestamp(row.expires_at),
        learner: !row.voter,
        replaces_node_id: row.replaces,
        peer_address: row.peer.to_string(),
        api_address: row.api.to_string(),
    }
}

/// A queue at replicated time `now`.
pub(crate) fn queue(view: &QueueView, now: Timestamp) -> v1::Queue {
    let waiting = (view.oldest_available_at != 0).then(|| now.saturating_sub(view.oldest_available_at));
    v1::Queue {
        name: view.name.to_string(),
        paused: view.paused,
        note: view.note.to_string(),
        scheduled: view.live.scheduled,
        available: view.live.available,
        running: view.live.running,
        retrying: view.live.retrying,
        oldest_wait: waiting.map(millis),
        unroutable: view.unroutable,
        blocked: view.live.blocked,
        weight: view.weight,
    }
}

/// A tenant at `now`.
pub(crate) fn tenant(view: &TenantView, now: Timestamp) -> v1::Tenant {
    let settings = &view.settings;
    let totals = &view.totals;
    let (order, aging) = match settings.aging {
        0 => (v1::PriorityOrder::Fifo, None),
        AGING_STRICT => (v1::PriorityOrder::Strict, None),
        aging => (v1::PriorityOrder::Aging, Some(millis(aging))),
    };
    v1::Tenant {
        name: view.name.to_string(),
        weight: settings.weight,
        totals: Some(v1::TenantTotals {
            enqueued: totals.enqueued,
            started: totals.started,
            succeeded: totals.succeeded,
            dead: totals.dead,
            cancelled: totals.cancelled,
            expired: totals.expired,
            failures: totals.failures,
            crashes: totals.crashes,
            run_time: Some(millis(totals.run_ms)),
        }),
        scheduled: view.live.scheduled,
        available: view.live.available,
        running: view.live.running,
        retrying: view.live.retrying,
        payload_bytes_max: settings.payload_bytes_max,
        blocked: view.live.blocked,
        quota: Some(v1::Quota {
            jobs_max: settings.quota.jobs_max,
            bytes_max: settings.quota.bytes_max,
            enqueue_rate: settings.quota.enqueue_rate.map(rate),
        }),
        bytes: view.quota_use.bytes,
        enqueue_tokens: settings.quota.tokens(&view.quota_use, now),
        concurrency: view.concurrency,
        priority_order: order.into(),
        aging,
        guaranteed_slots: settings.guaranteed_slots,
        running_slots: view.running_slots,
    }
}

fn rate(rate: RateLimit) -> v1::RateLimit {
    v1::RateLimit {
        count: rate.count,
        period: Some(millis(rate.period)),
        burst: rate.burst,
    }
}

/// The level's number in the proto.
pub(crate) fn level(level: LimitLevel) -> i32 {
    match level {
        LimitLevel::Cluster => v1::LimitLevel::Cluster,
        LimitLevel::Tenant => v1::LimitLevel::Tenant,
        LimitLevel::Queue => v1::LimitLevel::Queue,
        LimitLevel::Kind => v1::LimitLevel::Kind,
        LimitLevel::Key => v1::LimitLevel::Key,
    }
    .into()
}

/// A kind.
pub(crate) fn kind_of(view: &KindView) -> v1::Kind {
    v1::Kind {
        name: view.name.to_string(),
        paused: view.paused.is_some(),
        note: view.paused.as_deref().unwrap_or_default().to_owned(),
        available: view.available,
        running: view.running,
        mean_run: view.mean_run.map(millis),
        workers: view.sessions,
    }
}

/// How far sessions match a job.
pub(crate) fn worker_match(workers: &WorkerMatch) -> v1::WorkerMatch {
    v1::WorkerMatch {
        open: workers.open,
        tenant: workers.tenant,
        queue: workers.queue,
        kind: workers.kind,
        version: workers.version,
        accept: workers.accept,
        quiet: workers.quiet,
        running: workers.running,
        free: workers.free,
        labels: workers.labels,
        most_free: workers.most_free,
    }
}

/// Jobs that no session accepts, at replicated time `now`.
pub(crate) fn unroutable(view: &UnroutableView, now: Timestamp) -> v1::UnroutableJobs {
    v1::UnroutableJobs {
        queue: view.what.queue.to_string(),
        kind: view.what.kind.to_string(),
        schema_version: view.what.schema_version,
        required_labels: pairs(&view.what.labels),
        jobs: view.jobs,
        oldest_wait: Some(millis(now.saturating_sub(view.oldest_available_at))),
        workers: Some(worker_match(&view.workers)),
        slots: view.what.slots,
    }
}

/// A rule, with what goes on behind it if that is told.
pub(crate) fn limit(rule: &LimitRule, summed: Option<LimitUse>) -> v1::Limit {
    let selector = &rule.selector;
    v1::Limit {
        level: level(selector.level),
        tenants: selector.tenants.to_string(),
        names: selector.names.to_string(),
        rate: rule.rate.map(rate),
        concurrency: rule.concurrency,
        unlimited: rule.rate.is_none() && rule.concurrency == 0,
        note: rule.note.to_string(),
        r#use: summed.map(|sum| v1::LimitUse {
            names: sum.names,
            running: sum.running,
            waiting: sum.waiting,
            closed: sum.closed,
        }),
    }
}

/// A held ordering key.
pub(crate) fn held_order(view: &OrderView) -> v1::HeldOrder {
    v1::HeldOrder {
        ordering_key: view.key.to_string(),
        held_by: view.held_by.map(|job| job.to_string()).unwrap_or_default(),
        next: view.first.map(|job| job.to_string()).unwrap_or_default(),
        waiting: view.jobs,
    }
}

/// An open session.
pub(crate) fn worker(view: &SessionView) -> v1::WorkerInfo {
    let row = &view.row;
    let class = &row.spec.class;
    let texts = |names: &[Name]| names.iter().map(ToString::to_string).collect();
    v1::WorkerInfo {
        session_id: session_id(row.spec.session.0),
        name: row.spec.worker.to_string(),
        node_id: row.spec.node,
        tenants: if class.tenants.is_empty() {
            vec!["*".to_owned()]
        } else {
            texts(&class.tenants)
        },
        queues: texts(&class.queues),
        kinds: class.kinds.iter().map(kind).collect(),
        labels: pairs(&class.labels),
        opened_at: timestamp(row.opened_at),
        running: view.running,
        credits: u32::try_from(row.credit_total.saturating_sub(row.granted_total)).unwrap_or(u32::MAX),
        quiet: row.quiet,
        slots: class.slots,
        gathers: row.gathers.map_or(0, |gathers| gathers.slots),
    }
}

fn kind(kind: &KindVersions) -> v1::WorkerKind {
    v1::WorkerKind {
        kind: kind.kind.to_string(),
        min_version: kind.min_version,
        max_version: kind.max_version,
    }
}

/// A session's id as text.
pub(crate) fn session_id(id: u128) -> String {
    uuid::Uuid::from_u128(id).to_string()
}

/// A job handed to a worker.
pub(crate) fn leased(assignment: &muster_core::Assignment) -> v1::LeasedJob {
    let spec = &assignment.spec;
    v1::LeasedJob {
        id: spec.id.to_string(),
        tenant: spec.tenant.to_string(),
        queue: spec.queue.to_string(),
        kind: spec.kind.to_string(),
        schema_version: spec.schema_version,
        payload: Some(payload(&spec.payload)),
        metadata: pairs(&spec.metadata),
        fence: assignment.lease.fence(),
        attempt: assignment.attempt,
        deadline: timestamp(assignment.deadline),
        available_at: timestamp(assignment.available_at),
        max_attempts: spec.options.max_attempts,
        limit_keys: spec.options.limits.keys.iter().map(|key| key.key.to_string()).collect(),
        ordering_key: ordering_key(spec),
        sequence: sequence(spec, assignment.sequence),
        slots: spec.options.slots,
    }
}

/// Answer to a report.
pub(crate) fn ack(job: muster_core::JobId, fence: u64, reply: ReportReply) -> v1::ReportAck {
    use v1::report_ack::Result as Taken;
    let (result, state_now) = match reply {
        ReportReply::Accepted(now) => (Taken::Accepted, state(now)),
        ReportReply::Repeated => (Taken::Accepted, v1::JobState::Unspecified.into()),
        ReportReply::LeaseLost => (Taken::LeaseLost, v1::JobState::Unspecified.into()),
    };
    v1::ReportAck {
        job_id: job.to_string(),
        fence,
        result: result.into(),
        state: state_now,
    }
}

/// An accepted job.
pub(crate) fn enqueued(enqueued: &muster_core::Enqueued) -> v1::Enqueued {
    v1::Enqueued {
        id: enqueued.job.to_string(),
        state: state(enqueued.state),
        existed: enqueued.existed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_keep_their_numbers() {
        for (core, proto) in [
            (JobState::Scheduled, v1::JobState::Scheduled),
            (JobState::Available, v1::JobState::Available),
            (JobState::Expired, v1::JobState::Expired),
        ] {
            assert_eq!(state(core), i32::from(proto));
            assert_eq!(state(core), i32::from(core as u8));
        }
    }

    #[test]
    fn times_keep_their_milliseconds() {
        assert_eq!(timestamp(0), None);
        assert_eq!(
            timestamp(1_001),
            Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 1_000_000
            })
        );
        assert_eq!(
            millis(2_500),
            prost_types::Duration {
                seconds: 2,
                nanos: 500_000_000
            }
        );
    }
}

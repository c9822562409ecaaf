//! Results for scripts: the field names of `proto/muster/v1`, RFC 3339 instants, durations in milliseconds (`…_ms`).

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use muster_client::{
    ClusterStatus, Enqueued, JobInfo, JoinTokenInfo, MemberLevel, MembershipChange, OrderingPolicy, PriorityOrder,
    QueueInfo, Stale, TenantInfo, UpgradeInfo, WorkerInfo,
};
use serde_json::{Value, json};

pub(crate) fn enqueued(enqueued: &Enqueued) -> Value {
    json!({ "id": enqueued.id.to_string(), "state": enqueued.state.as_str(), "existed": enqueued.existed })
}

/// A job; payload and result as [`bytes`] has them. Lists leave the payload out.
pub(crate) fn job(job: &JobInfo, with_payload: bool) -> Value {
    let mut value = json!({
        "id": job.id,
        "tenant": job.tenant,
        "queue": job.queue,
        "kind": job.kind,
        "schema_version": job.schema_version,
        "priority": job.priority.as_str(),
        "state": job.state.as_str(),
        "enqueued_at": instant(job.enqueued_at),
        "available_at": instant(job.available_at),
        "started_at": instant(job.started_at),
        "ended_at": instant(job.ended_at),
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "crashes": job.crashes,
        "max_crashes": job.max_crashes,
        "error": job.failure.as_ref().map(|failure| json!({ "class": failure.class, "message": failure.message })),
        "result": bytes(&job.result),
        "redriven_from": job.redriven_from,
        "idempotency_key": job.idempotency_key,
        "metadata": job.metadata,
        "changed_index": job.changed_index,
        "limit_keys": job.limit_keys,
        "cost": job.cost,
        "ordering_key": job.ordering_key,
        "ordering_policy": job.ordering_policy.map(|policy| match policy {
            OrderingPolicy::SkipDead => "skip_dead",
            OrderingPolicy::Strict => "strict",
        }),
        "sequence": job.sequence,
        "required_labels": job.required_labels,
        "preferred_labels": job.preferred_labels,
        "slots": job.slots,
    });
    if with_payload && let Some(fields) = value.as_object_mut() {
        let payload = json!({ "data": bytes(&job.payload), "content_type": job.content_type });
        fields.insert("payload".to_owned(), payload);
    }
    value
}

pub(crate) fn queue(queue: &QueueInfo) -> Value {
    json!({
        "name": queue.name,
        "paused": queue.paused,
        "note": queue.note,
        "scheduled": queue.scheduled,
        "blocked": queue.blocked,
        "available": queue.available,
        "running": queue.running,
        "retrying": queue.retrying,
        "oldest_wait_ms": queue.oldest_wait.map(millis),
        "unroutable": queue.unroutable,
        "weight": queue.weight,
    })
}

pub(crate) fn tenant(tenant: &TenantInfo) -> Value {
    let totals = &tenant.totals;
    json!({
        "name": tenant.name,
        "weight": tenant.weight,
        "guaranteed_slots": tenant.guaranteed_slots,
        "payload_bytes_max": tenant.payload_bytes_max,
        "priority_order": tenant.priority_order.as_str(),
        "aging_ms": match tenant.priority_order {
            PriorityOrder::Aging(aging) => Some(millis(aging)),
            _ => None,
        },
        "scheduled": tenant.scheduled,
        "blocked": tenant.blocked,
        "available": tenant.available,
        "running": tenant.running,
        "running_slots": tenant.running_slots,
        "retrying": tenant.retrying,
        "totals": {
            "enqueued": totals.enqueued,
            "started": totals.started,
            "succeeded": totals.succeeded,
            "dead": totals.dead,
            "cancelled": totals.cancelled,
            "expired": totals.expired,
            "failures": totals.failures,
            "crashes": totals.crashes,
            "run_time_ms": millis(totals.run_time),
        },
        "quota": {
            "jobs_max": tenant.quota.jobs_max,
            "bytes_max": tenant.quota.bytes_max,
            "enqueue_rate": tenant.quota.enqueue_rate.map(|rate| json!({
                "count": rate.count,
                "period_ms": millis(rate.period),
                "burst": rate.burst,
            })),
        },
        "bytes": tenant.bytes,
        "enqueue_tokens": tenant.enqueue_tokens,
        "concurrency": tenant.concurrency,
    })
}

pub(crate) fn worker(worker: &WorkerInfo) -> Value {
    json!({
        "session_id": worker.session_id,
        "name": worker.name,
        "node_id": worker.node_id,
        "tenants": worker.tenants,
        "queues": worker.queues,
        "kinds": worker.kinds,
        "labels": worker.labels,
        "opened_at": instant(worker.opened_at),
        "running": worker.running,
        "credits": worker.credits,
        "quiet": worker.quiet,
        "slots": worker.slots,
        "gathers": worker.gathers,
    })
}

pub(crate) fn status(status: &ClusterStatus) -> Value {
    let members: Vec<Value> = status
        .members
        .iter()
        .map(|member| {
            json!({
                "node_id": member.node_id,
                "role": member.role,
                "api_address": member.api_address,
                "peer_address": member.peer_address,
                "matched_index": member.matched_index,
                "reachable": member.reachable,
                "drained": member.drained,
                "drain_note": member.drain_note,
                "worker_sessions": member.worker_sessions,
            })
        })
        .collect();
    json!({
        "cluster_id": status.cluster_id,
        "node_id": status.node_id,
        "term": status.term,
        "leader_id": status.leader_id,
        "last_log_index": status.last_log_index,
        "committed_index": status.committed_index,
        "applied_index": status.applied_index,
        "members": members,
        "version": status.version,
        "scheduled": status.scheduled,
        "blocked": status.blocked,
        "available": status.available,
        "running": status.running,
        "retrying": status.retrying,
        // As text: scripts that read numbers as floating point would lose digits.
        "state_hash": format!("{:016x}", status.state_hash),
        "durability": status.durability,
        "membership_index": status.membership_index,
        "joint": status.joint,
        "change": status.change.as_ref().map(change),
        "last_change": status.last_change.as_ref().map(change),
        "next_node_id": status.next_node_id,
        "storage": {
            "refilling": status.storage.refilling,
            "room": status.storage.room,
            "disk_free_bytes": status.storage.disk_free_bytes,
            "disk_reserve_bytes": status.storage.disk_reserve_bytes,
        },
        "memory": {
            "used_bytes": status.memory.used_bytes,
            "limit_bytes": status.memory.limit_bytes,
        },
    })
}

pub(crate) fn change(change: &MembershipChange) -> Value {
    json!({
        "id": change.id,
        "change": change.change,
        "node_id": change.node_id,
        "begun_at": instant(change.begun_at),
        "ended_at": instant(change.ended_at),
        "outcome": change.outcome,
        "reason": change.reason,
        "stage": change.stage,
    })
}

pub(crate) fn token(token: &JoinTokenInfo) -> Value {
    json!({
        "node_id": token.node_id,
        "created_at": instant(token.created_at),
        "expires_at": instant(token.expires_at),
        "learner": token.learner,
        "replaces_node_id": token.replaces,
    })
}

/// A stale answer: as it would be otherwise, and how old it may be.
pub(crate) fn stale<T>(answer: Value, stale: &Stale<T>) -> Value {
    json!({
        "answer": answer,
        "freshness": {
            "applied_index": stale.applied_index,
            "age_ms": stale.age.map(millis),
            "applied_at": instant(stale.applied_at),
            "node_id": stale.node_id,
        },
    })
}

pub(crate) fn upgrade(info: &UpgradeInfo) -> Value {
    let member = |member: &MemberLevel| {
        let (version, level) = member.understands.clone().unzip();
        json!({"node_id": member.node_id, "version": version, "level_max": level})
    };
    json!({
        "level": info.level,
        "level_possible": info.level_possible,
        "members": info.members.iter().map(member).collect::<Vec<_>>(),
    })
}

pub(crate) fn upgraded(level_before: u32, level: u32) -> Value {
    json!({"level_before": level_before, "level": level})
}

fn instant(at: Option<SystemTime>) -> Option<String> {
    rfc3339(at?)
}

pub(crate) fn rfc3339(at: SystemTime) -> Option<String> {
    jiff::Timestamp::try_from(at).ok().map(|at| format!("{at:.3}"))
}

pub(crate) fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// Nothing as null, JSON as itself, other text as a string, other bytes as `{"hex": "…"}`.
pub(crate) fn bytes(data: &[u8]) -> Value {
    if data.is_empty() {
        return Value::Null;
    }
    if let Ok(value) = serde_json::from_slice(data) {
        return value;
    }
    match std::str::from_utf8(data) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => json!({ "hex": hex(data) }),
    }
}

fn hex(data: &[u8]) -> String {
    data.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_what_they_are() {
        assert_eq!(bytes(b""), Value::Null);
        assert_eq!(bytes(br#"{"a":1}"#), json!({ "a": 1 }));
        assert_eq!(bytes(b"not json"), json!("not json"));
        assert_eq!(bytes(&[0xff, 0x00]), json!({ "hex": "ff00" }));
    }

    #[test]
    fn instants_have_milliseconds() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(rfc3339(at).as_deref(), Some("1970-01-01T00:00:01.500Z"));
    }

    #[test]
    fn a_queue_for_scripts() {
        let info = QueueInfo {
            name: "mail".into(),
            paused: true,
            note: "migration".into(),
            scheduled: 1,
            blocked: 5,
            available: 2,
            running: 3,
            retrying: 4,
            oldest_wait: Some(Duration::from_millis(2_500)),
            unroutable: 0,
            weight: Some(40),
        };
        assert_eq!(
            queue(&info).to_string(),
            r#"{"available":2,"blocked":5,"name":"mail","note":"migration","oldest_wait_ms":2500,"paused":true,"retrying":4,"running":3,"scheduled":1,"unroutable":0,"weight":40}"#
        );
    }

    #[test]
    fn a_status_for_scripts() {
        let value = status(&ClusterStatus {
            state_hash: 0xab,
            ..ClusterStatus::default()
        });
        assert_eq!(value["state_hash"], "00000000000000ab");
        assert_eq!(value["leader_id"], Value::Null);
    }
}

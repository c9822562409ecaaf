//! Jobs to be accepted.

use muster_core::{
    Backoff, Encoding, JobLimits, JobOptions, JobSpec, JobState, LIMIT_COST_MAX, LIMIT_KEYS_MAX, LimitKey, LogIndex,
    Name, OrderingKey, OrderingPolicy, Origin, Payload, Priority, SLOTS_MAX, Timestamp,
};
use muster_proto::v1;

use super::{field, limit};
use crate::errors::Violation;
use crate::limits::{
    ATTEMPTS_MAX, CONTENT_TYPE_BYTES_MAX, CRASHES_MAX, FAR_MAX, IDEMPOTENCY_KEY_BYTES_MAX, METADATA_BYTES_MAX,
    METADATA_PAIRS_MAX, ORDERING_KEY_BYTES_MAX, SPAN_MAX,
};
use crate::mint::Mint;
use crate::reason::Reason;

/// What the jobs of one call have in common. It remembers the last queue and kind, since the jobs of a call are mostly
/// alike, so that their names are allocated once.
pub(crate) struct Context {
    /// Owner.
    pub(crate) tenant: Name,
    /// Its largest payload in bytes.
    pub(crate) payload_bytes_max: u32,
    /// The time from which delays count.
    pub(crate) now: Timestamp,
    /// Applied index before any search of the history.
    pub(crate) applied: LogIndex,
    queue: Name,
    kind: Name,
    content_type: Name,
    mint: Mint,
}

impl Context {
    /// For jobs of `tenant` at `now`.
    pub(crate) fn new(tenant: Name, payload_bytes_max: u32, now: Timestamp, applied: LogIndex) -> Self {
        let empty = Name::from("");
        Self {
            tenant,
            payload_bytes_max,
            now,
            applied,
            queue: empty.clone(),
            kind: empty.clone(),
            content_type: empty,
            mint: Mint::new(),
        }
    }
}

/// One job. `field` names of errors are relative to the job.
pub(crate) fn job_spec(job: v1::JobSpec, context: &mut Context) -> Result<JobSpec, Violation> {
    let id = match job.id.as_str() {
        "" => context.mint.job_id(context.now),
        given => field::job_id("id", given)?,
    };
    let queue = remembered(
        "queue",
        if job.queue.is_empty() { "default" } else { &job.queue },
        &mut context.queue,
    )?;
    if job.kind.is_empty() {
        return Err(field::required("kind", "the name of the job's handler"));
    }
    let kind = remembered("kind", &job.kind, &mut context.kind)?;
    Ok(JobSpec {
        id,
        tenant: context.tenant.clone(),
        queue,
        kind,
        schema_version: job.schema_version.max(1),
        payload: payload(job.payload, context)?,
        priority: priority(job.priority)?,
        available_at: available_at(job.run_at.as_ref(), job.delay.as_ref(), context.now)?,
        idempotency_key: idempotency_key(&job.idempotency_key)?,
        options: JobOptions {
            max_attempts: field::number("max_attempts", job.max_attempts, 1, ATTEMPTS_MAX, 20)?,
            max_crashes: field::number("max_crashes", job.max_crashes, 1, CRASHES_MAX, 3)?,
            backoff: backoff(job.backoff)?,
            attempt_timeout: field::span("attempt_timeout", job.attempt_timeout.as_ref(), 1, SPAN_MAX, 600_000)?,
            expires_in: field::span("expires_in", job.expires_in.as_ref(), 1, FAR_MAX, 0)?,
            required_labels: field::labels("required_labels", job.required_labels)?,
            limits: JobLimits {
                cost: field::number("cost", job.cost, 1, LIMIT_COST_MAX, 1)?,
                keys: limit_keys(&job.limit_keys)?,
            },
            preferred_labels: field::labels("preferred_labels", job.preferred_labels)?,
            slots: field::number("slots", job.slots, 1, SLOTS_MAX, 1)?,
        },
        ordering: ordering(&job.ordering_key, job.ordering_policy)?,
        metadata: metadata(job.metadata)?,
        seed: context.mint.seed(),
        origin: Origin::Api,
        history_searched: context.applied,
    })
}

/// The states of a filter.
pub(crate) fn states(numbers: &[i32]) -> Result<Vec<JobState>, Violation> {
    // More would only repeat themselves.
    field::count("states", numbers.len(), 16)?;
    numbers.iter().map(|number| state(*number)).collect()
}

fn state(number: i32) -> Result<JobState, Violation> {
    match v1::JobState::try_from(number) {
        Ok(v1::JobState::Scheduled) => Ok(JobState::Scheduled),
        Ok(v1::JobState::Blocked) => Ok(JobState::Blocked),
        Ok(v1::JobState::Available) => Ok(JobState::Available),
        Ok(v1::JobState::Running) => Ok(JobState::Running),
        Ok(v1::JobState::Retrying) => Ok(JobState::Retrying),
        Ok(v1::JobState::Succeeded) => Ok(JobState::Succeeded),
        Ok(v1::JobState::Dead) => Ok(JobState::Dead),
        Ok(v1::JobState::Cancelled) => Ok(JobState::Cancelled),
        Ok(v1::JobState::Expired) => Ok(JobState::Expired),
        Ok(v1::JobState::Unspecified) | Err(_) => Err(Violation::new(
            Reason::EnumInvalid,
            "states",
            number.to_string(),
            "1 (scheduled) to 9 (expired)",
        )),
    }
}

fn remembered(path: &str, value: &str, last: &mut Name) -> Result<Name, Violation> {
    if **last != *value {
        *last = field::name(path, value)?;
    }
    Ok(last.clone())
}

fn payload(payload: Option<v1::Payload>, context: &mut Context) -> Result<Payload, Violation> {
    let payload = payload.unwrap_or_default();
    let most = context.payload_bytes_max;
    if payload.data.len() > most as usize {
        return Err(Violation::new(
            Reason::PayloadTooLarge,
            "payload.data",
            format!("{} bytes long", payload.data.len()),
            format!(
                "at most {most} bytes for tenant {:?} (its setting payload_bytes_max)",
                context.tenant
            ),
        ));
    }
    field::within_bytes(
        "payload.content_type",
        payload.content_type.len(),
        CONTENT_TYPE_BYTES_MAX,
    )?;
    if *context.content_type != *payload.content_type {
        context.content_type = Name::from(payload.content_type);
    }
    let encoding = match v1::Encoding::try_from(payload.encoding) {
        Ok(v1::Encoding::Unspecified) => Encoding::Identity,
        Ok(v1::Encoding::Zstd) => Encoding::Zstd,
        Err(_) => {
            let given = payload.encoding.to_string();
            return Err(Violation::new(
                Reason::EnumInvalid,
                "payload.encoding",
                given,
                "0 (as it is) or 1 (zstd)",
            ));
        }
    };
    // A small payload is copied out of the frame, which it would otherwise keep in memory as long as the job lives.
    Ok(Payload {
        data: bytes::Bytes::copy_from_slice(&payload.data),
        content_type: context.content_type.clone(),
        encoding,
    })
}

/// A priority; 0 is the default.
pub(crate) fn priority(number: i32) -> Result<Priority, Violation> {
    match v1::Priority::try_from(number) {
        Ok(v1::Priority::Unspecified | v1::Priority::Normal) => Ok(Priority::Normal),
        Ok(v1::Priority::Critical) => Ok(Priority::Critical),
        Ok(v1::Priority::High) => Ok(Priority::High),
        Ok(v1::Priority::Low) => Ok(Priority::Low),
        Ok(v1::Priority::Bulk) => Ok(Priority::Bulk),
        Err(_) => Err(Violation::new(
            Reason::EnumInvalid,
            "priority",
            number.to_string(),
            "1 (critical) to 5 (bulk)",
        )),
    }
}

fn available_at(
    run_at: Option<&prost_types::Timestamp>,
    delay: Option<&prost_types::Duration>,
    now: Timestamp,
) -> Result<Timestamp, Violation> {
    match (run_at, delay) {
        (Some(_), Some(_)) => Err(Violation::new(
            Reason::FieldsExclusive,
            "delay",
            "given together with run_at",
            "one of the two",
        )),
        (Some(run_at), None) => field::instant("run_at", run_at),
        (None, Some(_)) => {
            let delay = field::span("delay", delay, 0, FAR_MAX, 0)?;
            Ok(if delay == 0 { 0 } else { now.saturating_add(delay) })
        }
        (None, None) => Ok(0),
    }
}

fn idempotency_key(key: &str) -> Result<Option<Name>, Violation> {
    if key.is_empty() {
        return Ok(None);
    }
    field::text("idempotency_key", key, IDEMPOTENCY_KEY_BYTES_MAX).map(Some)
}

/// Limit keys in ascending order.
fn limit_keys(given: &[v1::LimitKey]) -> Result<Vec<LimitKey>, Violation> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    field::count("limit_keys", given.len(), LIMIT_KEYS_MAX)?;
    let mut keys = Vec::with_capacity(given.len());
    for key in given {
        keys.push(LimitKey {
            key: limit::limit_key("limit_keys.key", &key.key)?,
            cost: field::number("limit_keys.cost", key.cost, 1, LIMIT_COST_MAX, 1)?,
        });
    }
    keys.sort_unstable();
    if let Some(pair) = keys.windows(2).find(|pair| pair[0].key == pair[1].key) {
        let given = format!("{} twice", field::shown(&pair[0].key));
        return Err(Violation::new(
            Reason::Duplicate,
            "limit_keys.key",
            given,
            "each key once",
        ));
    }
    Ok(keys)
}

fn ordering(key: &str, policy: i32) -> Result<Option<OrderingKey>, Violation> {
    let policy = match v1::OrderingPolicy::try_from(policy) {
        Ok(v1::OrderingPolicy::Unspecified | v1::OrderingPolicy::SkipDead) => OrderingPolicy::SkipDead,
        Ok(v1::OrderingPolicy::Strict) => OrderingPolicy::Strict,
        Err(_) => {
            return Err(Violation::new(
                Reason::EnumInvalid,
                "ordering_policy",
                policy.to_string(),
                "1 (skip_dead) or 2 (strict)",
            ));
        }
    };
    match (key, policy) {
        ("", OrderingPolicy::Strict) => Err(field::required("ordering_key", "a key, since a policy is given")),
        ("", OrderingPolicy::SkipDead) => Ok(None),
        (key, policy) => Ok(Some(OrderingKey {
            key: ordering_key("ordering_key", key)?,
            policy,
        })),
    }
}

/// An ordering key.
pub(crate) fn ordering_key(path: &str, key: &str) -> Result<Name, Violation> {
    if key.is_empty() {
        return Err(field::required(path, "an ordering key"));
    }
    field::text(path, key, ORDERING_KEY_BYTES_MAX)
}

fn backoff(backoff: Option<v1::Backoff>) -> Result<Backoff, Violation> {
    use v1::backoff::Policy;
    const HOUR: u64 = 3_600_000;
    let Some(policy) = backoff.and_then(|backoff| backoff.policy) else {
        return Ok(Backoff::default());
    };
    Ok(match policy {
        Policy::Fixed(fixed) => Backoff::Fixed {
            delay: field::span("backoff.fixed.delay", fixed.delay.as_ref(), 0, SPAN_MAX, 0)?,
        },
        Policy::Linear(linear) => Backoff::Linear {
            base: field::span("backoff.linear.base", linear.base.as_ref(), 0, SPAN_MAX, 2_000)?,
            cap: field::span("backoff.linear.cap", linear.cap.as_ref(), 0, SPAN_MAX, HOUR)?,
        },
        Policy::Exponential(exponential) => Backoff::Exponential {
            base: field::span(
                "backoff.exponential.base",
                exponential.base.as_ref(),
                0,
                SPAN_MAX,
                2_000,
            )?,
            cap: field::span("backoff.exponential.cap", exponential.cap.as_ref(), 0, SPAN_MAX, HOUR)?,
            jitter_percent: jitter(exponential.jitter_percent)?,
        },
    })
}

fn jitter(percent: Option<u32>) -> Result<u8, Violation> {
    let percent = percent.unwrap_or(20);
    u8::try_from(percent)
        .ok()
        .filter(|percent| *percent <= 100)
        .ok_or_else(|| {
            Violation::new(
                Reason::OutOfRange,
                "backoff.exponential.jitter_percent",
                percent.to_string(),
                "0 to 100",
            )
        })
}

fn metadata(map: std::collections::HashMap<String, String>) -> Result<Vec<(Name, Name)>, Violation> {
    field::count("metadata", map.len(), METADATA_PAIRS_MAX)?;
    let bytes = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    field::within_bytes("metadata", bytes, METADATA_BYTES_MAX)?;
    let mut pairs: Vec<_> = map
        .into_iter()
        .map(|(key, value)| (Name::from(key), Name::from(value)))
        .collect();
    pairs.sort_unstable();
    Ok(pairs)
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;

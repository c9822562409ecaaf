//! Jobs as Rust types, and what may be said about one when it is enqueued.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use muster_proto::v1;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::id::JobId;
use crate::states::Priority;
use crate::views::duration;

/// Media type of typed payloads.
pub(crate) const JSON: &str = "application/json";

/// A kind of job: the arguments are the type's fields, sent as JSON.
///
/// ```
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct SendEmail {
///     to: String,
/// }
///
/// impl muster_client::Job for SendEmail {
///     const KIND: &'static str = "send-email";
///     const QUEUE: &'static str = "mail";
///     type Output = ();
/// }
/// ```
pub trait Job: Serialize + DeserializeOwned + Send + 'static {
    /// Name of the handler, `[A-Za-z0-9._-]{1,128}`. Never rename one with jobs waiting.
    const KIND: &'static str;
    /// Version of the fields, from 1. Raise it when older workers could not read the new form.
    const VERSION: u32 = 1;
    /// Queue, unless the enqueue says otherwise.
    const QUEUE: &'static str = "default";
    /// What the handler returns; kept with the job as JSON, at most 64 KiB.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Options of every job of this kind; each can be overridden per enqueue.
    fn options() -> Enqueue {
        Enqueue::new()
    }
}

/// A job without a Rust type: any bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawJob {
    /// Name of the handler.
    pub kind: String,
    /// Version of the payload's schema; 0 means 1.
    pub schema_version: u32,
    /// At most 1 MiB (a tenant's setting).
    pub payload: Bytes,
    /// Media type, at most 128 bytes; may be empty.
    pub content_type: String,
}

impl RawJob {
    /// A job of this kind with this payload, schema version 1.
    pub fn new(kind: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            kind: kind.into(),
            schema_version: 1,
            payload: payload.into(),
            content_type: String::new(),
        }
    }
}

/// Wait between a failed attempt and the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Always the same.
    Fixed(Duration),
    /// `base` × failures so far, at most `cap`.
    Linear {
        /// First wait.
        base: Duration,
        /// Longest wait.
        cap: Duration,
    },
    /// `base` × 2^(failures − 1), at most `cap`, ± `jitter_percent`. The cluster's default: 2 s, 1 h, 20 %.
    Exponential {
        /// First wait.
        base: Duration,
        /// Longest wait.
        cap: Duration,
        /// 0–100.
        jitter_percent: u32,
    },
}

impl Backoff {
    fn to_proto(self) -> v1::Backoff {
        use v1::backoff::Policy;
        let policy = match self {
            Self::Fixed(delay) => Policy::Fixed(v1::FixedBackoff { delay: duration(delay) }),
            Self::Linear { base, cap } => Policy::Linear(v1::LinearBackoff {
                base: duration(base),
                cap: duration(cap),
            }),
            Self::Exponential {
                base,
                cap,
                jitter_percent,
            } => Policy::Exponential(v1::ExponentialBackoff {
                base: duration(base),
                cap: duration(cap),
                jitter_percent: Some(jitter_percent),
            }),
        };
        v1::Backoff { policy: Some(policy) }
    }
}

/// What becomes of the jobs behind a job of their ordering key that died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderingPolicy {
    /// They go on.
    #[default]
    SkipDead,
    /// They wait until the dead job is redriven and ends otherwise, or until an operator releases the key.
    Strict,
}

/// When a job may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    At(SystemTime),
    After(Duration),
}

/// Options of an enqueue. What is not set comes from [`Job::options`], then from the cluster's defaults.
///
/// ```
/// # use std::time::Duration;
/// use muster_client::{Enqueue, Priority};
///
/// let options = Enqueue::new().delay(Duration::from_secs(60)).priority(Priority::High).idempotency_key("order-17");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Enqueue {
    id: Option<JobId>,
    queue: Option<String>,
    priority: Option<Priority>,
    start: Option<Start>,
    idempotency_key: Option<String>,
    max_attempts: Option<u32>,
    max_crashes: Option<u32>,
    backoff: Option<Backoff>,
    attempt_timeout: Option<Duration>,
    expires_in: Option<Duration>,
    required_labels: HashMap<String, String>,
    preferred_labels: HashMap<String, String>,
    slots: Option<u32>,
    metadata: HashMap<String, String>,
    limit_keys: HashMap<String, u32>,
    cost: Option<u32>,
    ordering: Option<(String, OrderingPolicy)>,
    deadline: Option<Duration>,
}

impl Enqueue {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The job's id; minted when not given. Give the id of an earlier call to repeat that call.
    pub fn id(mut self, id: JobId) -> Self {
        self.id = Some(id);
        self
    }

    /// Queue, `[A-Za-z0-9._-]{1,128}`. Default: [`Job::QUEUE`]; `default` for raw jobs.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Urgency within the tenant. Default: normal.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Not to start before this much later than acceptance. Replaces [`Self::run_at`].
    pub fn delay(mut self, delay: Duration) -> Self {
        self.start = Some(Start::After(delay));
        self
    }

    /// Not to start before this instant. Replaces [`Self::delay`].
    pub fn run_at(mut self, at: SystemTime) -> Self {
        self.start = Some(Start::At(at));
        self
    }

    /// At most 256 bytes, unique in the tenant for 24 h: a repeat returns the first job.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Failures and timeouts allowed, 1–1,000. Default 20.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Attempts with a vanished worker allowed, 1–100. Default 3.
    pub fn max_crashes(mut self, crashes: u32) -> Self {
        self.max_crashes = Some(crashes);
        self
    }

    /// Wait between a failed attempt and the next.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Longest run of an attempt, 1 ms–31 days. Default 10 min.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// A job not started within this time of its availability expires. Default: never.
    pub fn expires_in(mut self, after: Duration) -> Self {
        self.expires_in = Some(after);
        self
    }

    /// A label its worker must carry; at most 16.
    pub fn required_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.required_labels.insert(key.into(), value.into());
        self
    }

    /// A label its worker had better carry; at most 16. Of the workers with room whose turn it is to take the job, one with most
    /// of them gets it; it waits for none of them.
    pub fn preferred_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.preferred_labels.insert(key.into(), value.into());
        self
    }

    /// Slots of its worker that an attempt takes, 1–256. Default 1. A worker with fewer slots in all does not get it.
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = Some(slots);
        self
    }

    /// A pair given to the worker; at most 16, 1 KiB together.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// A limit key, e.g. `stripe:acct_7`: 1 to 128 visible ASCII characters other than `*`; at most 8. The job starts only
    /// when the limits of all its keys, which stand in the cluster's rule book, admit it at once.
    pub fn limit_key(self, key: impl Into<String>) -> Self {
        self.limit_key_costing(key, 1)
    }

    /// The same, with the tokens that each start takes of the key's rate, 1–1,000,000.
    pub fn limit_key_costing(mut self, key: impl Into<String>, cost: u32) -> Self {
        self.limit_keys.insert(key.into(), cost);
        self
    }

    /// Tokens that each start takes of the rates of cluster, tenant, queue and kind, 1–1,000,000. Default 1.
    pub fn cost(mut self, cost: u32) -> Self {
        self.cost = Some(cost);
        self
    }

    /// Jobs of one key (at most 256 bytes) in a queue run one at a time, in the order of their acceptance. One that waits
    /// for its time or its backoff holds up those behind it; one that dies lets the next one go.
    pub fn ordering_key(self, key: impl Into<String>) -> Self {
        self.ordered(key, OrderingPolicy::SkipDead)
    }

    /// The same, with what becomes of those behind a job that dies.
    pub fn ordered(mut self, key: impl Into<String>, policy: OrderingPolicy) -> Self {
        self.ordering = Some((key.into(), policy));
        self
    }

    /// How long the call may take, retries included. Default: the client's.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    pub(crate) fn call_deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// `self` where it is set, `defaults` elsewhere.
    fn or(mut self, defaults: Self) -> Self {
        let mut required_labels = defaults.required_labels;
        required_labels.extend(self.required_labels.drain());
        let mut preferred_labels = defaults.preferred_labels;
        preferred_labels.extend(self.preferred_labels.drain());
        let mut metadata = defaults.metadata;
        metadata.extend(self.metadata.drain());
        let mut limit_keys = defaults.limit_keys;
        limit_keys.extend(self.limit_keys.drain());
        Self {
            id: self.id.or(defaults.id),
            queue: self.queue.or(defaults.queue),
            priority: self.priority.or(defaults.priority),
            start: self.start.or(defaults.start),
            idempotency_key: self.idempotency_key.or(defaults.idempotency_key),
            max_attempts: self.max_attempts.or(defaults.max_attempts),
            max_crashes: self.max_crashes.or(defaults.max_crashes),
            backoff: self.backoff.or(defaults.backoff),
            attempt_timeout: self.attempt_timeout.or(defaults.attempt_timeout),
            expires_in: self.expires_in.or(defaults.expires_in),
            required_labels,
            preferred_labels,
            slots: self.slots.or(defaults.slots),
            metadata,
            limit_keys,
            cost: self.cost.or(defaults.cost),
            ordering: self.ordering.or(defaults.ordering),
            deadline: self.deadline.or(defaults.deadline),
        }
    }

    fn into_spec(self, kind: String, queue: &str, schema_version: u32, payload: v1::Payload) -> (JobId, v1::JobSpec) {
        let id = self.id.unwrap_or_default();
        let (run_at, delay) = match self.start {
            Some(Start::At(at)) => (Some(at.into()), None),
            Some(Start::After(delay)) => (None, duration(delay)),
            None => (None, None),
        };
        let keys = self.limit_keys.into_iter();
        let (ordering_key, policy) = self.ordering.unwrap_or_default();
        let ordering_policy = match policy {
            _ if ordering_key.is_empty() => v1::OrderingPolicy::Unspecified,
            OrderingPolicy::SkipDead => v1::OrderingPolicy::SkipDead,
            OrderingPolicy::Strict => v1::OrderingPolicy::Strict,
        };
        let spec = v1::JobSpec {
            id: id.to_string(),
            queue: self.queue.unwrap_or_else(|| queue.to_owned()),
            kind,
            schema_version,
            payload: Some(payload),
            priority: self.priority.map_or(0, Priority::to_proto),
            run_at,
            delay,
            idempotency_key: self.idempotency_key.unwrap_or_default(),
            max_attempts: self.max_attempts.unwrap_or_default(),
            max_crashes: self.max_crashes.unwrap_or_default(),
            backoff: self.backoff.map(Backoff::to_proto),
            attempt_timeout: self.attempt_timeout.and_then(duration),
            expires_in: self.expires_in.and_then(duration),
            required_labels: self.required_labels,
            preferred_labels: self.preferred_labels,
            slots: self.slots.unwrap_or_default(),
            metadata: self.metadata,
            limit_keys: keys.map(|(key, cost)| v1::LimitKey { key, cost }).collect(),
            cost: self.cost.unwrap_or_default(),
            ordering_key,
            ordering_policy: ordering_policy.into(),
        };
        (id, spec)
    }

    pub(crate) fn typed<J: Job>(self, job: &J) -> Result<(JobId, v1::JobSpec), Error> {
        let data = serde_json::to_vec(job).map_err(|source| Error::Encode { kind: J::KIND, source })?;
        let payload = v1::Payload {
            data: data.into(),
            content_type: JSON.to_owned(),
            encoding: 0,
        };
        Ok(self
            .or(J::options())
            .into_spec(J::KIND.to_owned(), J::QUEUE, J::VERSION, payload))
    }

    pub(crate) fn raw(self, job: RawJob) -> (JobId, v1::JobSpec) {
        let payload = v1::Payload {
            data: job.payload,
            content_type: job.content_type,
            encoding: 0,
        };
        self.into_spec(job.kind, "default", job.schema_version, payload)
    }
}

/// The JSON of a handler's output; empty for `()` and other nulls, which saves the cluster from keeping them.
#[cfg(feature = "worker")]
pub(crate) fn encode_output<T: Serialize>(output: &T) -> Result<Bytes, serde_json::Error> {
    let json = serde_json::to_vec(output)?;
    Ok(if json == b"null" { Bytes::new() } else { json.into() })
}

pub(crate) fn decode_output<J: Job>(result: &[u8]) -> Result<J::Output, Error> {
    let json = if result.is_empty() { b"null" } else { result };
    serde_json::from_slice(json).map_err(|source| Error::Decode { kind: J::KIND, source })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Resize {
        width: u32,
    }

    impl Job for Resize {
        const KIND: &'static str = "resize";
        const QUEUE: &'static str = "images";
        const VERSION: u32 = 3;
        type Output = Option<u32>;

        fn options() -> Enqueue {
            Enqueue::new()
                .max_attempts(5)
                .priority(Priority::Low)
                .metadata("a", "1")
        }
    }

    #[test]
    fn an_enqueue_overrides_the_options_of_the_kind() {
        let (id, spec) = Enqueue::new()
            .priority(Priority::High)
            .metadata("b", "2")
            .typed(&Resize { width: 7 })
            .unwrap();
        assert_eq!(spec.id, id.to_string());
        assert_eq!(
            (spec.kind.as_str(), spec.queue.as_str(), spec.schema_version),
            ("resize", "images", 3)
        );
        assert_eq!((spec.max_attempts, spec.priority), (5, Priority::High.to_proto()));
        assert_eq!(spec.metadata.len(), 2);
        assert_eq!(&spec.payload.unwrap().data[..], br#"{"width":7}"#);
    }

    #[test]
    fn limits_and_order_go_along() {
        let (_, spec) = Enqueue::new()
            .limit_key("a")
            .limit_key_costing("b", 3)
            .cost(2)
            .ordered("account:7", OrderingPolicy::Strict)
            .raw(RawJob::new("k", "x"));
        let mut keys: Vec<_> = spec.limit_keys.iter().map(|key| (key.key.as_str(), key.cost)).collect();
        keys.sort_unstable();
        assert_eq!((keys, spec.cost), (vec![("a", 1), ("b", 3)], 2));
        assert_eq!(spec.ordering_policy(), v1::OrderingPolicy::Strict);
        let (_, plain) = Enqueue::new().raw(RawJob::new("k", "x"));
        assert_eq!((plain.cost, plain.ordering_policy), (0, 0));
    }

    #[test]
    fn delay_and_run_at_exclude_each_other() {
        let options = Enqueue::new().run_at(SystemTime::now()).delay(Duration::from_secs(1));
        let (_, spec) = options.raw(RawJob::new("k", "x"));
        assert!(spec.run_at.is_none() && spec.delay.is_some());
    }

    #[test]
    fn null_outputs_are_empty() {
        #[cfg(feature = "worker")]
        assert!(encode_output(&()).unwrap().is_empty());
        assert!(decode_output::<Resize>(b"").unwrap().is_none());
        assert_eq!(decode_output::<Resize>(b"4").unwrap(), Some(4));
        assert!(matches!(
            decode_output::<Resize>(b"x"),
            Err(Error::Decode { kind: "resize", .. })
        ));
    }
}

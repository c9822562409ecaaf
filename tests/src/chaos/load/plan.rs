//! Jobs as they are to be enqueued: decided once, sent as often as needed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_client::{Backoff, Enqueue, JobId, OrderingPolicy, Priority, RawJob};
use muster_sim::history::{Backoff as Wait, Claims, Id, JobArgs};
use rand::distr::Alphanumeric;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::TENANTS;
use super::tenants::{ACCOUNTS, API, COST_MAX};

/// A job to be enqueued.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: JobId,
    pub(crate) tenant: &'static str,
    pub(crate) queue: String,
    pub(crate) kind: &'static str,
    pub(crate) key: Option<String>,
    /// Number in the payload: milliseconds to work, or attempts to fail.
    pub(crate) number: u32,
    /// Milliseconds since the Unix epoch; 0: at once.
    pub(crate) due: u64,
    pub(super) backoff: Wait,
    pub(super) max_attempts: u32,
    pub(super) timeout: Duration,
    pub(super) expires: Option<Duration>,
    pub(super) priority: Priority,
    /// Slots of its worker that an attempt takes.
    pub(super) slots: u32,
    /// What it wants of limits and order.
    pub(super) claims: Claims,
    /// Length of its payload.
    pub(super) bytes: usize,
}

/// Kinds that are stopped and resumed.
pub(crate) const CALM: [&str; 4] = ["calm-1", "calm-2", "calm-3", "calm-4"];
/// Attempts with a vanished worker that any job survives: workers vanish often here.
const CRASHES_MAX: u32 = 30;
/// Any worker has as many slots.
const SLOTS_MAX: u32 = 4;
/// Length of most payloads.
const PAYLOAD_BYTES: usize = 2_000;

impl Plan {
    /// A job like most: of a random tenant, kind and queue.
    pub(crate) fn random(rng: &mut StdRng) -> Self {
        let mut at = rng.random_range(0..100);
        let tenant = TENANTS.iter().find(|tenant| {
            let found = at < tenant.share;
            at = at.saturating_sub(tenant.share);
            found
        });
        let tenant = tenant.map_or(TENANTS[0].name, |tenant| tenant.name);
        let (kind, number, max_attempts) = match rng.random_range(0..100) {
            0..76 => ("work", rng.random_range(0..80), 20),
            76..86 => ("flaky", rng.random_range(1..4), 20),
            86..90 => ("moody", rng.random_range(0..20), 20),
            90..93 => ("fatal", 0, 5),
            93..95 => ("doomed", 0, 2),
            95..97 => ("stuck", 0, 2),
            _ => ("work", rng.random_range(300..1_500), 20),
        };
        let backoff = if rng.random_bool(0.5) {
            Wait::Fixed { delay: 300 }
        } else {
            Wait::Exponential {
                base: 200,
                cap: 2_000,
                jitter_percent: 20,
            }
        };
        let due = if rng.random_bool(0.15) {
            now_ms() + rng.random_range(100..4_000)
        } else {
            0
        };
        let timeout = if kind == "stuck" { 700 } else { 4_000 };
        Self {
            id: JobId::new(),
            tenant,
            queue: some_queue(rng),
            kind,
            key: None,
            number,
            due,
            backoff,
            max_attempts,
            timeout: Duration::from_millis(timeout),
            expires: rng
                .random_bool(0.06)
                .then(|| Duration::from_millis(rng.random_range(300..3_000))),
            priority: Priority::ALL[rng.random_range(0..Priority::ALL.len())],
            slots: if rng.random_bool(0.1) {
                rng.random_range(2..=SLOTS_MAX)
            } else {
                1
            },
            claims: claims(rng, kind),
            bytes: PAYLOAD_BYTES,
        }
    }

    /// A job of one tenant, queue and kind that succeeds soon.
    pub(crate) fn plain(rng: &mut StdRng, tenant: &'static str, queue: &str, kind: &'static str) -> Self {
        Self {
            tenant,
            queue: queue.to_owned(),
            kind,
            number: 5,
            due: 0,
            max_attempts: 20,
            timeout: Duration::from_secs(4),
            expires: None,
            slots: 1,
            claims: Claims::default(),
            ..Self::random(rng)
        }
    }

    /// The same job once more under another id and the same key.
    pub(crate) fn repeat(&self) -> Self {
        Self {
            id: JobId::new(),
            ..self.clone()
        }
    }

    /// As the history has it.
    pub(crate) fn args(&self) -> JobArgs {
        JobArgs {
            job: id(self.id),
            tenant: self.tenant.into(),
            queue: self.queue.as_str().into(),
            kind: self.kind.into(),
            key: self.key.as_deref().map(Into::into),
            available_at: self.due,
            max_attempts: self.max_attempts,
            max_crashes: CRASHES_MAX,
            backoff: self.backoff.clone(),
            attempt_timeout: self.timeout.as_millis() as u64,
            expires_in: self.expires.map_or(0, |expires| expires.as_millis() as u64),
            claims: self.claims.clone(),
        }
    }

    /// As the client library takes it.
    pub(crate) fn job(&self) -> (RawJob, Enqueue) {
        let millis = Duration::from_millis;
        let backoff = match self.backoff {
            Wait::Fixed { delay } => Backoff::Fixed(millis(delay)),
            Wait::Linear { base, cap } => Backoff::Linear {
                base: millis(base),
                cap: millis(cap),
            },
            Wait::Exponential {
                base,
                cap,
                jitter_percent,
            } => Backoff::Exponential {
                base: millis(base),
                cap: millis(cap),
                jitter_percent: jitter_percent.into(),
            },
        };
        let mut options = Enqueue::new()
            .id(self.id)
            .queue(&self.queue)
            .max_attempts(self.max_attempts)
            .max_crashes(CRASHES_MAX)
            .backoff(backoff)
            .attempt_timeout(self.timeout)
            .priority(self.priority)
            .slots(self.slots);
        if self.due > 0 {
            options = options.run_at(UNIX_EPOCH + millis(self.due));
        }
        if let Some(key) = &self.key {
            options = options.idempotency_key(key);
        }
        if let Some(expires) = self.expires {
            options = options.expires_in(expires);
        }
        for (key, cost) in &self.claims.limit_keys {
            options = options.limit_key_costing(&**key, *cost);
        }
        if let Some(key) = &self.claims.ordering_key {
            let policy = if self.claims.strict {
                OrderingPolicy::Strict
            } else {
                OrderingPolicy::SkipDead
            };
            options = options.ordered(&**key, policy);
        }
        // With what cannot be packed, so that logs grow as they do with real payloads.
        let (seed, _) = self.id.as_uuid().as_u64_pair();
        let noise = StdRng::seed_from_u64(seed).sample_iter(Alphanumeric);
        let noise: String = noise.take(self.bytes).map(char::from).collect();
        (RawJob::new(self.kind, format!("{} {noise}", self.number)), options)
    }
}

/// Jobs that are put off carry the key that they report as throttled; of the others some have keys or an order.
fn claims(rng: &mut StdRng, kind: &str) -> Claims {
    let mut claims = Claims::default();
    if kind == "moody" || rng.random_bool(0.06) {
        claims.limit_keys.push((API.into(), rng.random_range(1..=COST_MAX)));
    }
    if rng.random_bool(0.2) {
        claims
            .limit_keys
            .push((ACCOUNTS[rng.random_range(0..ACCOUNTS.len())].into(), 1));
    }
    if rng.random_bool(0.12) {
        claims.ordering_key = Some(format!("order-{}", rng.random_range(0..6)).into());
        claims.strict = rng.random_bool(0.3);
    }
    claims
}

/// One of the queues of most jobs.
pub(super) fn some_queue(rng: &mut StdRng) -> String {
    format!("q{}", rng.random_range(0..4))
}

/// A job id as histories have it.
pub(crate) fn id(id: JobId) -> Id {
    Id(id.as_uuid().as_u128())
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

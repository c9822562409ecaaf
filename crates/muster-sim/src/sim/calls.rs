//! The calls that scripted clients make.

use muster_core::{
    AGING_STRICT, Backoff, Command, JobId, JobLimits, JobSpec, LimitKey, Name, OrderingKey, OrderingPolicy, Priority,
    Quota, RateLimit, TenantSettings,
};

use crate::history::{Claims, Id, JobArgs, Operation};
use crate::sim::limits;
use crate::sim::rng::Rng;

pub(crate) const TENANTS: [&str; 4] = ["default", "acme", "umbra", "zeta"];
pub(crate) const QUEUES: [&str; 3] = ["mail", "media", "index"];
pub(crate) const KINDS: [&str; 3] = ["resize", "send", "scan"];
pub(crate) const LIMIT_KEYS: [&str; 4] = ["api", "api:1", "api:2", "disk"];
pub(crate) const ORDERING_KEYS: [&str; 4] = ["account", "file", "user:1", "user:2"];
/// Calls of the first client: a setting of each tenant, then rules.
pub(super) const SET_UP: usize = TENANTS.len() + limits::SET_UP;
/// From here on its calls resume queues, then kinds, and then release ordering keys.
pub(super) const RESUME: usize = SET_UP;
const RESUME_KINDS: usize = RESUME + TENANTS.len() * QUEUES.len();
pub(super) const RELEASE: usize = RESUME_KINDS + TENANTS.len() * KINDS.len();

/// An operation, and the command that does it; none = a read.
pub(super) type Call = (Operation, Option<Command>);

pub(super) fn name(text: &str) -> Name {
    text.into()
}

/// The first client's calls by number: it sets up tenants and rules, and in the end resumes queues and kinds and
/// releases ordering keys.
pub(super) fn set_up(number: u64, rng: &mut Rng) -> Call {
    let number = number as usize;
    let of = |place: usize, sizes: usize| (place / sizes, place % sizes);
    match number {
        _ if number < TENANTS.len() => settings(TENANTS[number], rng),
        _ if number < SET_UP => limits::set_up(number - TENANTS.len(), rng),
        _ if number < RESUME_KINDS => {
            let (tenant, queue) = of(number - RESUME, QUEUES.len());
            pause(TENANTS[tenant], QUEUES[queue], false)
        }
        _ if number < RELEASE => {
            let (tenant, kind) = of(number - RESUME_KINDS, KINDS.len());
            pause_kind(TENANTS[tenant], KINDS[kind], false)
        }
        _ => {
            let (queue, key) = of(number - RELEASE, ORDERING_KEYS.len());
            let (tenant, queue) = of(queue, QUEUES.len());
            release(TENANTS[tenant], QUEUES[queue], ORDERING_KEYS[key])
        }
    }
}

pub(super) fn release(tenant: &str, queue: &str, key: &str) -> Call {
    let (tenant, queue, key) = (name(tenant), name(queue), name(key));
    let operation = Operation::ReleaseOrder {
        tenant: tenant.clone(),
        queue: queue.clone(),
        key: key.clone(),
    };
    (operation, Some(Command::ReleaseOrder { tenant, queue, key }))
}

/// Most jobs have no limit keys, some two; none costs more than the smallest burst.
pub(super) fn job_limits(rng: &mut Rng) -> JobLimits {
    let mut keys: Vec<LimitKey> = Vec::new();
    if rng.percent(30) {
        for _ in 0..rng.between(1, 3) {
            keys.push(LimitKey {
                key: name(rng.pick(&LIMIT_KEYS)),
                cost: if rng.percent(20) { limits::BURST_MIN } else { 1 },
            });
        }
        keys.sort_unstable();
        keys.dedup_by(|a, b| a.key == b.key);
    }
    JobLimits {
        cost: if rng.percent(10) { limits::BURST_MIN } else { 1 },
        keys,
    }
}

pub(super) fn ordering(rng: &mut Rng) -> Option<OrderingKey> {
    rng.percent(15).then(|| OrderingKey {
        key: name(rng.pick(&ORDERING_KEYS)),
        policy: if rng.percent(40) {
            OrderingPolicy::Strict
        } else {
            OrderingPolicy::SkipDead
        },
    })
}

pub(super) fn list(tenant: &str) -> Call {
    let operation = Operation::List {
        tenant: name(tenant),
        queue: None,
    };
    (operation, None)
}

pub(super) fn pause(tenant: &str, queue: &str, paused: bool) -> Call {
    let (tenant, queue) = (name(tenant), name(queue));
    let operation = Operation::SetPaused {
        tenant: tenant.clone(),
        queue: queue.clone(),
        paused,
    };
    let note = name("by script");
    let command = Command::PauseQueue {
        tenant,
        queue,
        paused,
        note,
    };
    (operation, Some(command))
}

pub(super) fn pause_kind(tenant: &str, kind: &str, paused: bool) -> Call {
    let (tenant, kind) = (name(tenant), name(kind));
    let operation = Operation::SetKindPaused {
        tenant: tenant.clone(),
        kind: kind.clone(),
        paused,
    };
    let command = Command::PauseKind {
        tenant,
        kind,
        paused,
        note: name("by script"),
    };
    (operation, Some(command))
}

pub(super) fn set_priority(tenant: Name, jobs: Vec<JobId>, priority: Priority) -> Call {
    let operation = Operation::SetPriority {
        tenant: tenant.clone(),
        jobs: jobs.iter().copied().map(Id::from).collect(),
        priority,
    };
    (operation, Some(Command::SetPriority { tenant, jobs, priority }))
}

/// Labels that a worker had better carry: some workers carry the first, none the second.
pub(super) fn preferred(rng: &mut Rng) -> Vec<(Name, Name)> {
    match rng.below(20) {
        0 | 1 => vec![(name("disk"), name("fast"))],
        2 => vec![(name("zone"), name("nowhere"))],
        _ => Vec::new(),
    }
}

/// What a priority level is worth: nothing, little, much, everything.
fn aging(rng: &mut Rng) -> u64 {
    match rng.below(5) {
        0 => 0,
        1 => AGING_STRICT,
        2 => rng.between(1, 50),
        3 => rng.between(50, 2_000),
        _ => TenantSettings::default().aging,
    }
}

/// Nothing, some of the slots, about all of them.
fn guaranteed_slots(rng: &mut Rng) -> u32 {
    match rng.below(4) {
        0 => rng.between(1, 4) as u32,
        1 => rng.between(4, 40) as u32,
        _ => 0,
    }
}

/// A line of its own for a queue, or an end of it.
pub(super) fn weigh(tenant: &str, queue: &str, rng: &mut Rng) -> Call {
    let (tenant, queue) = (name(tenant), name(queue));
    let weight = if rng.percent(30) { 0 } else { rng.between(1, 400) as u32 };
    let operation = Operation::SetQueueWeight {
        tenant: tenant.clone(),
        queue: queue.clone(),
        weight,
    };
    (operation, Some(Command::SetQueueWeight { tenant, queue, weight }))
}

pub(super) fn settings(tenant: &str, rng: &mut Rng) -> Call {
    let settings = TenantSettings {
        weight: rng.between(1, 300) as u32,
        quota: quota(rng),
        aging: aging(rng),
        guaranteed_slots: guaranteed_slots(rng),
        ..TenantSettings::default()
    };
    let operation = Operation::SetTenant {
        tenant: name(tenant),
        weight: settings.weight,
    };
    let command = Command::SetTenant {
        name: name(tenant),
        settings,
        create_only: false,
    };
    (operation, Some(command))
}

/// Most are never used up, some now and then.
fn quota(rng: &mut Rng) -> Quota {
    let mut bound = |least, most| if rng.percent(35) { rng.between(least, most) } else { 0 };
    let (jobs_max, bytes_max) = (bound(8, 60), bound(80, 800));
    let rate = bound(40, 300) as u32;
    Quota {
        jobs_max,
        bytes_max,
        enqueue_rate: (rate > 0).then(|| RateLimit {
            count: rate,
            period: 1_000,
            burst: rng.between(3, 30) as u32,
        }),
    }
}

pub(super) fn backoff(rng: &mut Rng) -> Backoff {
    match rng.below(4) {
        0 => Backoff::Fixed { delay: rng.below(100) },
        1 => Backoff::Linear { base: 20, cap: 50 },
        _ => Backoff::Exponential {
            base: 15,
            cap: 200,
            jitter_percent: 20,
        },
    }
}

pub(super) fn args(spec: &JobSpec) -> JobArgs {
    JobArgs {
        job: spec.id.into(),
        tenant: spec.tenant.clone(),
        queue: spec.queue.clone(),
        kind: spec.kind.clone(),
        key: spec.idempotency_key.clone(),
        available_at: spec.available_at,
        max_attempts: spec.options.max_attempts,
        max_crashes: spec.options.max_crashes,
        backoff: spec.options.backoff.clone(),
        attempt_timeout: spec.options.attempt_timeout,
        expires_in: spec.options.expires_in,
        claims: Claims::of(spec),
    }
}

//! The queue as its documentation tells it, in plain vectors and linear scans.
//!
//! Where the rules determine an answer the model predicts it. Where the core has a choice (which tenant is served,
//! which session gets the job, how jitter falls) the model checks that the choice was allowed and takes it over.

mod commands;
mod compare;
mod explain;
mod grants;
mod limits;
mod orders;
mod quotas;
mod timers;

use muster_core::{
    Backoff, JobId, JobSpec, JobState, LeaseId, LimitRule, LogIndex, Millis, Name, Reply, RequestId, SessionId,
    SessionSpec, TenantId, TenantSettings, Timestamp, WorkerClass,
};

use self::limits::{Bucket, Limiter};
use self::orders::Hold;

pub use self::commands::Answer;
pub use self::compare::{by_state, counters};
pub use self::limits::limiters;

/// A fault found by the model, in words.
pub type Check = Result<(), String>;

/// The state.
#[derive(Default)]
pub struct Model {
    pub index: LogIndex,
    pub now: Timestamp,
    pub cluster: u128,
    /// Feature level in force.
    pub level: u32,
    pub tenants: Vec<Tenant>,
    pub jobs: Vec<Job>,
    pub sessions: Vec<Session>,
    /// Paused queues.
    pub paused: Vec<(Name, Name)>,
    /// Queues with weights.
    pub weights: Vec<((Name, Name), u32)>,
    /// Paused kinds.
    pub paused_kinds: Vec<(Name, Name)>,
    /// The rule book.
    pub rules: Vec<LimitRule>,
    /// What was taken of rates.
    pub buckets: Vec<(Limiter, Bucket)>,
    /// Keys that workers reported, and until when.
    pub throttled: Vec<(Limiter, Timestamp)>,
    /// Ordering keys that wait for a dead job.
    pub holds: Vec<Hold>,
    /// Administrative requests done, what they were and how they were answered.
    pub requests: Vec<(RequestId, u64, Reply)>,
    /// Live leases that were taken back in this entry, with the reason.
    pub revoked: Vec<Revoked>,
    /// Waits after failures that began in this entry.
    pub waits: Vec<Wait>,
    /// A tick was in this entry.
    pub ticked: bool,
}

pub struct Tenant {
    pub name: Name,
    pub id: TenantId,
    pub settings: TenantSettings,
    pub enqueued: u64,
    pub started: u64,
    pub run_ms: u64,
    /// What was taken of its enqueue rate.
    pub enqueue_rate: Option<Bucket>,
}

pub struct Job {
    pub spec: JobSpec,
    pub tenant: TenantId,
    /// Where it may stand: one state, or several where the rules leave it open.
    pub states: Vec<JobState>,
    /// When it may start: between these.
    pub due: (Timestamp, Timestamp),
    /// Position in the order of acceptance.
    pub order: u64,
    pub enqueued_at: Timestamp,
    pub attempts: u32,
    pub failures: u32,
    pub crashes: u32,
    pub lease: Option<Lease>,
    /// Every lease it ever had, and whether its holder's report was taken.
    pub leases: Vec<(LeaseId, SessionId, bool)>,
    pub cancel_asked: bool,
    pub redriven_from: Option<JobId>,
    pub result: Option<bytes::Bytes>,
    /// Index of the entry that ended it.
    pub ended: Option<LogIndex>,
    /// Index of the entry that last changed its state.
    pub changed: LogIndex,
}

#[derive(Clone, Copy)]
pub struct Lease {
    pub id: LeaseId,
    pub session: SessionId,
    pub since: Timestamp,
    pub deadline: Timestamp,
}

pub struct Session {
    pub spec: SessionSpec,
    /// Slots that it ever made free, and that were ever given to its leases.
    pub credits: u64,
    pub granted: u64,
    /// It keeps its slots for a job of this tenant that takes so many.
    pub gathers: Option<muster_core::GatherRow>,
    pub quiet: bool,
    pub open: bool,
    pub vouched_at: Timestamp,
}

/// A lease that ended without its holder's report.
pub struct Revoked {
    pub job: JobId,
    pub lease: LeaseId,
    pub why: crate::facts::How,
}

/// A wait that began.
pub struct Wait {
    pub job: JobId,
    pub least: Millis,
    pub most: Millis,
}

impl Job {
    pub fn state(&self) -> JobState {
        self.states[0]
    }

    pub fn is(&self, state: JobState) -> bool {
        self.states.contains(&state)
    }

    pub fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    /// When it expires if nothing of it was ever started.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let expires = self.spec.options.expires_in;
        (expires != 0 && self.leases.is_empty()).then(|| self.spec.available_at + expires)
    }

    /// Whether a worker class takes it.
    pub fn matches(&self, class: &WorkerClass) -> bool {
        let spec = &self.spec;
        let named = |pattern: &Name| match pattern.strip_suffix('*') {
            Some(start) => spec.queue.starts_with(start),
            None => *pattern == spec.queue,
        };
        (class.tenants.is_empty() || class.tenants.contains(&spec.tenant))
            && (class.queues.is_empty() || class.queues.iter().any(named))
            && spec.options.slots <= class.slots
            && class.kinds.iter().any(|kind| {
                kind.kind == spec.kind && (kind.min_version..=kind.max_version).contains(&spec.schema_version)
            })
            && spec
                .options
                .required_labels
                .iter()
                .all(|label| class.labels.contains(label))
    }
}

impl Session {
    /// Slots that it has room for.
    pub fn free(&self) -> u64 {
        if self.open && !self.quiet {
            self.credits - self.granted
        } else {
            0
        }
    }
}

impl Model {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over the tenants that are there from the start.
    pub fn found(&mut self, core: &muster_core::Core) -> Check {
        for view in core.tenants() {
            self.tenants.push(Tenant {
                name: view.name.clone(),
                id: view.id,
                settings: view.settings,
                enqueued: 0,
                started: 0,
                run_ms: 0,
                enqueue_rate: None,
            });
        }
        let names: Vec<_> = self.tenants.iter().map(|tenant| &*tenant.name).collect();
        let founding = self.tenant(muster_core::DEFAULT_TENANT).map(|tenant| &tenant.settings);
        if names.len() != 2 || !names.contains(&"_system") || founding != Some(&TenantSettings::default()) {
            return Err(format!("a new core has the tenants {names:?}"));
        }
        Ok(())
    }

    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| &*tenant.name == name)
    }

    pub fn tenant_of(&mut self, id: TenantId) -> &mut Tenant {
        self.tenants
            .iter_mut()
            .find(|tenant| tenant.id == id)
            .expect("tenants are never removed")
    }

    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.iter().find(|job| job.spec.id == id)
    }

    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.iter().find(|session| session.spec.session == id)
    }

    pub fn is_paused(&self, job: &Job) -> bool {
        self.queue_is_paused(job) || self.kind_is_paused(job)
    }

    pub fn queue_is_paused(&self, job: &Job) -> bool {
        self.paused.contains(&(job.spec.tenant.clone(), job.spec.queue.clone()))
    }

    pub fn weight_of(&self, tenant: &Name, queue: &Name) -> u32 {
        let own = self
            .weights
            .iter()
            .find(|((of, name), _)| (of, name) == (tenant, queue));
        own.map_or(0, |(_, weight)| *weight)
    }

    /// The line of its tenant in which a job stands: its queue, if that has a weight.
    pub fn line<'a>(&self, job: &'a Job) -> Option<&'a Name> {
        let weight = self.weight_of(&job.spec.tenant, &job.spec.queue);
        (weight > 0).then_some(&job.spec.queue)
    }

    pub fn kind_is_paused(&self, job: &Job) -> bool {
        self.paused_kinds
            .contains(&(job.spec.tenant.clone(), job.spec.kind.clone()))
    }
}

/// Shortest and longest wait after the `failures`-th failure.
pub fn wait_bounds(backoff: &Backoff, failures: u32) -> (Millis, Millis) {
    match *backoff {
        Backoff::Fixed { delay } => (delay, delay),
        Backoff::Linear { base, cap } => {
            let wait = cap.min(base.saturating_mul(u64::from(failures)));
            (wait, wait)
        }
        Backoff::Exponential {
            base,
            cap,
            jitter_percent,
        } => {
            let mut wait = u128::from(base);
            for _ in 1..failures {
                wait = (wait * 2).min(u128::from(cap));
            }
            let wait = wait.min(u128::from(cap)) as u64;
            let jitter = wait * u64::from(jitter_percent) / 100;
            (wait - jitter, wait + jitter)
        }
    }
}

//! Turns the acts of a script into commands that make sense in the state at hand.

use bytes::Bytes;
use muster_core::{
    AGING_STRICT, AttemptOutcome, AttemptReport, Backoff, Command, JobError, JobId, JobLimits, JobOptions, JobSpec,
    JobState, KindVersions, LimitKey, LimitLevel, LimitRule, LimitSelector, Name, OrderingKey, OrderingPolicy, Origin,
    Payload, Priority, Quota, RateLimit, RequestId, SessionId, SessionSpec, TenantSettings, WorkerClass,
};

use crate::model::Model;
use crate::script::{Act, End, Job};

const TENANTS: [&str; 4] = ["default", "acme", "umbra", "late"];
const QUEUES: [&str; 2] = ["mail", "media"];
const KINDS: [&str; 3] = ["resize", "send", "index"];
const LIMIT_KEYS: [&str; 4] = ["api", "api:1", "disk", "never"];
const ORDERING_KEYS: [&str; 2] = ["account", "file"];

/// What the resolver must remember by itself.
#[derive(Default)]
pub struct Resolver {
    minted: u128,
    /// Sessions opened and the credits given to each so far.
    sessions: Vec<(SessionId, u64)>,
    /// All commands so far, for repeats.
    commands: Vec<Command>,
    requests: u128,
}

fn pick<T>(items: &[T], at: usize) -> Option<&T> {
    if items.is_empty() {
        None
    } else {
        items.get(at % items.len())
    }
}

fn name(text: &str) -> Name {
    text.into()
}

fn label() -> (Name, Name) {
    (name("disk"), name("fast"))
}

fn class(number: usize) -> WorkerClass {
    let kinds = |kinds: &[&str], min_version, max_version| {
        let mut kinds: Vec<_> = kinds
            .iter()
            .map(|kind| KindVersions {
                kind: name(kind),
                min_version,
                max_version,
            })
            .collect();
        kinds.sort();
        kinds
    };
    let all = WorkerClass {
        tenants: vec![],
        queues: vec![],
        kinds: kinds(&KINDS, 1, 2),
        labels: vec![],
        slots: 4,
    };
    match number {
        0 => all,
        1 => WorkerClass {
            queues: vec![name("mail")],
            ..all
        },
        2 => WorkerClass {
            queues: vec![name("me*")],
            kinds: kinds(&["resize", "send"], 1, 1),
            slots: 2,
            ..all
        },
        3 => WorkerClass {
            tenants: vec![name("acme")],
            ..all
        },
        4 => WorkerClass {
            labels: vec![label()],
            ..all
        },
        _ => WorkerClass {
            tenants: vec![name("default"), name("umbra")],
            kinds: kinds(&["index"], 2, 2),
            ..all
        },
    }
}

/// Settings with the `quota`-th of some quotas.
fn settings(weight: u32, quota: usize) -> TenantSettings {
    let rate = |count, period, burst| Some(RateLimit { count, period, burst });
    let (jobs_max, bytes_max, enqueue_rate) = match quota {
        0 | 1 => (0, 0, None),
        2 => (4, 0, None),
        3 => (0, 40, None),
        4 => (0, 0, rate(3, 1_000, 2)),
        5 => (0, 0, rate(1, 700, 3)),
        _ => (6, 60, rate(7, 3, 4)),
    };
    TenantSettings {
        weight,
        quota: Quota {
            jobs_max,
            bytes_max,
            enqueue_rate,
        },
        ..TenantSettings::default()
    }
}

/// A rule; 0 for the rate is none.
fn rule(level: usize, tenants: &str, names: usize, rate: usize, concurrency: u32) -> LimitRule {
    let level = LimitLevel::ALL[level];
    let pattern = |patterns: [&'static str; 6]| patterns[names];
    let (tenants, names) = match level {
        LimitLevel::Cluster => ("*", "*"),
        LimitLevel::Tenant => (tenants, "*"),
        LimitLevel::Queue => (tenants, pattern(["*", "m*", "me*", "mail", "media", "other"])),
        LimitLevel::Kind => (tenants, pattern(["*", "s*", "send", "index", "resize", "re*"])),
        LimitLevel::Key => (tenants, pattern(["*", "api*", "api", "api:1", "disk", "d*"])),
    };
    let rates = [(3, 1_000, 2), (1, 700, 1), (7, 3, 5), (40, 10_000, 4)];
    let rate = rate.checked_sub(1).map(|at| {
        let (count, period, burst) = rates[at % rates.len()];
        RateLimit { count, period, burst }
    });
    LimitRule {
        selector: LimitSelector {
            level,
            tenants: name(tenants),
            names: name(names),
        },
        rate,
        // The cluster is not to stand still all the time.
        concurrency: if level == LimitLevel::Cluster && concurrency > 0 {
            concurrency + 2
        } else {
            concurrency
        },
        note: name("by script"),
    }
}

fn outcome(end: &End) -> AttemptOutcome {
    match end {
        End::Succeed => AttemptOutcome::Succeeded {
            result: Bytes::from_static(b"fine"),
        },
        End::Fail { retryable, retry_after } => AttemptOutcome::Failed {
            error: JobError {
                class: name("Oops"),
                message: name("it broke"),
            },
            retryable: *retryable,
            retry_after: *retry_after,
        },
        End::Preempt => AttemptOutcome::Preempted,
        End::Snooze(delay) => AttemptOutcome::Snoozed { delay: *delay },
        End::Cancel => AttemptOutcome::Cancelled,
        End::Throttle { key, retry_after } => AttemptOutcome::Throttled {
            key: name(LIMIT_KEYS[*key]),
            retry_after: *retry_after,
        },
    }
}

fn limits(job: &Job) -> JobLimits {
    let mut keys: Vec<LimitKey> = job
        .limit_keys
        .iter()
        .map(|(key, cost)| LimitKey {
            key: name(LIMIT_KEYS[*key]),
            cost: *cost,
        })
        .collect();
    keys.sort();
    keys.dedup_by(|a, b| a.key == b.key);
    JobLimits { cost: job.cost, keys }
}

/// The tenants and rules that every run starts with, besides those that are always there.
pub fn founding() -> Vec<Command> {
    let mut commands = [("acme", 300), ("umbra", 100)]
        .map(|(tenant, weight)| Command::SetTenant {
            name: name(tenant),
            settings: settings(weight, 0),
            create_only: true,
        })
        .to_vec();
    let rules = [rule(1, "umbra", 0, 1, 2), rule(4, "*", 0, 0, 2), rule(4, "*", 2, 4, 0)];
    commands.extend(rules.map(|rule| Command::SetLimit(Box::new(rule))));
    commands
}

impl Resolver {
    /// Spread over the whole range, so that the order of ids is not the order of acceptance.
    fn mint(&mut self) -> u128 {
        self.minted += 1;
        self.minted.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }

    /// The command for an act, if it makes sense now.
    pub fn resolve(&mut self, act: &Act, model: &Model, clock: u64, floor: u64) -> Option<Command> {
        let command = self.command(act, model, clock, floor)?;
        self.commands.push(command.clone());
        Some(command)
    }

    fn spec(&mut self, job: &Job, tenant: usize, model: &Model, clock: u64) -> JobSpec {
        let tenant = name(TENANTS[tenant]);
        let backoff = match job.backoff {
            0 => Backoff::Fixed { delay: 0 },
            1 => Backoff::Fixed { delay: 700 },
            2 => Backoff::Linear { base: 300, cap: 500 },
            3 => Backoff::Exponential {
                base: 100,
                cap: 100_000,
                jitter_percent: 50,
            },
            _ => Backoff::default(),
        };
        let key = job.key.map(|key| name(&format!("key-{key}")));
        // The API searched the history; had it found the holder of the key, it would have answered itself. So a holder
        // that has ended did so after the search.
        let holder = model
            .jobs
            .iter()
            .rev()
            .find(|held| held.spec.tenant == tenant && held.spec.idempotency_key == key);
        let searched = holder
            .filter(|_| key.is_some())
            .and_then(|held| held.ended)
            .map_or(model.index, |index| index - 1);
        JobSpec {
            id: JobId(self.mint()),
            tenant,
            queue: name(QUEUES[job.queue]),
            kind: name(KINDS[job.kind]),
            schema_version: job.version,
            payload: Payload {
                data: Bytes::from_static(b"payload"),
                ..Payload::default()
            },
            priority: Priority::ALL[job.priority],
            available_at: if job.delay == 0 { 0 } else { clock + job.delay },
            idempotency_key: key,
            options: JobOptions {
                max_attempts: job.max_attempts,
                max_crashes: job.max_crashes,
                backoff,
                attempt_timeout: job.timeout,
                expires_in: job.expires,
                required_labels: if job.labelled { vec![label()] } else { vec![] },
                limits: limits(job),
                preferred_labels: if job.prefers { vec![label()] } else { vec![] },
                slots: job.slots,
            },
            ordering: job.ordering.map(|(key, strict)| OrderingKey {
                key: name(ORDERING_KEYS[key]),
                policy: if strict {
                    OrderingPolicy::Strict
                } else {
                    OrderingPolicy::SkipDead
                },
            }),
            metadata: vec![],
            seed: job.seed,
            origin: Origin::Api,
            history_searched: searched,
        }
    }

    fn command(&mut self, act: &Act, model: &Model, clock: u64, floor: u64) -> Option<Command> {
        Some(match act {
            Act::Enqueue(job) => Command::Enqueue(Box::new(self.spec(job, job.tenant, model, clock))),
            Act::EnqueueForNobody(job) => {
                let mut spec = self.spec(job, job.tenant, model, clock);
                spec.tenant = name("nobody");
                Command::Enqueue(Box::new(spec))
            }
            Act::EnqueueMany {
                jobs,
                all_or_nothing,
                twist,
            } => self.many(jobs, *all_or_nothing, *twist, model, clock),
            Act::EnqueueAgain { pick: at, altered } => {
                let mut spec = pick(&model.jobs, *at)?.spec.clone();
                if *altered {
                    spec.payload.data = Bytes::from_static(b"another");
                }
                Command::Enqueue(Box::new(spec))
            }
            Act::Cancel { pick: at, by_other } => {
                // Few jobs run at a time, and what follows a cancel of one that does is to happen as well.
                let running: Vec<_> = model.jobs.iter().filter(|job| job.lease.is_some()).collect();
                let some = if at % 4 == 0 { pick(&running, at / 4) } else { None };
                let job = some.copied().or_else(|| pick(&model.jobs, *at))?;
                let tenant = if *by_other {
                    name("acme")
                } else {
                    job.spec.tenant.clone()
                };
                Command::Cancel {
                    tenant,
                    job: job.spec.id,
                }
            }
            Act::Redrive { pick: at, by_other } => {
                // The API answers for jobs that the core has forgotten and that are not dead or the caller's.
                let may = |job: &&crate::model::Job| {
                    job.ended.is_none_or(|index| index >= floor) || (job.is(JobState::Dead) && !by_other)
                };
                let jobs: Vec<_> = model
                    .jobs
                    .iter()
                    .filter(|job| !job.is_live() || at % 5 == 0)
                    .filter(may)
                    .collect();
                let old = pick(&jobs, *at)?;
                let (from, mut spec) = (old.spec.id, old.spec.clone());
                spec.id = JobId(self.mint());
                spec.available_at = 0;
                spec.idempotency_key = None;
                spec.origin = Origin::Redrive;
                spec.history_searched = model.index;
                if *by_other {
                    spec.tenant = name(if &*spec.tenant == "acme" { "default" } else { "acme" });
                }
                Command::Redrive {
                    from,
                    spec: Box::new(spec),
                }
            }
            Act::Open { class: number, credits } => {
                let session = SessionId(self.mint());
                self.sessions.push((session, *credits));
                Command::OpenSession(Box::new(SessionSpec {
                    session,
                    node: 1 + *number as u64 % 3,
                    worker: name("worker"),
                    class: class(*number),
                    ttl: 10_000,
                    proposed_after: model.index,
                }))
            }
            Act::Report { session, ends, credits } => {
                let open: Vec<_> = (0..self.sessions.len())
                    .filter(|at| model.session(self.sessions[*at].0).is_none_or(|session| session.open))
                    .collect();
                let (session, given) = &mut self.sessions[*pick(&open, *session)?];
                *given += credits;
                let held: Vec<_> = model
                    .jobs
                    .iter()
                    .filter_map(|job| {
                        job.lease
                            .filter(|lease| lease.session == *session)
                            .map(|lease| (job.spec.id, lease.id))
                    })
                    .collect();
                let results = ends
                    .iter()
                    .filter_map(|(at, end)| pick(&held, *at).map(|(job, lease)| (*job, *lease, end)))
                    .map(|(job, lease, end)| {
                        let asked = model.job(job).is_some_and(|job| job.cancel_asked);
                        // A worker that is told of a cancel gives up, rather than fail.
                        let outcome = match end {
                            End::Fail { .. } if asked => AttemptOutcome::Cancelled,
                            end => outcome(end),
                        };
                        AttemptReport { job, lease, outcome }
                    })
                    .collect();
                Command::Report {
                    session: *session,
                    results,
                    credit_total: *given,
                }
            }
            Act::ReportLate { pick: at, end } => {
                let over: Vec<_> = model
                    .jobs
                    .iter()
                    .flat_map(|job| {
                        job.leases
                            .iter()
                            .map(|(lease, session, _)| (job.spec.id, *lease, *session))
                    })
                    .collect();
                let (job, lease, session) = *pick(&over, *at)?;
                let results = vec![AttemptReport {
                    job,
                    lease,
                    outcome: outcome(end),
                }];
                Command::Report {
                    session,
                    results,
                    credit_total: 0,
                }
            }
            Act::ReportForOther { pick: at, end } => {
                let held: Vec<_> = model
                    .jobs
                    .iter()
                    .filter_map(|job| job.lease.map(|lease| (job.spec.id, lease)))
                    .collect();
                let (job, lease) = *pick(&held, *at)?;
                let session = self
                    .sessions
                    .iter()
                    .map(|(session, _)| *session)
                    .find(|other| *other != lease.session)?;
                let results = vec![AttemptReport {
                    job,
                    lease: lease.id,
                    outcome: outcome(end),
                }];
                Command::Report {
                    session,
                    results,
                    credit_total: 0,
                }
            }
            Act::Quiet(at) => Command::QuietSession {
                session: pick(&self.sessions, *at)?.0,
            },
            Act::Close(at) => Command::CloseSession {
                session: pick(&self.sessions, *at)?.0,
            },
            Act::Lose(at) => Command::LoseSession {
                session: pick(&self.sessions, *at)?.0,
            },
            Act::Vouch(at) => Command::Vouch {
                sessions: vec![pick(&self.sessions, *at)?.0],
            },
            Act::SetTenant {
                tenant,
                weight,
                quota,
                aging,
                guarantee,
                create_only,
            } => self.request(Command::SetTenant {
                name: name(TENANTS[*tenant]),
                settings: TenantSettings {
                    aging: [30_000, 0, AGING_STRICT, AGING_STRICT - 1][*aging],
                    guaranteed_slots: [0, 1, 2, 4, 1_000_000, 1_000_001][*guarantee],
                    ..settings(*weight, *quota)
                },
                create_only: *create_only,
            }),
            Act::SetLimit {
                level,
                tenants,
                names,
                rate,
                concurrency,
            } => {
                let tenants = ["*", "default", "acme", "a*", "late"][*tenants];
                self.request(Command::SetLimit(Box::new(rule(
                    *level,
                    tenants,
                    *names,
                    *rate,
                    *concurrency,
                ))))
            }
            Act::DeleteLimit(at) => {
                let selector = pick(&model.rules, *at)?.selector.clone();
                self.request(Command::DeleteLimit(selector))
            }
            Act::OpenKey { tenant, key } => self.request(Command::OpenKey {
                tenant: name(TENANTS[*tenant]),
                key: name(LIMIT_KEYS[*key]),
            }),
            Act::ReleaseOrder(at) => {
                let hold = pick(&model.holds, *at)?;
                self.request(Command::ReleaseOrder {
                    tenant: hold.group.tenant.clone(),
                    queue: hold.group.queue.clone(),
                    key: hold.group.key.clone(),
                })
            }
            Act::Weigh { tenant, queue, weight } => self.request(Command::SetQueueWeight {
                tenant: name(TENANTS[*tenant]),
                queue: name(QUEUES[*queue]),
                weight: *weight,
            }),
            Act::Pause { tenant, queue, paused } => self.request(Command::PauseQueue {
                tenant: name(TENANTS[*tenant]),
                queue: name(QUEUES[*queue]),
                paused: *paused,
                note: name("by script"),
            }),
            Act::PauseKind { tenant, kind, paused } => self.request(Command::PauseKind {
                tenant: name(TENANTS[*tenant]),
                kind: name(KINDS[*kind]),
                paused: *paused,
                note: name("by script"),
            }),
            Act::SetPriority {
                picks,
                priority,
                by_other,
            } => {
                let first = pick(&model.jobs, picks[0])?.spec.tenant.clone();
                let jobs = picks.iter().filter_map(|at| pick(&model.jobs, *at));
                self.request(Command::SetPriority {
                    tenant: if *by_other { name("acme") } else { first },
                    jobs: jobs.map(|job| job.spec.id).collect(),
                    priority: Priority::ALL[*priority],
                })
            }
            Act::Tick => Command::Tick,
            Act::Level(level) => Command::SetLevel { level: *level },
            Act::Bootstrap(cluster) => Command::Bootstrap {
                cluster: 1 + u128::from(*cluster),
            },
            Act::Repeat(at) => pick(&self.commands, *at)?.clone(),
        })
    }

    /// Most of them under an id of their own, some under one that was used before, some without.
    fn request(&mut self, command: Command) -> Command {
        self.requests += 1;
        let request = match self.requests % 8 {
            0 => return command,
            1 => self.requests / 2,
            _ => self.requests,
        };
        Command::Once {
            request: RequestId(request),
            fingerprint: command.fingerprint(),
            proposed_after: 0,
            command: Box::new(command),
        }
    }

    fn many(&mut self, jobs: &[Job], all_or_nothing: bool, twist: usize, model: &Model, clock: u64) -> Command {
        let tenant = jobs[0].tenant;
        let mut jobs: Vec<_> = jobs.iter().map(|job| self.spec(job, tenant, model, clock)).collect();
        let existing = model.jobs.iter().rev().find(|job| *job.spec.tenant == *TENANTS[tenant]);
        let again = if twist > 2 {
            existing.map(|job| job.spec.clone())
        } else {
            Some(jobs[0].clone())
        };
        if let Some(mut again) = again.filter(|_| twist > 0) {
            if twist.is_multiple_of(2) {
                again.payload.data = Bytes::from_static(b"another");
            }
            jobs.push(again);
        }
        Command::EnqueueMany { jobs, all_or_nothing }
    }
}

//! A small harness for the unit tests: one entry at a time, invariants and a restored twin after each.

use bytes::Bytes;

use crate::*;

pub(crate) struct Bed {
    pub(crate) core: Core,
    pub(crate) index: u64,
    pub(crate) now: u64,
    pub(crate) events: Vec<Event>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self {
            core: Core::new(),
            index: 0,
            now: 1_000_000,
            events: Vec::new(),
        }
    }

    /// Applies one entry to the core and to a twin restored from its rows; both must do the same.
    pub(crate) fn all(&mut self, commands: Vec<Command>) -> Vec<Reply> {
        let mut twin = Core::restore(self.core.rows()).unwrap();
        self.index += 1;
        let batch = Batch {
            stamped_at: self.now,
            commands,
        };
        let other = twin.apply(self.index, batch.clone());
        let applied = self.core.apply(self.index, batch);
        self.core.check_invariants().unwrap();
        assert_eq!(applied.replies, other.replies);
        assert_eq!(applied.events, other.events);
        assert_eq!(self.core.meta(), twin.meta());
        assert_eq!(self.core.next_due(), twin.next_due());
        self.events = applied.events;
        applied.replies
    }

    pub(crate) fn one(&mut self, command: Command) -> Reply {
        self.all(vec![command]).remove(0)
    }

    /// Enqueues and expects acceptance.
    pub(crate) fn enqueue(&mut self, spec: JobSpec) {
        let id = spec.id;
        let Reply::Enqueued(enqueued) = self.one(Command::Enqueue(Box::new(spec))) else {
            panic!("refused")
        };
        assert_eq!((enqueued.job, enqueued.existed), (id, false));
    }

    pub(crate) fn open(&mut self, session: u128, credit_total: u64) {
        let opened = self.one(Command::OpenSession(Box::new(hello(session, self.index))));
        assert_eq!(opened, Reply::Done);
        self.report(session, vec![], credit_total);
    }

    pub(crate) fn report(&mut self, session: u128, results: Vec<AttemptReport>, credit_total: u64) -> Vec<ReportReply> {
        match self.one(Command::Report {
            session: SessionId(session),
            results,
            credit_total,
        }) {
            Reply::Reported(replies) => replies,
            other => panic!("{other:?}"),
        }
    }

    /// Reports the end of a running job's attempt.
    pub(crate) fn end(&mut self, job: u128, outcome: AttemptOutcome) -> ReportReply {
        let lease = self.row(job).lease.expect("it runs").id;
        self.report(
            1,
            vec![AttemptReport {
                job: JobId(job),
                lease,
                outcome,
            }],
            0,
        )[0]
    }

    pub(crate) fn row(&self, job: u128) -> JobRow {
        (*self.core.job(JobId(job)).expect("it lives")).clone()
    }

    pub(crate) fn state(&self, job: u128) -> Option<JobState> {
        self.core.job(JobId(job)).map(|row| row.state)
    }

    /// The row of a job that ended in the last entry.
    pub(crate) fn ended(&self, job: u128) -> JobRow {
        let found = self.events.iter().find_map(|event| match event {
            Event::JobEnded(row) if row.spec.id == JobId(job) => Some((**row).clone()),
            _ => None,
        });
        found.expect("it ended")
    }

    /// Jobs started in the last entry, in order.
    pub(crate) fn started(&self) -> Vec<u128> {
        let started = self.events.iter().filter_map(|event| match event {
            Event::Assigned(assignment) => Some(assignment.spec.id.0),
            _ => None,
        });
        started.collect()
    }

    /// Goes to the next due time and ticks; returns how far it was.
    pub(crate) fn tick(&mut self) -> u64 {
        let due = self.core.next_due().expect("something is due");
        let wait = due.saturating_sub(self.now);
        self.now = self.now.max(due);
        assert_eq!(self.one(Command::Tick), Reply::Done);
        assert!(
            self.core.next_due().is_none_or(|next| next > self.now),
            "a tick leaves nothing due"
        );
        wait
    }

    /// Sets a rule of tenant `default` and expects success.
    pub(crate) fn limit(&mut self, level: LimitLevel, names: &str, rate: Option<(u32, Millis, u32)>, concurrency: u32) {
        let rule = rule(level, "default", names, rate, concurrency);
        assert_eq!(self.one(Command::SetLimit(Box::new(rule))), Reply::Done);
    }

    /// The limiter of a name of tenant `default`.
    pub(crate) fn limiter(&self, level: LimitLevel, name: &str) -> LimiterView {
        let view = self.core.limiter(level, TenantId(1), &name.into(), 10);
        view.expect("the tenant is there")
    }

    pub(crate) fn set_tenant(&mut self, name: &str, settings: TenantSettings) -> Reply {
        self.one(Command::SetTenant {
            name: name.into(),
            settings,
            create_only: false,
        })
    }
}

pub(crate) fn hello(session: u128, proposed_after: u64) -> SessionSpec {
    SessionSpec {
        session: SessionId(session),
        node: 1,
        worker: "worker".into(),
        class: WorkerClass {
            tenants: vec![],
            queues: vec![],
            kinds: vec![KindVersions {
                kind: "mail".into(),
                min_version: 1,
                max_version: 1,
            }],
            labels: vec![],
            slots: 16,
        },
        ttl: 10_000,
        proposed_after,
    }
}

/// A rule; `rate` is tokens, period, burst.
pub(crate) fn rule(
    level: LimitLevel,
    tenants: &str,
    names: &str,
    rate: Option<(u32, Millis, u32)>,
    concurrency: u32,
) -> LimitRule {
    let tenants = if level == LimitLevel::Cluster { "*" } else { tenants };
    LimitRule {
        selector: LimitSelector {
            level,
            tenants: tenants.into(),
            names: names.into(),
        },
        rate: rate.map(|(count, period, burst)| RateLimit { count, period, burst }),
        concurrency,
        note: "".into(),
    }
}

/// A job with limit keys, each of cost 1.
pub(crate) fn with_keys(mut spec: JobSpec, keys: &[&str]) -> JobSpec {
    spec.options.limits.keys = keys
        .iter()
        .map(|key| LimitKey {
            key: (*key).into(),
            cost: 1,
        })
        .collect();
    spec
}

/// A job of tenant `default` whose failures wait 100 ms.
pub(crate) fn job(id: u128) -> JobSpec {
    JobSpec {
        id: JobId(id),
        tenant: "default".into(),
        queue: "q".into(),
        kind: "mail".into(),
        schema_version: 1,
        payload: Payload {
            data: Bytes::from_static(b"hello"),
            ..Payload::default()
        },
        priority: Priority::Normal,
        available_at: 0,
        idempotency_key: None,
        options: JobOptions {
            backoff: Backoff::Fixed { delay: 100 },
            ..JobOptions::default()
        },
        ordering: None,
        metadata: vec![],
        seed: 7,
        origin: Origin::Api,
        history_searched: u64::MAX,
    }
}

pub(crate) fn succeeded() -> AttemptOutcome {
    AttemptOutcome::Succeeded {
        result: Bytes::from_static(b"done"),
    }
}

pub(crate) fn failed(retryable: bool, retry_after: Millis) -> AttemptOutcome {
    let error = JobError {
        class: "oops".into(),
        message: "it broke".into(),
    };
    AttemptOutcome::Failed {
        error,
        retryable,
        retry_after,
    }
}

//! Values with every field set, for tests. The fixtures are their bytes: change a value only with a new fixture.

use std::sync::Arc;

use bytes::Bytes;
use muster_core::*;

use crate::cluster_samples;
use crate::log::{EntryKind, LogEntry, LogPosition};

pub(crate) fn spec(number: u64) -> JobSpec {
    JobSpec {
        id: JobId(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number)),
        tenant: "acme".into(),
        queue: "mail".into(),
        kind: "send-welcome".into(),
        schema_version: 2,
        payload: Payload {
            data: Bytes::from_static(b"{\"to\":\"a@example.org\"}"),
            content_type: "application/json".into(),
            encoding: Encoding::Identity,
        },
        priority: Priority::High,
        available_at: 1_700_000_000_500,
        idempotency_key: Some(format!("key-{number}").as_str().into()),
        options: JobOptions {
            max_attempts: 5,
            max_crashes: 2,
            backoff: Backoff::Exponential {
                base: 100,
                cap: 60_000,
                jitter_percent: 10,
            },
            attempt_timeout: 30_000,
            expires_in: 86_400_000,
            required_labels: vec![("region".into(), "eu".into())],
            limits: JobLimits {
                cost: 3,
                keys: vec![LimitKey {
                    key: "smtp:eu".into(),
                    cost: 2,
                }],
            },
            preferred_labels: vec![("disk".into(), "fast".into())],
            slots: 6,
        },
        ordering: Some(OrderingKey {
            key: "account-17".into(),
            policy: OrderingPolicy::Strict,
        }),
        metadata: vec![("trace".into(), "0af7".into())],
        seed: 77,
        origin: Origin::Redrive,
        history_searched: 41,
    }
}

/// A job that ended at `index`.
pub(crate) fn job(number: u64, index: u64) -> JobRow {
    JobRow {
        spec: Arc::new(spec(number)),
        tenant: TenantId(3),
        fingerprint: 0xfeed_beef,
        state: JobState::Dead,
        enqueued_at: 1_700_000_000_000 + number,
        available_at: 1_700_000_000_500,
        sequence: number << 20,
        attempts: 5,
        failures: 4,
        crashes: 1,
        lease: Some(Lease {
            id: LeaseId { index: 50, position: 2 },
            session: SessionId(9),
            deadline: 1_700_000_030_500,
            charged: 1_234,
            guaranteed: true,
        }),
        last_report: Some(LeaseId { index: 49, position: 1 }),
        cancel_asked: true,
        changed_index: index,
        started_at: 1_700_000_000_600,
        ended_at: 1_700_000_000_900,
        error: Some(JobError {
            class: "SmtpError".into(),
            message: "mailbox full".into(),
        }),
        result: Bytes::from_static(b"half"),
        redriven_from: Some(JobId(5)),
    }
}

fn session() -> SessionSpec {
    SessionSpec {
        session: SessionId(9),
        node: 1,
        worker: "host-1/42".into(),
        class: WorkerClass {
            tenants: vec!["acme".into()],
            queues: vec!["mail".into(), "sms*".into()],
            kinds: vec![KindVersions {
                kind: "send-welcome".into(),
                min_version: 1,
                max_version: 3,
            }],
            labels: vec![("region".into(), "eu".into())],
            slots: 32,
        },
        ttl: 10_000,
        proposed_after: 40,
    }
}

fn settings() -> TenantSettings {
    TenantSettings {
        weight: 250,
        aging: 15_000,
        payload_bytes_max: 4096,
        quota: Quota {
            jobs_max: 100_000,
            bytes_max: 1 << 30,
            enqueue_rate: Some(RateLimit {
                count: 500,
                period: 1_000,
                burst: 2_000,
            }),
        },
        guaranteed_slots: 12,
    }
}

fn limit() -> LimitRule {
    LimitRule {
        selector: LimitSelector {
            level: LimitLevel::Key,
            tenants: "acme".into(),
            names: "smtp:*".into(),
        },
        rate: Some(RateLimit {
            count: 100,
            period: 1_000,
            burst: 20,
        }),
        concurrency: 64,
        note: "what the provider allows".into(),
    }
}

/// One row of each kind.
pub(crate) fn rows() -> Vec<(&'static str, Row)> {
    let mut rows = vec![
        ("row-meta", Row::Meta(meta())),
        ("row-tenant", Row::Tenant(tenant())),
        (
            "row-queue",
            Row::Queue(QueueRow {
                tenant: TenantId(3),
                queue: "mail".into(),
                paused: true,
                note: "provider is down".into(),
                weight: 40,
            }),
        ),
        ("row-job", Row::Job(Arc::new(job(1, 60)))),
        (
            "row-session",
            Row::Session(SessionRow {
                spec: session(),
                opened_at: 1_700_000_000_001,
                vouched_at: 1_700_000_000_002,
                credit_total: 12,
                granted_total: 11,
                quiet: true,
                gathers: Some(GatherRow {
                    tenant: TenantId(3),
                    slots: 6,
                }),
            }),
        ),
        ("row-ended", Row::Ended(ended())),
        (
            "row-kind-cost",
            Row::KindCost(KindCostRow {
                tenant: TenantId(3),
                kind: "send-welcome".into(),
                mean: 25_600,
            }),
        ),
        ("row-limit", Row::Limit(limit())),
        (
            "row-gate",
            Row::Gate(GateRow {
                level: LimitLevel::Kind,
                tenant: TenantId(3),
                name: "smtp:eu".into(),
                arrival: 1 << 70,
                shut_until: 1_700_000_001_000,
                throttled_until: 1_700_000_002_000,
                paused: Some("provider is down".into()),
            }),
        ),
        (
            "row-order",
            Row::Order(OrderRow {
                tenant: TenantId(3),
                queue: "mail".into(),
                key: "account-17".into(),
                held_by: JobId(6),
                sequence: 7 << 24,
            }),
        ),
        (
            "row-fleet",
            Row::Fleet(FleetRow {
                id: 5,
                key: FleetKey {
                    tenants: session().class.tenants,
                    queues: session().class.queues,
                    kinds: session().class.kinds,
                },
                virtual_time: 98,
                idle_since: 1_700_000_000_800,
                guarantee_time: 97,
            }),
        ),
    ];
    rows.extend(cluster_samples::rows());
    rows
}

fn meta() -> MetaRow {
    MetaRow {
        cluster: 0xabcd,
        applied: 60,
        now: 1_700_000_000_900,
        next_tenant: 4,
        hash: 0x1234_5678,
        ended_floor: 7,
        next_fleet: 8,
        closed_floor: 9,
        closed: vec![ClosedSession {
            index: 58,
            session: SessionId(8),
        }],
        level: 2,
    }
}

fn tenant() -> TenantRow {
    TenantRow {
        id: TenantId(3),
        name: "acme".into(),
        settings: settings(),
        shares: vec![ShareRow {
            fleet: 5,
            tag: 99,
            owed: 1,
            line_time: 40,
            lines: vec![LineRow {
                queue: "mail".into(),
                tag: 41,
                owed: 2,
            }],
            guarantee_tag: 96,
            guarantee_owed: 3,
        }],
        totals: Totals {
            enqueued: 1,
            started: 2,
            succeeded: 3,
            dead: 4,
            cancelled: 5,
            expired: 6,
            failures: 7,
            crashes: 8,
            run_ms: 9,
        },
        enqueue_arrival: 1 << 69,
    }
}

fn ended() -> EndedRow {
    EndedRow {
        index: 60,
        at: 1_700_000_000_900,
        jobs: vec![EndedJob {
            job: JobId(1),
            tenant: TenantId(3),
            state: JobState::Succeeded,
            fingerprint: 2,
            idempotency_key: Some("key-1".into()),
            lease: Some(LeaseId { index: 50, position: 2 }),
        }],
    }
}

/// A batch with every outcome and every command but those of `cluster_samples`.
pub(crate) fn batch() -> Batch {
    let report = |outcome| AttemptReport {
        job: JobId(1),
        lease: LeaseId { index: 50, position: 2 },
        outcome,
    };
    let error = JobError {
        class: "SmtpError".into(),
        message: "mailbox full".into(),
    };
    let results = vec![
        report(AttemptOutcome::Succeeded {
            result: Bytes::from_static(b"ok"),
        }),
        report(AttemptOutcome::Failed {
            error,
            retryable: true,
            retry_after: 250,
        }),
        report(AttemptOutcome::Preempted),
        report(AttemptOutcome::Snoozed { delay: 5_000 }),
        report(AttemptOutcome::Cancelled),
        report(AttemptOutcome::Throttled {
            key: "smtp:eu".into(),
            retry_after: 2_000,
        }),
    ];
    let session_id = SessionId(9);
    let commands = vec![
        Command::Bootstrap { cluster: 0xabcd },
        Command::Enqueue(Box::new(spec(1))),
        Command::EnqueueMany {
            jobs: (10..16).map(spec).collect(),
            all_or_nothing: true,
        },
        Command::Cancel {
            tenant: "acme".into(),
            job: JobId(1),
        },
        Command::Redrive {
            from: JobId(1),
            spec: Box::new(spec(4)),
        },
        Command::OpenSession(Box::new(session())),
        Command::Report {
            session: session_id,
            results,
            credit_total: 12,
        },
        Command::QuietSession { session: session_id },
        Command::CloseSession { session: session_id },
        Command::LoseSession { session: session_id },
        Command::Vouch {
            sessions: vec![session_id],
        },
        Command::SetTenant {
            name: "acme".into(),
            settings: settings(),
            create_only: true,
        },
        Command::PauseQueue {
            tenant: "acme".into(),
            queue: "mail".into(),
            paused: true,
            note: "provider is down".into(),
        },
        Command::Tick,
        Command::SetLimit(Box::new(limit())),
        Command::DeleteLimit(limit().selector),
        Command::OpenKey {
            tenant: "acme".into(),
            key: "smtp:eu".into(),
        },
        Command::ReleaseOrder {
            tenant: "acme".into(),
            queue: "mail".into(),
            key: "account-17".into(),
        },
        Command::SetLevel { level: 2 },
        Command::PauseKind {
            tenant: "acme".into(),
            kind: "send-welcome".into(),
            paused: true,
            note: "provider is down".into(),
        },
        Command::SetPriority {
            tenant: "acme".into(),
            jobs: vec![JobId(7), JobId(8)],
            priority: Priority::Critical,
        },
        Command::SetQueueWeight {
            tenant: "acme".into(),
            queue: "mail".into(),
            weight: 40,
        },
    ];
    Batch {
        stamped_at: 1_700_000_000_000,
        commands,
    }
}

/// One of each kind.
pub(crate) fn replies() -> Vec<Reply> {
    let enqueued = Enqueued {
        job: JobId(7),
        state: JobState::Scheduled,
        existed: true,
    };
    vec![
        Reply::Done,
        Reply::Enqueued(enqueued),
        Reply::EnqueuedMany(vec![Ok(enqueued), Err(Refusal::OtherItemRefused { item: 1 })]),
        Reply::Cancelled(JobState::Running),
        Reply::Reported(vec![
            ReportReply::Accepted(JobState::Succeeded),
            ReportReply::Repeated,
            ReportReply::LeaseLost,
        ]),
        Reply::Tenant(TenantId(3)),
        Reply::Refused(Refusal::LevelFalls { current: 2, asked: 1 }),
        Reply::Refused(Refusal::QuotaExceeded {
            tenant: "acme".into(),
            excess: Excess {
                bound: QuotaBound::Bytes,
                value: 1_073_741_900,
                limit: 1 << 30,
                retry_after: 1_000,
            },
        }),
        Reply::JoinToken {
            expires_at: 1_700_000_900_000,
        },
        Reply::ChangeBegun { id: 55 },
        Reply::Prioritised { changed: 2 },
    ]
}

pub(crate) fn log_entry() -> LogEntry {
    LogEntry {
        position: LogPosition {
            term: 4,
            node: 2,
            index: 17,
        },
        kind: EntryKind::Commands,
        data: Bytes::from_static(b"opaque"),
    }
}

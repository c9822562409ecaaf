//! A history in which nothing is wrong.

use super::*;

/// A succeeds, B fails once and then succeeds, C is cancelled, a fourth is refused; a second call for B is a repeat.
pub fn good() -> Vec<Record> {
    let ok = |job| enqueued(Some((job, false)));
    let first = |index, effects| {
        let now = NOW - WAIT;
        Record::Applied(Applied {
            now,
            effects,
            ..applied_by(1, index)
        })
    };
    let failed = Effect::Reported {
        job: B,
        fence: 3 << 24,
        how: How::Failed { retry_after_ms: 0 },
        verdict: ReportVerdict::Accepted,
    };
    let mut history = vec![leader(1, 1)];
    let mut enqueue_at = |at, number, job, key, outcome, index| {
        history.extend(call(
            [at, at + 500],
            0,
            number,
            Operation::Enqueue(args(job, key)),
            outcome,
            index,
        ));
    };
    enqueue_at(1_000, 1, A, None, ok(A), 1);
    enqueue_at(2_000, 2, B, Some("key"), Outcome::Info("timeout".into()), 0);
    enqueue_at(3_000, 3, B, Some("key"), enqueued(Some((B, true))), 3);
    enqueue_at(4_000, 4, C, None, ok(C), 6);
    enqueue_at(5_000, 5, REFUSED, None, enqueued(None), 0);
    let cancel = Operation::Cancel {
        tenant: "t".into(),
        job: C,
    };
    let cancelled = Outcome::Ok(Answer::Cancelled(JobState::Cancelled));
    history.extend(call([8_000, 9_000], 2, 1, cancel, cancelled, 7));
    history.extend(attempt([10_000, 20_000, 21_000], A, 2 << 24, 1, How::Succeeded));
    history.extend(attempt(
        [12_000, 25_000, 26_000],
        B,
        3 << 24,
        1,
        How::Failed { retry_after_ms: 0 },
    ));
    history.push(wrote(13_000, B, 3 << 24, true));
    history.extend(attempt([40_000, 50_000, 51_000], B, 10 << 24, 2, How::Succeeded));
    history.extend([wrote(41_000, B, 10 << 24, true), wrote(42_000, B, 3 << 24, false)]);
    let watch = Operation::Watch {
        tenant: "t".into(),
        job: Some(A),
        after: 1,
        latest: false,
    };
    history.extend(call([9_000, 99_000], 4, 1, watch, Outcome::Ok(Answer::Done), 0));
    history.extend([
        watched(11_000, A, JobState::Running, 2),
        watched(21_000, A, JobState::Succeeded, 4),
    ]);
    history.push(progress(60_000, 12));
    let watch = Operation::Watch {
        tenant: "t".into(),
        job: Some(B),
        after: 0,
        latest: true,
    };
    history.extend(call([30_000, 52_000], 6, 1, watch, Outcome::Ok(Answer::Done), 0));
    history.extend([
        watched_by(6, 31_000, B, JobState::Running, 3),
        watched_by(6, 51_000, B, JobState::Succeeded, 11),
    ]);
    history.extend(call(
        [60_000, 61_000],
        3,
        1,
        Operation::Get {
            tenant: "t".into(),
            job: A,
        },
        Outcome::Ok(Answer::Job(Some(JobSeen {
            job: A,
            state: JobState::Succeeded,
            attempts: 1,
            version: 4,
        }))),
        12,
    ));
    history.extend(call(
        [62_000, 63_000],
        5,
        1,
        Operation::SetPaused {
            tenant: "t".into(),
            queue: "calm".into(),
            paused: true,
        },
        Outcome::Ok(Answer::Done),
        12,
    ));
    history.extend([
        first(
            1,
            vec![
                limited(
                    LimitLevel::Tenant,
                    "*",
                    Some(RateLimit {
                        count: 1,
                        period: 1,
                        burst: 9,
                    }),
                    9,
                ),
                limited(LimitLevel::Key, "*", None, 1),
                Effect::Quota {
                    tenant: "t".into(),
                    quota: Quota {
                        jobs_max: 3,
                        bytes_max: 3 * JOB_BYTES,
                        enqueue_rate: None,
                    },
                },
                opened(),
                Effect::Credits {
                    session: SESSION,
                    total: 4,
                },
                in_order_and_time(with_key(A, "k", 2)),
            ],
        ),
        first(2, vec![entered(A, JobState::Running), granted(A, 2 << 24, 1)]),
        first(
            3,
            vec![accepted(B, 0), entered(B, JobState::Running), granted(B, 3 << 24, 1)],
        ),
        first(
            4,
            vec![
                reported(A, 2 << 24, ReportVerdict::Accepted),
                ended(A, JobState::Succeeded),
            ],
        ),
        first(
            5,
            vec![
                failed,
                entered(B, JobState::Retrying),
                Effect::Waits { job: B, until: NOW },
            ],
        ),
        first(6, vec![accepted(C, 0), with_retrying(counted(1), 1)]),
        first(
            7,
            vec![Effect::Ended {
                job: C,
                state: JobState::Cancelled,
                attempts: 0,
                failures: 0,
                crashes: 0,
            }],
        ),
        first(8, vec![]),
        applied(9, vec![entered(B, JobState::Available)]),
        applied(10, vec![entered(B, JobState::Running), granted(B, 10 << 24, 2)]),
        applied(
            11,
            vec![
                reported(B, 10 << 24, ReportVerdict::Accepted),
                Effect::Ended {
                    job: B,
                    state: JobState::Succeeded,
                    attempts: 2,
                    failures: 1,
                    crashes: 0,
                },
            ],
        ),
        applied(12, vec![paused("calm", true), counted(0)]),
        Record::Applied(applied_by(2, 12)),
    ]);
    history.push(Record::Fault(Fault {
        kind: FaultKind::Kill,
        target: "1".into(),
        start: 1_000,
        end: 2_000,
        took_effect: true,
    }));
    history.push(Record::Healed { at: 70_000 });
    history.extend([
        last_job(A, succeeded_after(1)),
        last_job(B, succeeded_after(2)),
        last_job(C, (JobState::Cancelled, [0, 0, 0])),
        Record::Tenant(FinalTenant {
            tenant: "t".into(),
            live: Counts::default(),
            totals: Some(Totals {
                enqueued: 3,
                succeeded: 2,
                cancelled: 1,
                ..Totals::default()
            }),
        }),
        Record::Queue(FinalQueue {
            tenant: "t".into(),
            queue: "mail".into(),
            live: Counts::default(),
        }),
        last_node(1, 12, 12),
        last_node(2, 12, 12),
        Record::Scanned(Scanned {
            at: 110_000,
            complete: true,
        }),
    ]);
    history
}

/// Makes an accepted job one of an ordering key, and one that has to start and to end within a second.
fn in_order_and_time(mut effect: Effect) -> Effect {
    if let Effect::Accepted(job) = &mut effect {
        job.claims.ordering_key = Some("own".into());
        job.expires_in = 1_000;
        job.attempt_timeout = 1_000;
    }
    effect
}

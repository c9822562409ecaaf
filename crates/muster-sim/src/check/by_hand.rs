//! Short words for histories written by hand, and the one good history that every checker accepts.

use std::collections::BTreeMap;

use super::{ALL, Findings, Verdict, judge};
use crate::facts::Facts;
pub use crate::history::*;

pub const A: Id = Id(1);
pub const B: Id = Id(2);
pub const C: Id = Id(3);
pub const REFUSED: Id = Id(4);
/// Wall clock at time 0, milliseconds.
pub const EPOCH: u64 = 1_700_000_000_000;
/// Replicated time from index 9 on.
pub const NOW: u64 = EPOCH + 40;
/// Wait after a failure, milliseconds.
pub const WAIT: u64 = 10;

type Change<'a> = &'a dyn Fn(&mut Vec<Record>);

fn header() -> Header {
    Header {
        epoch_ms: EPOCH,
        slack_us: 1_000,
        demands: Demands {
            operations: BTreeMap::from([(OperationKind::Enqueue, 3)]),
            faults: vec![FaultKind::Kill],
            drained_within_us: Some(1_000_000),
        },
        ..Header::new("by hand")
    }
}

/// Asserts that the good history passes and that each change makes it a bad one.
pub fn prove(check: fn(&Facts, &mut Findings), bad: &[Change<'_>]) {
    assert!(bad.len() >= 3, "three bad histories at least");
    let checker = ALL
        .iter()
        .find(|checker| std::ptr::fn_addr_eq(checker.check, check))
        .expect("it is on the list");
    let verdict = |records: Vec<Record>| {
        let mut findings = Findings::default();
        check(&Facts::of(header(), records), &mut findings);
        findings.verdict(checker)
    };
    let fine: Verdict = verdict(good());
    assert_eq!((fine.total, fine.judged > 0), (0, true), "the good history: {fine:?}");
    for (number, change) in bad.iter().enumerate() {
        let mut records = good();
        change(&mut records);
        assert!(verdict(records).total > 0, "bad history {number} passed");
    }
}

#[test]
fn the_good_history_passes_all() {
    for verdict in judge(&Facts::of(header(), good())) {
        assert_eq!(verdict.violations, [], "{}", verdict.id);
        assert!(verdict.judged > 0, "{} judged nothing", verdict.id);
    }
}

#[test]
fn records_come_back_as_they_were_written() {
    for record in good() {
        let text = serde_json::to_string(&record).expect("it is plain data");
        assert_eq!(
            serde_json::from_str::<Record>(&text).expect("own text"),
            record,
            "{text}"
        );
    }
}

pub const fn id(number: u128) -> Id {
    Id(number)
}

pub fn args(job: Id, key: Option<&str>) -> JobArgs {
    JobArgs {
        job,
        tenant: "t".into(),
        queue: "mail".into(),
        kind: "send".into(),
        key: key.map(Name::from),
        available_at: 0,
        max_attempts: 3,
        max_crashes: 3,
        backoff: Backoff::Fixed { delay: WAIT },
    }
}

fn call(at: [Micros; 2], process: u32, call: u32, operation: Operation, outcome: Outcome, index: u64) -> [Record; 2] {
    let index = Some(index).filter(|index| *index > 0);
    [
        Record::Invoke(Invoke {
            at: at[0],
            process,
            call,
            operation,
        }),
        Record::Complete(Complete {
            at: at[1],
            process,
            call,
            outcome,
            index,
        }),
    ]
}

/// A call as late as possible in the history.
fn late(process: u32, number: u32, operation: Operation, answer: Answer, index: u64) -> [Record; 2] {
    call(
        [100_000, 101_000],
        process,
        number,
        operation,
        Outcome::Ok(answer),
        index,
    )
}

fn enqueued(answer: Option<(Id, bool)>) -> Outcome {
    match answer {
        Some((job, existed)) => Outcome::Ok(Answer::Enqueued(Enqueued {
            job,
            existed,
            state: None,
        })),
        None => Outcome::Fail("refused".into()),
    }
}

pub fn enqueue(process: u32, number: u32, args: JobArgs, answer: Option<(Id, bool)>) -> [Record; 2] {
    call(
        [6_000, 7_000],
        process,
        number,
        Operation::Enqueue(args),
        enqueued(answer),
        0,
    )
}

pub fn read(process: u32, number: u32, job: Id, state: JobState, version: u64) -> [Record; 2] {
    let seen = JobSeen {
        job,
        state,
        attempts: 1,
        version,
    };
    let get = Operation::Get {
        tenant: "t".into(),
        job,
    };
    late(process, number, get, Answer::Job(Some(seen)), 12)
}

pub fn not_found(process: u32, number: u32, job: Id) -> [Record; 2] {
    late(
        process,
        number,
        Operation::Get {
            tenant: "t".into(),
            job,
        },
        Answer::Job(None),
        12,
    )
}

pub fn pause(process: u32, number: u32, queue: &str, paused: bool, index: u64) -> [Record; 2] {
    let pause = Operation::SetPaused {
        tenant: "t".into(),
        queue: queue.into(),
        paused,
    };
    late(process, number, pause, Answer::Done, index)
}

pub fn limit_tenant(history: &mut Vec<Record>, rate_limit: Option<RateLimit>, concurrency_limit: u32) {
    let set = Operation::SetTenant {
        tenant: "t".into(),
        weight: 100,
        rate_limit,
        concurrency_limit,
    };
    history.extend(call([0, 500], 70, 1, set, Outcome::Ok(Answer::Done), 0));
}

pub fn started(at: Micros, job: Id, fence: u64, attempt: u32) -> Record {
    Record::Started(Started {
        at,
        worker: "w".into(),
        job,
        fence,
        attempt,
    })
}

fn attempt([began, over, told]: [Micros; 3], job: Id, fence: u64, number: u32, how: How) -> [Record; 3] {
    let worker = || Name::from("w");
    [
        started(began, job, fence, number),
        Record::Ended(Ended {
            at: over,
            worker: worker(),
            job,
            fence,
            how,
        }),
        Record::Answered(Answered {
            at: told,
            worker: worker(),
            job,
            fence,
            accepted: true,
        }),
    ]
}

/// Replaces an attempt by one at other times, its report taken.
pub fn redo(history: &mut Vec<Record>, times: [Micros; 3], job: Id, fence: u64, how: How) {
    let other = |one: Id, under: u64| (one, under) != (job, fence);
    history.retain(|record| match record {
        Record::Started(it) => other(it.job, it.fence),
        Record::Ended(it) => other(it.job, it.fence),
        Record::Answered(it) => other(it.job, it.fence),
        _ => true,
    });
    history.extend(attempt(times, job, fence, 1, how));
}

pub fn wrote(at: Micros, job: Id, fence: u64, accepted: bool) -> Record {
    Record::Wrote(Wrote {
        at,
        job,
        fence,
        accepted,
    })
}

pub fn watched(at: Micros, job: Id, state: JobState, index: u64) -> Record {
    watched_by(4, at, job, state, index)
}

/// By client 4, which is to see every change, or 6, which is to see the latest.
pub fn watched_by(process: u32, at: Micros, job: Id, state: JobState, index: u64) -> Record {
    Record::Watched(Watched {
        at,
        process,
        call: 1,
        job,
        state,
        index,
    })
}

pub fn progress(at: Micros, index: u64) -> Record {
    Record::Progress(Progress {
        at,
        process: 4,
        call: 1,
        index,
    })
}

pub fn leader(node: u64, term: u64) -> Record {
    Record::Leader(Leader { at: 0, node, term })
}

pub fn applied_by(node: u64, index: u64) -> Applied {
    let now = if index < 9 { NOW - WAIT } else { NOW };
    Applied {
        at: index,
        node,
        life: 1,
        index,
        term: 1,
        digest: index,
        now,
        hash: index,
        effects: vec![],
    }
}

pub fn applied(index: u64, effects: Vec<Effect>) -> Record {
    Record::Applied(Applied {
        effects,
        ..applied_by(1, index)
    })
}

pub fn change_applied(history: &mut [Record], index: u64, change: impl Fn(&mut Applied)) {
    for record in history {
        if let Record::Applied(applied) = record
            && applied.index == index
        {
            change(applied);
            return;
        }
    }
}

pub fn accepted(job: Id, due: u64) -> Effect {
    Effect::Accepted(Box::new(AcceptedJob {
        job,
        tenant: "t".into(),
        queue: "mail".into(),
        state: JobState::Available,
        due,
        max_attempts: 3,
        max_crashes: 3,
        backoff: Backoff::Fixed { delay: WAIT },
    }))
}

pub fn entered(job: Id, state: JobState) -> Effect {
    Effect::Entered { job, state }
}

pub fn granted(job: Id, fence: u64, attempt: u32) -> Effect {
    Effect::Granted { job, fence, attempt }
}

pub fn reported(job: Id, fence: u64, verdict: ReportVerdict) -> Effect {
    Effect::Reported {
        job,
        fence,
        how: How::Succeeded,
        verdict,
    }
}

pub fn ended(job: Id, state: JobState) -> Effect {
    Effect::Ended {
        job,
        state,
        attempts: 1,
        failures: 0,
        crashes: 0,
    }
}

pub fn limited(rate_limit: Option<RateLimit>, concurrency_limit: u32) -> Effect {
    Effect::Tenant {
        tenant: "t".into(),
        rate_limit,
        concurrency_limit,
    }
}

pub fn paused(queue: &str, paused: bool) -> Effect {
    Effect::Paused {
        tenant: "t".into(),
        queue: queue.into(),
        paused,
    }
}

pub fn counted(available: u64) -> Effect {
    Effect::Counted {
        tenant: "t".into(),
        live: Counts {
            available,
            ..Counts::default()
        },
    }
}

pub fn succeeded_after(attempts: u32) -> (JobState, [u32; 3]) {
    (JobState::Succeeded, [attempts, attempts - 1, 0])
}

pub fn last_job(job: Id, (state, [attempts, failures, crashes]): (JobState, [u32; 3])) -> Record {
    Record::Job(FinalJob {
        job,
        tenant: "t".into(),
        queue: "mail".into(),
        key: (job == B).then(|| "key".into()),
        state,
        attempts,
        failures,
        crashes,
        max_attempts: 3,
        max_crashes: 3,
        ended_at: NOW,
        redriven_from: None,
    })
}

pub fn last_node(node: u64, index: u64, hash: u64) -> Record {
    Record::Node(FinalNode { node, index, hash })
}

pub fn remove_job(history: &mut Vec<Record>, job: Id) {
    history.retain(|record| !matches!(record, Record::Job(row) if row.job == job));
}

pub fn change_job(history: &mut [Record], job: Id, change: impl Fn(&mut FinalJob)) {
    for record in history {
        if let Record::Job(row) = record
            && row.job == job
        {
            change(row);
        }
    }
}

pub fn repeat_last_job(history: &mut Vec<Record>, job: Id) {
    let row = history
        .iter()
        .find(|record| matches!(record, Record::Job(row) if row.job == job))
        .cloned();
    history.extend(row);
}

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
                    Some(RateLimit {
                        count: 1,
                        period: 1,
                        burst: 9,
                    }),
                    9,
                ),
                accepted(A, 0),
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

fn with_retrying(mut effect: Effect, count: u64) -> Effect {
    if let Effect::Counted { live, .. } = &mut effect {
        live.retrying = count;
    }
    effect
}

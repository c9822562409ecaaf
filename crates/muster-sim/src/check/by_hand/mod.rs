//! Short words for histories written by hand, and the one good history that every checker accepts.

mod good;

use std::collections::BTreeMap;

use self::good::good;
use super::{ALL, Findings, Verdict, judge};
use crate::facts::Facts;
pub use crate::history::*;

pub const A: Id = Id(1);
pub const B: Id = Id(2);
pub const C: Id = Id(3);
pub const REFUSED: Id = Id(4);
/// The session of all grants.
pub const SESSION: Id = Id(77);
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

/// Asserts that a change leaves the good history a good one, and one that is judged.
pub fn accept(check: fn(&Facts, &mut Findings), change: Change<'_>) {
    let mut records = good();
    change(&mut records);
    let mut findings = Findings::default();
    check(&Facts::of(header(), records), &mut findings);
    let checker = ALL.iter().find(|checker| std::ptr::fn_addr_eq(checker.check, check));
    let verdict = findings.verdict(checker.expect("it is on the list"));
    assert_eq!((verdict.total, verdict.judged > 0), (0, true), "{verdict:?}");
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
        attempt_timeout: 0,
        expires_in: 0,
        claims: Claims::default(),
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
    enqueue_at(6_000, process, number, args, answer)
}

pub fn enqueue_at(at: Micros, process: u32, number: u32, args: JobArgs, answer: Option<(Id, bool)>) -> [Record; 2] {
    call(
        [at, at + 1_000],
        process,
        number,
        Operation::Enqueue(args),
        enqueued(answer),
        0,
    )
}

/// Two jobs that are to be accepted together; which were, by the answer.
pub fn enqueue_whole(process: u32, number: u32, jobs: [Id; 2], accepted: [bool; 2]) -> [Record; 2] {
    let operation = Operation::EnqueueMany {
        jobs: jobs.map(|job| args(job, None)).to_vec(),
        all_or_nothing: true,
    };
    let answer = jobs.iter().zip(accepted).map(|(job, accepted)| {
        accepted.then_some(Enqueued {
            job: *job,
            existed: false,
            state: None,
        })
    });
    late(process, number, operation, Answer::EnqueuedMany(answer.collect()), 0)
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

pub fn pause_kind(process: u32, number: u32, kind: &str, paused: bool, index: u64) -> [Record; 2] {
    let pause = Operation::SetKindPaused {
        tenant: "t".into(),
        kind: kind.into(),
        paused,
    };
    late(process, number, pause, Answer::Done, index)
}

fn rule(level: LimitLevel, names: &str, rate: Option<RateLimit>, concurrency: u32) -> LimitRule {
    LimitRule {
        selector: LimitSelector {
            level,
            tenants: "t".into(),
            names: names.into(),
        },
        rate,
        concurrency,
        note: "".into(),
    }
}

/// A client sets a limit before anything else.
pub fn limit(history: &mut Vec<Record>, level: LimitLevel, names: &str, rate: Option<RateLimit>, concurrency: u32) {
    let set = Operation::SetLimit(rule(level, names, rate, concurrency));
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

/// An entry at `NOW` and so many milliseconds.
pub fn later(index: u64, wait: u64, effects: Vec<Effect>) -> Record {
    Record::Applied(Applied {
        effects,
        now: NOW + wait,
        at: index + wait * 1_000,
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

/// The session, and that its worker takes jobs like those of [`accepted`].
pub fn opened() -> Effect {
    Effect::SessionOpened {
        session: SESSION,
        accepts: Box::new(WorkerClass {
            tenants: vec![],
            queues: vec![],
            kinds: vec![KindVersions {
                kind: "send".into(),
                min_version: 1,
                max_version: 1,
            }],
            labels: vec![],
            slots: 4,
        }),
    }
}

/// What each job counts for the quota.
pub const JOB_BYTES: u64 = 100;

pub fn accepted(job: Id, due: u64) -> Effect {
    Effect::Accepted(Box::new(AcceptedJob {
        job,
        tenant: "t".into(),
        queue: "mail".into(),
        kind: "send".into(),
        claims: Claims::default(),
        redrives: None,
        state: JobState::Available,
        due,
        max_attempts: 3,
        max_crashes: 3,
        backoff: Backoff::Fixed { delay: WAIT },
        bytes: JOB_BYTES,
        priority: Priority::default(),
        version: 1,
        attempt_timeout: 0,
        expires_in: 0,
        required_labels: vec![],
        preferred_labels: vec![],
        slots: 1,
    }))
}

pub fn entered(job: Id, state: JobState) -> Effect {
    Effect::Entered { job, state }
}

pub fn granted(job: Id, fence: u64, attempt: u32) -> Effect {
    Effect::Granted {
        job,
        fence,
        attempt,
        session: SESSION,
    }
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

pub fn limited(level: LimitLevel, names: &str, rate: Option<RateLimit>, concurrency: u32) -> Effect {
    Effect::Limit(rule(level, names, rate, concurrency))
}

/// A job with a limit key, accepted.
pub fn with_key(job: Id, key: &str, cost: u32) -> Effect {
    let mut effect = accepted(job, 0);
    if let Effect::Accepted(job) = &mut effect {
        job.claims.limit_keys = vec![(key.into(), cost)];
    }
    effect
}

pub fn kind_paused(kind: &str, paused: bool) -> Effect {
    Effect::KindPaused {
        tenant: "t".into(),
        kind: kind.into(),
        paused,
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

pub fn with_retrying(mut effect: Effect, count: u64) -> Effect {
    if let Effect::Counted { live, .. } = &mut effect {
        live.retrying = count;
    }
    effect
}

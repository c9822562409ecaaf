//! One line or block per rule; the property tests cover their combinations.

mod explain;
mod guarantees;
mod kinds;
mod limits;
mod lines;
mod orders;
mod priorities;
mod quotas;
mod sessions;
mod shares;
mod slots;

use crate::testing::*;
use crate::*;

fn enqueue(spec: JobSpec) -> Command {
    Command::Enqueue(Box::new(spec))
}

fn refused(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("accepted: {other:?}"),
    }
}

fn keyed(id: u128, key: &str) -> JobSpec {
    JobSpec {
        idempotency_key: Some(key.into()),
        ..job(id)
    }
}

fn other_payload(spec: JobSpec) -> JobSpec {
    JobSpec {
        schema_version: 2,
        ..spec
    }
}

#[test]
fn an_enqueue_is_refused_for_each_reason() {
    let mut bed = Bed::new();
    bed.enqueue(job(1));
    bed.enqueue(keyed(2, "k"));
    let field = |reply| match refused(reply) {
        Refusal::OutOfRange { field, .. } => field.to_string(),
        other => panic!("{other:?}"),
    };
    let options = |change: fn(&mut JobOptions)| {
        let mut spec = job(9);
        change(&mut spec.options);
        enqueue(spec)
    };
    assert_eq!(
        field(bed.one(options(|options| options.max_attempts = 0))),
        "max_attempts"
    );
    assert_eq!(
        field(bed.one(options(|options| options.max_crashes = 0))),
        "max_crashes"
    );
    let jitter = options(|options| {
        options.backoff = Backoff::Exponential {
            base: 1,
            cap: 1,
            jitter_percent: 101,
        }
    });
    assert_eq!(field(bed.one(jitter)), "jitter_percent");
    let stranger = JobSpec {
        tenant: "nobody".into(),
        ..job(9)
    };
    assert_eq!(
        refused(bed.one(enqueue(stranger))),
        Refusal::UnknownTenant("nobody".into())
    );
    let conflict = |first, what: &str| Refusal::Conflict {
        first: JobId(first),
        what: what.into(),
    };
    assert_eq!(refused(bed.one(enqueue(other_payload(job(1))))), conflict(1, "id"));
    assert_eq!(
        refused(bed.one(enqueue(JobSpec {
            tenant: "_system".into(),
            ..job(1)
        }))),
        conflict(1, "id")
    );
    assert_eq!(
        refused(bed.one(enqueue(other_payload(keyed(9, "k"))))),
        conflict(2, "idempotency_key")
    );
    assert_eq!(bed.core.live().total(), 2);
}

#[test]
fn a_repeat_returns_the_first_job_live_or_ended() {
    let mut bed = Bed::new();
    bed.enqueue(keyed(1, "k"));
    let existed = |state| {
        Reply::Enqueued(Enqueued {
            job: JobId(1),
            state,
            existed: true,
        })
    };
    assert_eq!(bed.one(enqueue(keyed(1, "k"))), existed(JobState::Available));
    assert_eq!(bed.one(enqueue(keyed(5, "k"))), existed(JobState::Available));
    bed.open(1, 1);
    assert_eq!(bed.one(enqueue(keyed(5, "k"))), existed(JobState::Running));
    bed.end(1, succeeded());
    assert_eq!(bed.one(enqueue(keyed(1, "k"))), existed(JobState::Succeeded));
    assert_eq!(bed.one(enqueue(keyed(5, "k"))), existed(JobState::Succeeded));
    assert_eq!(bed.core.job_of_key(TenantId(1), &"k".into()), Some(JobId(1)));
}

#[test]
fn a_search_older_than_the_memory_is_refused() {
    let mut bed = Bed::new();
    bed.enqueue(job(1));
    bed.one(Command::Cancel {
        tenant: "default".into(),
        job: JobId(1),
    });
    let ended_at = bed.index;
    bed.now += 60_001;
    bed.one(Command::Tick);
    let needed = bed.core.meta().ended_floor;
    assert_eq!(needed, ended_at + 1);
    let old = JobSpec {
        history_searched: ended_at,
        ..job(1)
    };
    assert_eq!(
        refused(bed.one(enqueue(old))),
        Refusal::SearchHistoryAgain {
            searched: ended_at,
            needed
        }
    );
    bed.enqueue(JobSpec {
        history_searched: needed,
        ..job(1)
    });
}

#[test]
fn many_are_accepted_each_for_itself_or_all_or_none() {
    let mut bed = Bed::new();
    let many = |all_or_nothing, jobs| Command::EnqueueMany { jobs, all_or_nothing };
    let bad = || other_payload(keyed(3, "k"));
    let Reply::EnqueuedMany(replies) = bed.one(many(true, vec![job(1), keyed(2, "k"), bad()])) else {
        panic!()
    };
    let conflict = Refusal::Conflict {
        first: JobId(2),
        what: "idempotency_key".into(),
    };
    let other = Refusal::OtherItemRefused { item: 2 };
    assert_eq!(replies, [Err(other.clone()), Err(other), Err(conflict.clone())]);
    assert_eq!(bed.core.live().total(), 0);
    let Reply::EnqueuedMany(replies) = bed.one(many(false, vec![job(1), keyed(2, "k"), bad(), job(1)])) else {
        panic!()
    };
    assert_eq!(
        replies.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, true, false, true]
    );
    assert_eq!(replies[2], Err(conflict));
    assert!(replies[3].as_ref().unwrap().existed);
    let Reply::EnqueuedMany(replies) = bed.one(many(true, vec![job(1), job(7), job(7)])) else {
        panic!()
    };
    assert_eq!(
        replies
            .iter()
            .map(|reply| reply.as_ref().unwrap().existed)
            .collect::<Vec<_>>(),
        [true, false, true]
    );
}

#[test]
fn a_failed_attempt_retries_until_the_budget_is_spent() {
    let mut bed = Bed::new();
    let mut spec = job(1);
    spec.options.max_attempts = 3;
    bed.enqueue(spec);
    bed.open(1, 100);
    assert_eq!(bed.end(1, failed(true, 0)), ReportReply::Accepted(JobState::Retrying));
    assert_eq!(bed.tick(), 100);
    assert_eq!(bed.end(1, failed(true, 7)), ReportReply::Accepted(JobState::Retrying));
    assert_eq!(bed.tick(), 7, "retry_after overrides the backoff");
    assert_eq!(bed.row(1).attempts, 3);
    assert_eq!(bed.end(1, failed(true, 0)), ReportReply::Accepted(JobState::Dead));
    let row = bed.ended(1);
    assert_eq!(
        (row.failures, row.error.unwrap().class.to_string()),
        (3, "oops".to_owned())
    );
    bed.enqueue(job(2));
    assert_eq!(
        bed.end(2, failed(false, 0)),
        ReportReply::Accepted(JobState::Dead),
        "not retryable"
    );
    bed.enqueue(job(3));
    assert_eq!(
        bed.end(3, AttemptOutcome::Cancelled),
        ReportReply::Accepted(JobState::Retrying),
        "nobody asked"
    );
}

#[test]
fn an_attempt_that_runs_out_of_time_is_a_failure() {
    let mut bed = Bed::new();
    let mut spec = job(1);
    spec.options.attempt_timeout = 5_000;
    bed.enqueue(spec);
    bed.open(1, 1);
    let lease = bed.row(1).lease.unwrap().id;
    assert_eq!(bed.tick(), 5_000);
    assert!(bed.events.contains(&Event::LeaseRevoked {
        session: SessionId(1),
        job: JobId(1),
        lease
    }));
    let row = bed.row(1);
    assert_eq!(
        (row.state, row.failures, &*row.error.unwrap().class),
        (JobState::Retrying, 1, "timeout")
    );
    let late = AttemptReport {
        job: JobId(1),
        lease,
        outcome: succeeded(),
    };
    assert_eq!(bed.report(1, vec![late], 0), [ReportReply::LeaseLost]);
}

#[test]
fn reports_are_judged_by_lease() {
    let mut bed = Bed::new();
    bed.enqueue(job(1));
    bed.open(1, 10);
    let report = |lease, outcome| {
        vec![AttemptReport {
            job: JobId(1),
            lease,
            outcome,
        }]
    };
    let first = bed.row(1).lease.unwrap().id;
    assert_eq!(
        bed.report(1, report(first, failed(true, 0)), 0),
        [ReportReply::Accepted(JobState::Retrying)]
    );
    assert_eq!(
        bed.report(1, report(first, failed(true, 0)), 0),
        [ReportReply::Repeated],
        "while retrying"
    );
    bed.tick();
    assert_eq!(
        bed.report(1, report(first, failed(true, 0)), 0),
        [ReportReply::Repeated],
        "while running again"
    );
    let second = bed.row(1).lease.unwrap().id;
    assert!(second > first);
    assert_eq!(
        bed.report(1, report(second, succeeded()), 0),
        [ReportReply::Accepted(JobState::Succeeded)]
    );
    assert_eq!(bed.ended(1).result, "done");
    assert_eq!(bed.report(1, report(second, succeeded()), 0), [ReportReply::Repeated]);
    assert_eq!(bed.report(9, report(first, succeeded()), 0), [ReportReply::LeaseLost]);
    let nothing = Command::Report {
        session: SessionId(9),
        results: vec![],
        credit_total: 1,
    };
    assert_eq!(refused(bed.one(nothing)), Refusal::SessionClosed);
}

#[test]
fn handed_back_attempts_do_not_count() {
    let mut bed = Bed::new();
    bed.enqueue(job(1));
    bed.open(1, 2);
    assert_eq!(
        bed.end(1, AttemptOutcome::Snoozed { delay: 50 }),
        ReportReply::Accepted(JobState::Scheduled)
    );
    assert_eq!(bed.tick(), 50);
    assert_eq!(bed.row(1).attempts, 1);
    assert_eq!(
        bed.end(1, AttemptOutcome::Preempted),
        ReportReply::Accepted(JobState::Available)
    );
    let row = bed.row(1);
    assert_eq!((row.attempts, row.failures, row.crashes), (0, 0, 0));
    bed.open(2, 1);
    bed.one(Command::CloseSession { session: SessionId(2) });
    assert_eq!(
        (bed.state(1), bed.row(1).attempts),
        (Some(JobState::Available), 0),
        "closed in order"
    );
}

#[test]
fn a_job_that_loses_its_workers_is_poison() {
    let mut bed = Bed::new();
    bed.enqueue(job(1));
    for crashes in 1..=3_u32 {
        bed.open(u128::from(crashes), 1);
        if crashes == 3 {
            assert_eq!(bed.tick(), 100, "the second crash waits");
        }
        assert_eq!(bed.state(1), Some(JobState::Running));
        bed.one(Command::LoseSession {
            session: SessionId(u128::from(crashes)),
        });
        match crashes {
            1 => assert_eq!(bed.state(1), Some(JobState::Available)),
            2 => assert_eq!(bed.state(1), Some(JobState::Retrying)),
            _ => assert_eq!(
                (bed.ended(1).state, &*bed.ended(1).error.unwrap().class),
                (JobState::Dead, "crashed")
            ),
        }
    }
}

#[test]
fn a_cancel_ends_what_waits_and_marks_what_runs() {
    let cancel = |job| Command::Cancel {
        tenant: "default".into(),
        job: JobId(job),
    };
    let mut bed = Bed::new();
    for id in 1..=6 {
        bed.enqueue(job(id));
    }
    assert_eq!(bed.one(cancel(1)), Reply::Cancelled(JobState::Cancelled));
    assert_eq!(bed.one(cancel(1)), Reply::Cancelled(JobState::Cancelled), "again");
    assert_eq!(refused(bed.one(cancel(99))), Refusal::UnknownJob(JobId(99)));
    let foreign = Command::Cancel {
        tenant: "_system".into(),
        job: JobId(2),
    };
    assert_eq!(refused(bed.one(foreign)), Refusal::UnknownJob(JobId(2)));
    bed.open(1, 5);
    for id in 2..=6 {
        assert_eq!(bed.one(cancel(id)), Reply::Cancelled(JobState::Running));
        assert!(matches!(bed.events[..], [Event::CancelAsked { .. }]));
        bed.one(cancel(id));
        assert!(bed.events.is_empty(), "told once");
    }
    for (id, outcome, expected) in [
        (2, succeeded(), JobState::Succeeded),
        (3, failed(true, 0), JobState::Cancelled),
        (4, AttemptOutcome::Preempted, JobState::Cancelled),
        (5, AttemptOutcome::Snoozed { delay: 9 }, JobState::Cancelled),
    ] {
        assert_eq!(bed.end(id, outcome), ReportReply::Accepted(expected));
    }
    bed.one(Command::LoseSession { session: SessionId(1) });
    assert_eq!(bed.ended(6).state, JobState::Cancelled);
}

#[test]
fn a_dead_job_is_revived_as_a_new_one() {
    let mut bed = Bed::new();
    bed.enqueue(keyed(1, "k"));
    bed.open(1, 1);
    let redrive = |from, spec| Command::Redrive {
        from: JobId(from),
        spec: Box::new(spec),
    };
    assert!(
        matches!(refused(bed.one(redrive(1, job(2)))), Refusal::OutOfRange { .. }),
        "it is not dead"
    );
    bed.end(1, failed(false, 0));
    let foreign = JobSpec {
        tenant: "_system".into(),
        ..job(2)
    };
    assert_eq!(refused(bed.one(redrive(1, foreign))), Refusal::UnknownJob(JobId(1)));
    for existed in [false, true] {
        let Reply::Enqueued(enqueued) = bed.one(redrive(1, keyed(2, "k"))) else {
            panic!()
        };
        assert_eq!((enqueued.job, enqueued.existed), (JobId(2), existed));
    }
    let row = bed.row(2);
    assert_eq!(
        (row.redriven_from, row.failures, row.spec.origin),
        (Some(JobId(1)), 0, Origin::Redrive)
    );
}

#[test]
fn delayed_jobs_wait_and_stale_ones_expire() {
    let mut bed = Bed::new();
    let mut spec = job(1);
    spec.available_at = bed.now + 30;
    spec.options.expires_in = 20;
    bed.enqueue(spec);
    assert_eq!(bed.state(1), Some(JobState::Scheduled));
    assert_eq!(bed.tick(), 30);
    assert_eq!(bed.state(1), Some(JobState::Available));
    assert_eq!(bed.tick(), 20);
    assert_eq!(bed.ended(1).state, JobState::Expired);
    assert_eq!(bed.core.next_due(), None);
}

#[test]
fn settings_are_checked_and_names_are_unique() {
    let mut bed = Bed::new();
    for (settings, expected) in [
        (
            TenantSettings {
                weight: 0,
                ..Default::default()
            },
            "weight",
        ),
        (
            TenantSettings {
                weight: 10_001,
                ..Default::default()
            },
            "weight",
        ),
        (
            TenantSettings {
                payload_bytes_max: 0,
                ..Default::default()
            },
            "payload_bytes_max",
        ),
    ] {
        let Refusal::OutOfRange { field, .. } = refused(bed.set_tenant("t", settings)) else {
            panic!()
        };
        assert_eq!(&*field, expected);
    }
    assert_eq!(
        bed.set_tenant("t", TenantSettings::default()),
        Reply::Tenant(TenantId(3))
    );
    let create = Command::SetTenant {
        name: "t".into(),
        settings: TenantSettings::default(),
        create_only: true,
    };
    assert_eq!(refused(bed.one(create)), Refusal::TenantExists("t".into()));
    assert_eq!(bed.one(Command::Bootstrap { cluster: 5 }), Reply::Done);
    let other = bed.one(Command::Bootstrap { cluster: 6 });
    assert_eq!(refused(other), Refusal::OtherCluster { expected: 6, actual: 5 });
}

#[test]
fn shares_follow_weights_and_priorities_age() {
    let mut bed = Bed::new();
    bed.set_tenant(
        "heavy",
        TenantSettings {
            weight: 300,
            ..TenantSettings::default()
        },
    );
    let mut commands: Vec<Command> = (0..100).map(|id| enqueue(job(1000 + id))).collect();
    commands.extend((0..100).map(|id| {
        enqueue(JobSpec {
            tenant: "heavy".into(),
            ..job(2000 + id)
        })
    }));
    bed.all(commands);
    bed.open(1, 80);
    let heavy = bed.started().iter().filter(|id| **id >= 2000).count();
    assert!((59..=61).contains(&heavy), "{heavy} of 80");

    let mut bed = Bed::new();
    bed.enqueue(JobSpec {
        priority: Priority::Bulk,
        ..job(1)
    });
    bed.now += 45_000;
    bed.enqueue(job(2));
    bed.now += 45_000;
    bed.enqueue(JobSpec {
        priority: Priority::Critical,
        ..job(3)
    });
    bed.enqueue(JobSpec {
        priority: Priority::Low,
        ..job(4)
    });
    bed.open(1, 4);
    assert_eq!(bed.started(), [3, 2, 1, 4]);
}

#[test]
fn a_tick_fires_a_batch_and_an_entry_grants_a_batch() {
    let mut bed = Bed::new();
    let due = bed.now + 10;
    let later = |id| JobSpec {
        available_at: due,
        ..job(id)
    };
    bed.all(vec![Command::EnqueueMany {
        jobs: (0..1500).map(later).collect(),
        all_or_nothing: false,
    }]);
    bed.now = due;
    bed.one(Command::Tick);
    assert_eq!((bed.core.live().available, bed.core.next_due()), (1000, Some(due)));
    bed.one(Command::Tick);
    assert_eq!((bed.core.live().available, bed.core.next_due()), (1500, None));

    let mut bed = Bed::new();
    bed.all(vec![Command::EnqueueMany {
        jobs: (0..10_500).map(job).collect(),
        all_or_nothing: false,
    }]);
    bed.open(1, 20_000);
    assert_eq!((bed.started().len(), bed.core.next_due()), (10_000, Some(bed.now)));
    bed.one(Command::Tick);
    assert_eq!(bed.started().len(), 500);
    assert!(bed.core.next_due() > Some(bed.now));
}

#[test]
fn what_came_and_went_leaves_no_trace_in_the_rows() {
    let mut bed = Bed::new();
    bed.open(1, 10);
    bed.core.take_changes();
    bed.enqueue(job(1));
    bed.end(1, succeeded());
    let changes = bed.core.take_changes();
    assert_eq!(changes.delete, []);
    assert!(!changes.put.iter().any(|row| matches!(row, Row::Job(_))));
    bed.enqueue(job(2));
    assert_eq!(bed.core.changes_len(), bed.core.take_changes().put.len());
    bed.end(2, succeeded());
    assert_eq!(bed.core.take_changes().delete, [RowKey::Job(JobId(2))]);
    assert_eq!(bed.core.changes_len(), 0);
}

#[test]
fn the_clock_never_goes_back() {
    let mut bed = Bed::new();
    bed.one(Command::Tick);
    let before = bed.core.meta().now;
    bed.now -= 500;
    bed.one(Command::Tick);
    assert_eq!(bed.core.meta().now, before);
}

#[test]
fn rows_that_contradict_each_other_are_refused() {
    let mut bed = Bed::new();
    bed.enqueue(job(1));
    bed.open(1, 1);
    let rows = bed.core.rows();
    let without = |what: fn(&Row) -> bool| Core::restore(rows.iter().filter(|row| !what(row)).cloned());
    assert!(without(|row| matches!(row, Row::Meta(_))).is_err());
    assert!(without(|row| matches!(row, Row::Session(_))).is_err());
    assert!(without(|row| matches!(row, Row::Tenant(_))).is_err());
    assert!(Core::restore(rows.iter().chain(&rows).cloned()).is_err());
    assert!(Core::restore(rows).is_ok());
}

#[test]
fn the_feature_level_rises_at_one_entry_and_never_falls() {
    let mut bed = Bed::new();
    assert_eq!(bed.core.level(), LEVEL_MIN);
    assert_eq!(bed.one(Command::SetLevel { level: LEVEL_MAX }), Reply::Done);
    assert_eq!(bed.one(Command::SetLevel { level: LEVEL_MAX }), Reply::Done, "a repeat");
    assert_eq!(bed.core.level(), LEVEL_MAX);
    let falls = bed.one(Command::SetLevel { level: LEVEL_MIN });
    assert!(matches!(falls, Reply::Refused(Refusal::LevelFalls { .. })), "{falls:?}");
    let unknown = bed.one(Command::SetLevel { level: LEVEL_MAX + 1 });
    assert!(
        matches!(unknown, Reply::Refused(Refusal::OutOfRange { .. })),
        "{unknown:?}"
    );
    assert_eq!(bed.core.level(), LEVEL_MAX);
}

/// Two entries with the same effects and other answers.
#[test]
fn from_its_level_on_the_hash_covers_the_answers() {
    let hash = |level, commands: Vec<Command>| {
        let mut bed = Bed::new();
        bed.one(Command::SetLevel { level });
        bed.all(commands);
        bed.core.meta().hash
    };
    let unknown = |job| Command::Cancel {
        tenant: "default".into(),
        job: JobId(job),
    };
    let quiet = Command::Vouch { sessions: Vec::new() };
    let (refused, done) = (vec![unknown(7)], vec![quiet]);
    assert_eq!(hash(1, refused.clone()), hash(1, done.clone()));
    assert_ne!(hash(2, refused), hash(2, done));
}

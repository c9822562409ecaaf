//! Sessions in good weather.

use bytes::Bytes;
use muster_core::{AttemptOutcome, AttemptReport, Command, JobState, ReportReply};

use crate::testing::{PATIENCE, eventually, open, output, spec, start};
use crate::{JobChange, SessionEnd, SessionHandle, SessionInput, StopReason};

/// Reports success of a job.
pub(super) async fn succeed(session: &SessionHandle, job: &muster_core::Assignment, credits: u32) {
    let report = AttemptReport {
        job: job.spec.id,
        lease: job.lease,
        outcome: AttemptOutcome::Succeeded {
            result: Bytes::from_static(b"done"),
        },
    };
    let input = SessionInput {
        reports: vec![report],
        credits,
        ..SessionInput::default()
    };
    session.send(input).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_through_a_session_and_its_watcher_hears_of_it() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 1).await;
    let id = spec(1, "work").id;
    let mut watch = node.watch_job(id);
    stand.enqueue(spec(1, "work"));
    let jobs = output(&mut session).await.jobs;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].spec.id, id);
    succeed(&session, &jobs[0], 1).await;
    let acks = output(&mut session).await.acks;
    assert_eq!(acks.len(), 1);
    assert_eq!(acks[0].reply, ReportReply::Accepted(JobState::Succeeded));
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(JobChange::Ended(row)) = watch.next().await {
                return row;
            }
        }
    });
    let row = ended.await.unwrap();
    assert_eq!((row.state, &*row.result), (JobState::Succeeded, &b"done"[..]));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_bound_what_is_handed_out() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 3).await;
    for id in 1..=10 {
        stand.enqueue(spec(id, "work"));
    }
    let mut held = Vec::new();
    while held.len() < 3 {
        held.extend(output(&mut session).await.jobs);
    }
    assert_eq!(stand.with(|core| core.live().running), 3);
    let mut seen = held.len();
    while seen < 10 {
        for job in held.drain(..) {
            succeed(&session, &job, 1).await;
        }
        let output = output(&mut session).await;
        seen += output.jobs.len();
        held = output.jobs;
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_session_gets_no_more_and_a_bye_hands_back_the_rest() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 2).await;
    stand.enqueue(spec(1, "work"));
    let job = output(&mut session).await.jobs.remove(0);
    let quiet = SessionInput {
        quiet: true,
        ..SessionInput::default()
    };
    session.send(quiet).await.unwrap();
    eventually("the session is quiet", || {
        stand.with(|core| core.sessions().iter().all(|view| view.row.quiet))
    })
    .await;
    let second = stand.enqueue(spec(2, "work"));
    assert_eq!(stand.job(second).unwrap().state, JobState::Available);
    let bye = SessionInput {
        bye: true,
        ..SessionInput::default()
    };
    session.send(bye).await.unwrap();
    while session.next().await.is_some() {}
    assert_eq!(session.end(), Some(SessionEnd::Bye));
    assert!(session.send(SessionInput::default()).await.is_err());
    let row = stand.job(job.spec.id).unwrap();
    assert_eq!((row.state, row.attempts, row.crashes), (JobState::Available, 0, 0));
    assert!(stand.sessions().is_empty());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_that_come_with_the_bye_count() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 1).await;
    stand.enqueue(spec(1, "work"));
    let job = output(&mut session).await.jobs.remove(0);
    let report = AttemptReport {
        job: job.spec.id,
        lease: job.lease,
        outcome: AttemptOutcome::Succeeded { result: Bytes::new() },
    };
    let bye = SessionInput {
        reports: vec![report],
        bye: true,
        ..SessionInput::default()
    };
    session.send(bye).await.unwrap();
    let acks = output(&mut session).await.acks;
    assert_eq!(acks[0].reply, ReportReply::Accepted(JobState::Succeeded));
    assert!(session.next().await.is_none());
    assert_eq!(stand.with(|core| core.live().total()), 0);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_worker() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 1).await;
    let id = stand.enqueue(spec(1, "work"));
    let job = output(&mut session).await.jobs.remove(0);
    stand.apply(Command::Cancel {
        tenant: muster_core::DEFAULT_TENANT.into(),
        job: id,
    });
    let stops = output(&mut session).await.stops;
    assert_eq!((stops[0].lease, stops[0].reason), (job.lease, StopReason::Cancel));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_job_starts_when_its_time_has_come() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 1).await;
    let due = crate::clock::wall_clock() + 300;
    let mut later = spec(1, "work");
    later.available_at = due;
    stand.enqueue(later);
    assert_eq!(output(&mut session).await.jobs.len(), 1);
    assert!(crate::clock::wall_clock() >= due);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_closes_its_sessions() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 1).await;
    stand.enqueue(spec(1, "work"));
    let job = output(&mut session).await.jobs.remove(0);
    node.shutdown().await;
    while session.next().await.is_some() {}
    assert_eq!(session.end(), Some(SessionEnd::Shutdown));
    let row = stand.job(job.spec.id).unwrap();
    assert_eq!((row.state, row.attempts), (JobState::Available, 0));
    let again = node.open_session(crate::SessionHello {
        name: "late".into(),
        class: crate::testing::class("work"),
        ttl: 10_000,
    });
    assert!(matches!(again.await, Err(crate::Error::Stopping)));
}

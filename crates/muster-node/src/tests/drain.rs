//! A node that is drained hands its workers over and takes no new ones.

use std::time::Duration;

use bytes::Bytes;
use muster_core::{JobState, ReportReply};

use super::life::succeed;
use super::local::run;
use crate::testing::{class, eventually, open, options, output, spec, start_with};
use crate::{EmbeddedWorker, Error, HandlerRegistry, NodeOptions, SessionEnd, SessionHello};

fn hello() -> SessionHello {
    SessionHello {
        name: "late".into(),
        class: class("work"),
        ttl: 10_000,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_asked_to_leave_and_its_job_goes_on() {
    let (node, stand) = start_with(options(), HandlerRegistry::default()).await;
    let mut session = open(&node, 10_000, 2).await;
    let job = stand.enqueue(spec(1, "work"));
    let held = output(&mut session).await.jobs;
    assert_eq!(held.len(), 1);
    stand.drain(true);
    assert!(output(&mut session).await.leave);
    let refused = node.open_session(hello()).await;
    assert!(matches!(refused, Err(Error::Drained)), "{refused:?}");
    // No new job comes, although there is room for one.
    eventually("the session is quiet", || {
        stand.with(|core| core.sessions().iter().all(|view| view.row.quiet))
    })
    .await;
    let other = stand.enqueue(spec(2, "work"));
    succeed(&session, &held[0], 0).await;
    assert_eq!(
        output(&mut session).await.acks[0].reply,
        ReportReply::Accepted(JobState::Succeeded)
    );
    assert!(stand.job(job).is_none(), "it ended");
    assert_eq!(stand.job(other).map(|row| row.state), Some(JobState::Available));
    stand.drain(false);
    let mut session = open(&node, 10_000, 1).await;
    assert_eq!(output(&mut session).await.jobs[0].spec.id, other);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stays_is_closed_and_its_attempt_is_not_counted() {
    let options = NodeOptions {
        session_drain: Duration::from_millis(200),
        ..options()
    };
    let (node, stand) = start_with(options, HandlerRegistry::default()).await;
    let mut session = open(&node, 10_000, 1).await;
    let job = stand.enqueue(spec(1, "work"));
    assert_eq!(output(&mut session).await.jobs.len(), 1);
    stand.drain(true);
    while session.next().await.is_some() {}
    assert_eq!(session.end(), Some(SessionEnd::Drained));
    let row = stand.job(job).unwrap();
    assert_eq!((row.state, row.attempts, row.crashes), (JobState::Available, 0, 0));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_inside_the_node_rests_until_the_drain_is_over() {
    let worker = EmbeddedWorker::new("embedded")
        .concurrency(1)
        .handle("work", |_| async { Ok(Bytes::new()) });
    let (node, stand) = start_with(options(), HandlerRegistry::default().with(worker)).await;
    run(&node, &stand, spec(1, "work")).await;
    stand.drain(true);
    eventually("its session ends", || stand.sessions().is_empty()).await;
    let job = stand.enqueue(spec(2, "work"));
    assert_eq!(stand.job(job).map(|row| row.state), Some(JobState::Available));
    stand.drain(false);
    eventually("the job is done", || stand.job(job).is_none()).await;
    node.shutdown().await;
}

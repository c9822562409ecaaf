//! Workers, nodes and streams that vanish.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use muster_core::{Command, JobState, SessionId, SessionSpec};

use crate::testing::{PATIENCE, class, eventually, open, output, spec, start};
use crate::{SessionEnd, SessionInput};

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_loses_the_session_at_once() {
    let (node, stand) = start().await;
    let mut session = open(&node, 600_000, 1).await;
    let id = stand.enqueue(spec(1, "work"));
    assert_eq!(output(&mut session).await.jobs.len(), 1);
    drop(session);
    eventually("the job is taken back", || {
        stand
            .job(id)
            .is_some_and(|row| row.crashes == 1 && row.state != JobState::Running)
    })
    .await;
    assert!(stand.sessions().is_empty());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_worker_loses_its_jobs_after_its_ttl() {
    let (node, stand) = start().await;
    let mut silent = open(&node, 1_000, 1).await;
    let started = Instant::now();
    stand.enqueue(spec(1, "work"));
    let first = output(&mut silent).await.jobs.remove(0);
    let mut other = open(&node, 10_000, 1).await;
    let second = output(&mut other).await.jobs.remove(0);
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(second.spec.id, first.spec.id);
    assert!(second.lease > first.lease);
    while silent.next().await.is_some() {}
    assert_eq!(silent.end(), Some(SessionEnd::Lost));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signs_of_life_keep_a_session() {
    let (node, stand) = start().await;
    let session = open(&node, 1_000, 1).await;
    let until = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < until {
        session.send(SessionInput::default()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(stand.sessions(), [session.id]);
    assert_eq!(session.end(), None);
    // The log was told, a few times.
    let row = stand.with(|core| core.sessions()[0].row.clone());
    assert!(row.vouched_at > row.opened_at);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_gives_up_sessions_of_a_silent_node() {
    let (node, stand) = start().await;
    let elsewhere = SessionId(77);
    stand.apply(Command::OpenSession(Box::new(SessionSpec {
        session: elsewhere,
        node: 2,
        worker: "elsewhere".into(),
        class: class("work"),
        ttl: 1_000,
        proposed_after: stand.with(|core| core.meta().applied),
    })));
    assert_eq!(stand.sessions(), [elsewhere]);
    let opened = Instant::now();
    eventually("the session is lost", || stand.sessions().is_empty()).await;
    assert!(opened.elapsed() >= Duration::from_millis(950), "{:?}", opened.elapsed());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_vouch_has_its_sessions_closed_by_the_leader() {
    let (node, stand) = start().await;
    stand.mute.store(true, Ordering::SeqCst);
    let mut session = open(&node, 1_000, 0).await;
    let ended = tokio::time::timeout(PATIENCE, async {
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                output = session.next() => if output.is_none() { return },
                _ = beat.tick() => {
                    let node = node.context();
                    if let Some(link) = node.hub.links().first() {
                        link.send(SessionInput::default()).await;
                    }
                }
            }
        }
    });
    ended.await.unwrap();
    assert_eq!(session.end(), Some(SessionEnd::Lost));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_left_over_from_the_last_run_are_given_up_at_start() {
    let hub = crate::NodeHub::new();
    let stand = crate::testing::Stand::new(hub.clone());
    stand.apply(Command::OpenSession(Box::new(SessionSpec {
        session: SessionId(5),
        node: 1,
        worker: "before".into(),
        class: class("work"),
        ttl: 600_000,
        proposed_after: 0,
    })));
    let node = crate::Node::start_over(
        crate::testing::options(),
        stand.clone(),
        None,
        hub,
        crate::HandlerRegistry::default(),
    )
    .await
    .unwrap();
    eventually("it is gone", || stand.sessions().is_empty()).await;
    node.shutdown().await;
}

//! Sessions while there is no leader, answers get lost, or the state is replaced.

use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_core::{AttemptOutcome, AttemptReport, Command, JobState, ReportReply};
use muster_raft::{ApplySink, Role};

use super::life::succeed;
use crate::testing::{eventually, open, output, spec, start};
use crate::{SessionEnd, SessionInput, StopReason};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_not_notice_a_change_of_leader() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 4).await;
    for id in 1..=4 {
        stand.enqueue(spec(id, "work"));
    }
    let mut jobs = Vec::new();
    while jobs.len() < 4 {
        jobs.extend(output(&mut session).await.jobs);
    }
    stand.cut.store(true, Ordering::SeqCst);
    stand.set_role(Role::Follower { term: 2, leader: None });
    for job in &jobs {
        succeed(&session, job, 1).await;
    }
    let early = tokio::time::timeout(Duration::from_millis(100), session.next()).await;
    assert!(
        early.is_err(),
        "nothing may be acknowledged that is not durable: {early:?}"
    );
    stand.set_role(Role::Leader { term: 3 });
    stand.cut.store(false, Ordering::SeqCst);
    let mut acks = Vec::new();
    while acks.len() < 4 {
        acks.extend(output(&mut session).await.acks);
    }
    let accepted = ReportReply::Accepted(JobState::Succeeded);
    assert!(acks.iter().all(|ack| ack.reply == accepted), "{acks:?}");
    // The credits arrived as well, once.
    let credits = stand.with(|core| core.sessions()[0].row.credit_total);
    assert_eq!(credits, 8);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_does_no_harm() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 1).await;
    stand.enqueue(spec(1, "work"));
    let job = output(&mut session).await.jobs.remove(0);
    stand.forget.store(2, Ordering::SeqCst);
    succeed(&session, &job, 1).await;
    let acks = output(&mut session).await.acks;
    assert_eq!(acks[0].reply, ReportReply::Repeated);
    let row = stand.with(|core| core.sessions()[0].row.clone());
    assert_eq!((row.credit_total, row.granted_total), (2, 1));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_report_is_told_so() {
    let (node, stand) = start().await;
    let mut session = open(&node, 10_000, 1).await;
    let mut short = spec(1, "work");
    short.options.attempt_timeout = 50;
    short.options.backoff = muster_core::Backoff::Fixed { delay: 600_000 };
    stand.enqueue(short);
    let job = output(&mut session).await.jobs.remove(0);
    let stops = output(&mut session).await.stops;
    assert_eq!(stops[0].reason, StopReason::LeaseLost);
    succeed(&session, &job, 0).await;
    let acks = output(&mut session).await.acks;
    assert_eq!(acks[0].reply, ReportReply::LeaseLost);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_snapshot_sessions_are_reconciled() {
    let (node, stand) = start().await;
    let mut gone = open(&node, 10_000, 0).await;
    let mut kept = open(&node, 10_000, 2).await;
    let revoked = stand.enqueue(spec(1, "work"));
    let first = output(&mut kept).await.jobs.remove(0);
    // What the node does not hear: a session closed, a lease ended, another granted.
    stand.deaf.store(true, Ordering::SeqCst);
    stand.apply(Command::CloseSession { session: gone.id });
    stand.apply(Command::Report {
        session: kept.id,
        results: vec![AttemptReport {
            job: revoked,
            lease: first.lease,
            outcome: AttemptOutcome::Succeeded {
                result: bytes::Bytes::new(),
            },
        }],
        credit_total: 2,
    });
    let granted = stand.enqueue(spec(2, "work"));
    stand.deaf.store(false, Ordering::SeqCst);
    node.context().hub.restored();
    assert!(gone.next().await.is_none());
    assert_eq!(gone.end(), Some(SessionEnd::Lost));
    let (mut jobs, mut stops) = (Vec::new(), Vec::new());
    while jobs.is_empty() || stops.is_empty() {
        let output = output(&mut kept).await;
        jobs.extend(output.jobs);
        stops.extend(output.stops);
    }
    assert_eq!(jobs.iter().map(|job| job.spec.id).collect::<Vec<_>>(), [granted]);
    assert_eq!((stops[0].job, stops[0].reason), (revoked, StopReason::LeaseLost));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_let_in_as_far_as_there_is_room() {
    let mut options = crate::testing::options();
    options.session_reports_max = 10;
    let (node, stand) = crate::testing::start_with(options, crate::HandlerRegistry::default()).await;
    let session = open(&node, 10_000, 0).await;
    let (sender, mut receiver) = session.split();
    stand.cut.store(true, Ordering::SeqCst);
    let reports = |from: u64, count: u64| SessionInput {
        reports: (from..from + count)
            .map(|index| AttemptReport {
                job: muster_core::JobId(u128::from(index)),
                lease: muster_core::LeaseId { index, position: 0 },
                outcome: AttemptOutcome::Preempted,
            })
            .collect(),
        ..SessionInput::default()
    };
    sender.send(reports(0, 10)).await.unwrap();
    let more = tokio::spawn(async move {
        // More than there will ever be room for goes in parts.
        sender.send(reports(10, 25)).await.unwrap();
        sender
    });
    let hub = &node.context().hub;
    let link = hub.links().remove(0);
    assert!(!more.is_finished());
    stand.cut.store(false, Ordering::SeqCst);
    let mut acks = 0;
    while acks < 35 {
        acks += receiver.next().await.unwrap().acks.len();
    }
    let sender = more.await.unwrap();
    drop(sender);
    eventually("the dropped session is lost", || link.end().is_some()).await;
    assert_eq!(receiver.end(), Some(SessionEnd::Lost));
    node.shutdown().await;
}

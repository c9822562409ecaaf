//! The worker: runs, fails, stops, drains, reconnects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_client::{Client, Context, Job, JobError, StopReason, Worker, WorkerBuilder, WorkerStats};
use muster_proto::v1;
use muster_proto::v1::attempt_report::Outcome;
use muster_proto::v1::report_ack::Result as Ack;
use muster_proto::v1::stop_attempt::Reason;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tonic::Code;

use crate::fake::{Act, Cluster, Fake, leased, within};

#[derive(Serialize, Deserialize)]
struct Double(u32);

impl Job for Double {
    const KIND: &'static str = "double";
    type Output = u32;
}

#[derive(Serialize, Deserialize)]
struct Wait;

impl Job for Wait {
    const KIND: &'static str = "wait";
    type Output = ();
}

struct Running {
    stats: Box<dyn Fn() -> WorkerStats + Send>,
    task: JoinHandle<muster_client::Result<WorkerStats>>,
    stop: oneshot::Sender<()>,
}

impl Running {
    fn start(worker: WorkerBuilder) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = worker.build().unwrap();
        let stats = Box::new(worker.stats_handle());
        let task = tokio::spawn(worker.run_until(async {
            let _ = stopped.await;
        }));
        Self { stats, task, stop }
    }

    async fn until_started(&self, jobs: u64) {
        within(async {
            while (self.stats)().started < jobs {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn end(self) -> WorkerStats {
        drop(self.stop);
        within(self.task).await.unwrap().unwrap()
    }
}

fn worker(nodes: &[&Fake]) -> WorkerBuilder {
    let client = Client::builder()
        .addresses(nodes.iter().map(|node| node.address.clone()))
        .attempt_timeout(Duration::from_millis(500))
        .connect_lazy()
        .unwrap();
    Worker::builder(&client)
        .concurrency(4)
        .handler(|job: Double, _: Context| async move {
            match job.0 {
                13 => panic!("unlucky"),
                14 => Err(JobError::permanent("never").with_class("Hopeless")),
                15 => Ok(std::str::FromStr::from_str("no number")?),
                16 => Err(JobError::snooze(Duration::from_secs(3))),
                number => Ok(2 * number),
            }
        })
        .handler(|_: Wait, context: Context| async move {
            match context.cancelled().await {
                StopReason::Cancel => Err(JobError::cancelled()),
                _ => std::future::pending().await,
            }
        })
}

async fn node() -> Fake {
    Fake::start(&Cluster::default(), |_| Act::Accept).await
}

#[tokio::test]
async fn says_what_it_takes_and_gives_its_concurrency_as_credits() {
    let mut node = node().await;
    let running = Running::start(
        worker(&[&node])
            .name("w")
            .queue("mail")
            .queue("images*")
            .label("gpu", "1"),
    );
    let mut session = node.worker().await;
    let hello = &session.hello;
    assert_eq!(
        (hello.name.as_str(), &hello.queues[..]),
        ("w", &["mail".to_owned(), "images*".to_owned()][..])
    );
    let kinds: Vec<_> = hello
        .kinds
        .iter()
        .map(|kind| (kind.kind.as_str(), kind.max_version))
        .collect();
    assert_eq!(kinds, [("double", 1), ("wait", 1)]);
    assert_eq!(session.next().await.credits, 4);
    running.end().await;
}

#[tokio::test]
async fn every_end_of_a_handler_has_its_report() {
    let mut node = node().await;
    let running = Running::start(worker(&[&node]));
    let mut session = node.worker().await;
    assert_eq!(session.next().await.credits, 4);
    for (fence, number) in [(1, 21), (2, 13), (3, 14), (4, 15), (5, 16)] {
        session.job(fence, "double", &number.to_string()).await;
        let frame = session.next().await;
        assert_eq!((frame.reports.len(), frame.credits), (1, 1), "a report frees its slot");
        let report = &frame.reports[0];
        assert_eq!(report.fence, fence);
        let failure = |failed: &v1::Failed| (failed.error.clone().unwrap().class, failed.not_retryable);
        match (fence, report.outcome.clone().unwrap()) {
            (1, Outcome::Succeeded(succeeded)) => assert_eq!(&succeeded.result[..], b"42"),
            (2, Outcome::Failed(failed)) => assert_eq!(failure(&failed), ("Panic".into(), false)),
            (3, Outcome::Failed(failed)) => assert_eq!(failure(&failed), ("Hopeless".into(), true)),
            (4, Outcome::Failed(failed)) => assert_eq!(failure(&failed), ("ParseIntError".into(), false)),
            (5, Outcome::Snoozed(snoozed)) => assert_eq!(snoozed.delay.unwrap().seconds, 3),
            (_, outcome) => panic!("{fence}: {outcome:?}"),
        }
        session.ack(report, Ack::Accepted).await;
    }
    let stats = running.end().await;
    assert_eq!(
        (
            stats.started,
            stats.succeeded,
            stats.failed,
            stats.panicked,
            stats.snoozed
        ),
        (5, 1, 3, 1, 1)
    );
}

#[tokio::test]
async fn a_wide_job_gives_back_what_it_took() {
    let mut node = node().await;
    let running = Running::start(worker(&[&node]));
    let mut session = node.worker().await;
    assert_eq!((session.hello.slots, session.next().await.credits), (4, 4));
    session.wide_job(1, "double", "21", 3).await;
    let frame = session.next().await;
    assert_eq!((frame.reports.len(), frame.credits), (1, 3));
    session.ack(&frame.reports[0], Ack::Accepted).await;
    running.end().await;
}

#[tokio::test]
async fn jobs_that_end_together_are_reported_together() {
    let mut node = node().await;
    let running = Running::start(worker(&[&node]).concurrency(100));
    let mut session = node.worker().await;
    session.next().await;
    let jobs = (1..=100).map(|fence| leased(fence, "double", "1")).collect();
    session
        .send(v1::NodeFrame {
            jobs,
            ..v1::NodeFrame::default()
        })
        .await;
    let (mut frames, mut reports) = (0, 0);
    while reports < 100 {
        frames += 1;
        let frame = session.next().await;
        for report in &frame.reports {
            session.ack(report, Ack::Accepted).await;
        }
        reports += frame.reports.len();
    }
    assert!(frames <= 5, "100 reports came in {frames} frames");
    assert_eq!(running.end().await.succeeded, 100);
}

#[tokio::test]
async fn a_cancel_reaches_the_handler() {
    let mut node = node().await;
    let running = Running::start(worker(&[&node]));
    let mut session = node.worker().await;
    session.job(7, "wait", "null").await;
    session.stop(7, Reason::Cancel).await;
    let report = session.report().await;
    assert!(matches!(report.outcome, Some(Outcome::Cancelled(_))));
    session.ack(&report, Ack::Accepted).await;
    assert_eq!(running.end().await.cancelled, 1);
}

#[tokio::test]
async fn a_lost_lease_drops_the_handler_and_is_not_reported() {
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let mut node = node().await;
    let (started, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (start, signal) = (Arc::clone(&started), Arc::clone(&dropped));
    let running = Running::start(worker(&[&node]).raw_handler("stuck", move |_, _| {
        start.notify_one();
        let guard = Dropped(Arc::clone(&signal));
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    }));
    let mut session = node.worker().await;
    session.next().await;
    session.job(9, "stuck", "").await;
    within(started.notified()).await;
    session.stop(9, Reason::LeaseLost).await;
    within(dropped.notified()).await;
    let frame = session.next().await;
    assert_eq!(
        (frame.reports.len(), frame.credits),
        (0, 1),
        "the slot is free, nothing is reported"
    );
    assert_eq!(running.end().await.leases_lost, 1);
}

#[tokio::test]
async fn a_shutdown_lets_jobs_end_then_says_goodbye() {
    let mut node = node().await;
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let running = Running::start(worker(&[&node]).raw_handler("gated", move |_, _| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Ok(bytes::Bytes::from_static(b"done"))
        }
    }));
    let mut session = node.worker().await;
    session.next().await;
    session.job(1, "gated", "").await;
    running.until_started(1).await;
    let ending = tokio::spawn(running.end());
    assert!(session.next().await.quiet, "no more jobs, please");
    go.notify_one();
    let report = session.report().await;
    assert!(matches!(report.outcome, Some(Outcome::Succeeded(_))));
    session.ack(&report, Ack::Accepted).await;
    while !session.next().await.bye {}
    drop(session);
    assert_eq!(within(ending).await.unwrap().succeeded, 1);
}

#[tokio::test]
async fn what_outlasts_the_drain_is_handed_back() {
    let mut node = node().await;
    let running = Running::start(worker(&[&node]).drain(Duration::from_millis(50)));
    let mut session = node.worker().await;
    session.job(3, "wait", "null").await;
    running.until_started(1).await;
    let ending = tokio::spawn(running.end());
    let report = session.report().await;
    assert_eq!(report.fence, 3);
    assert!(matches!(report.outcome, Some(Outcome::Preempted(_))));
    session.ack(&report, Ack::Accepted).await;
    while !session.next().await.bye {}
    drop(session);
    assert_eq!(within(ending).await.unwrap().preempted, 1);
}

#[tokio::test]
async fn a_job_that_crosses_the_goodbye_is_handed_back() {
    let mut node = node().await;
    let running = Running::start(worker(&[&node]));
    let mut session = node.worker().await;
    session.next().await;
    session.job(1, "double", "1").await;
    let report = session.report().await;
    // The goodbye waits for the answer to that report; meanwhile comes another job.
    let ending = tokio::spawn(running.end());
    while !session.next().await.quiet {}
    session.job(2, "wait", "null").await;
    let handed_back = session.report().await;
    assert_eq!(handed_back.fence, 2);
    assert!(matches!(handed_back.outcome, Some(Outcome::Preempted(_))));
    session.ack(&handed_back, Ack::Accepted).await;
    session.ack(&report, Ack::Accepted).await;
    while !session.next().await.bye {}
    drop(session);
    assert_eq!(within(ending).await.unwrap().preempted, 1);
}

#[tokio::test]
async fn a_broken_stream_moves_the_worker_and_resends_what_was_not_answered() {
    let cluster = Cluster::default();
    let mut first = Fake::start(&cluster, |_| Act::Accept).await;
    let mut second = Fake::start(&cluster, |_| Act::Accept).await;
    *cluster.leader.lock().unwrap() = first.address.clone();
    let running = Running::start(worker(&[&first, &second]));
    let mut session = first.worker().await;
    session.next().await;
    session.job(1, "double", "4").await;
    let unanswered = session.report().await;
    session.job(2, "wait", "null").await;
    drop(session);
    drop(first);
    let mut session = second.worker().await;
    let mut frame = session.next().await;
    assert_eq!(frame.credits, 3, "one slot is still taken");
    let report = frame.reports.pop().expect("the report without an answer");
    assert_eq!((report.fence, report.outcome.clone()), (1, unanswered.outcome));
    session.ack(&report, Ack::LeaseLost).await;
    // The attempt of the old session goes on and is judged by its lease.
    session.stop(2, Reason::Cancel).await;
    let report = session.report().await;
    session.ack(&report, Ack::Accepted).await;
    let stats = running.end().await;
    assert_eq!(
        (stats.reconnects, stats.leases_lost, stats.cancelled, stats.succeeded),
        (1, 1, 1, 0)
    );
}

#[tokio::test]
async fn a_session_that_was_over_before_it_was_open_is_followed_by_another() {
    let mut node = Fake::start(&Cluster::default(), |call| match call {
        0 => Act::Refuse(Code::FailedPrecondition, "SESSION_CLOSED", None),
        _ => Act::Accept,
    })
    .await;
    let running = Running::start(worker(&[&node]));
    let mut session = node.worker().await;
    assert_eq!(session.next().await.credits, 4);
    running.end().await;
}

#[tokio::test]
async fn a_drained_node_is_left_without_leaving_its_jobs() {
    let cluster = Cluster::default();
    let ttl = Duration::from_millis(600);
    let mut drained = Fake::start_with_ttl(&cluster, ttl, |_| Act::Accept).await;
    let mut other = Fake::start(&cluster, |_| Act::Accept).await;
    *cluster.leader.lock().unwrap() = drained.address.clone();
    let running = Running::start(worker(&[&drained, &other]));
    let mut old = drained.worker().await;
    old.next().await;
    old.job(1, "wait", "null").await;
    old.job(2, "wait", "null").await;
    running.until_started(2).await;
    old.send(v1::NodeFrame {
        go_elsewhere: true,
        ..v1::NodeFrame::default()
    })
    .await;
    // New jobs come through the other node at once, as many as there are free slots.
    let mut new = other.worker().await;
    assert_eq!(new.next().await.credits, 2);
    new.job(3, "double", "4").await;
    let report = new.report().await;
    new.ack(&report, Ack::Accepted).await;
    // The old session lives on for its jobs; what it says is still heard. Their reports go through the new one.
    for _ in 0..2 {
        let beat = old.next().await;
        assert!(beat.quiet && !beat.bye && beat.reports.is_empty(), "{beat:?}");
    }
    old.stop(1, Reason::LeaseLost).await;
    old.stop(2, Reason::Cancel).await;
    let report = new.report().await;
    assert_eq!(report.fence, 2);
    assert!(matches!(report.outcome, Some(Outcome::Cancelled(_))), "{report:?}");
    new.ack(&report, Ack::Accepted).await;
    while !old.next().await.bye {}
    drop(old);
    let ending = tokio::spawn(running.end());
    while !new.next().await.bye {}
    drop(new);
    let stats = within(ending).await.unwrap();
    assert_eq!(
        (
            stats.reconnects,
            stats.leases_lost,
            stats.cancelled,
            stats.succeeded,
            stats.preempted
        ),
        (1, 1, 1, 1, 0)
    );
}

#[tokio::test]
async fn attempts_of_a_session_that_is_gone_are_dropped_after_its_ttl() {
    let mut node = Fake::start_with_ttl(&Cluster::default(), Duration::from_millis(300), |_| Act::Accept).await;
    let running = Running::start(worker(&[&node]));
    let mut session = node.worker().await;
    session.next().await;
    session.job(1, "wait", "null").await;
    // Heartbeats keep coming although nothing happens.
    for _ in 0..3 {
        assert!(session.next().await.reports.is_empty());
    }
    drop(session);
    let mut session = node.worker().await;
    let mut credits = 0;
    while credits < 4 {
        let frame = session.next().await;
        assert!(frame.reports.is_empty());
        credits += frame.credits;
    }
    assert_eq!(running.end().await.leases_lost, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_handlers_run_on_threads_and_their_panics_are_failures() {
    let mut node = node().await;
    let seen = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&seen);
    #[derive(Serialize, Deserialize)]
    struct Block(bool);
    impl Job for Block {
        const KIND: &'static str = "block";
        type Output = String;
    }
    let running = Running::start(worker(&[&node]).blocking_handler(move |job: Block, context: Context| {
        assert!(job.0, "told to panic");
        flag.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
        Ok(format!("attempt {} fence {}", context.attempt(), context.fence()))
    }));
    let mut session = node.worker().await;
    session.job(5, "block", "true").await;
    let report = session.report().await;
    let Some(Outcome::Succeeded(succeeded)) = &report.outcome else {
        panic!("{report:?}")
    };
    assert_eq!(&succeeded.result[..], b"\"attempt 1 fence 5\"");
    session.ack(&report, Ack::Accepted).await;
    session.job(6, "block", "false").await;
    let report = session.report().await;
    assert!(
        matches!(&report.outcome, Some(Outcome::Failed(failed)) if failed.error.as_ref().unwrap().class == "Panic")
    );
    session.ack(&report, Ack::Accepted).await;
    assert!(seen.load(Ordering::Relaxed));
    assert_eq!(running.end().await.panicked, 1);
}

#[tokio::test]
async fn settings_are_checked() {
    let node = node().await;
    assert!(worker(&[&node]).concurrency(0).build().is_err());
    assert!(worker(&[&node]).session_ttl(Duration::from_millis(1)).build().is_err());
    assert!(
        worker(&[&node]).handler(|_: Wait, _| async { Ok(()) }).build().is_err(),
        "two handlers for one kind"
    );
}

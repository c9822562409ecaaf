//! Handlers embedded in the process of the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use muster_core::{Command, DEFAULT_TENANT, JobId, JobRow, JobState};
use ractor::ActorCell;

use super::crash::find;
use crate::local::{LocalWorkersMsg, WorkerMsg};
use crate::supervisor::Part;
use crate::testing::{PATIENCE, Stand, eventually, options, spec, start_with};
use crate::{EmbeddedWorker, HandlerError, HandlerRegistry, JobChange, JobWatch, Node};

pub(super) async fn ended(mut watch: JobWatch) -> Arc<JobRow> {
    let end = async {
        loop {
            match watch.next().await {
                Some(JobChange::Ended(row)) => return row,
                Some(_) => {}
                None => panic!("the node stopped"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, end).await.unwrap()
}

/// Enqueues a job and waits for its end.
pub(super) async fn run(node: &Node, stand: &Stand, job: muster_core::JobSpec) -> Arc<JobRow> {
    let watch = node.watch_job(job.id);
    stand.enqueue(job);
    ended(watch).await
}

fn registry() -> HandlerRegistry {
    let worker = EmbeddedWorker::new("embedded")
        .concurrency(2)
        .handle("echo", |job| async move { Ok(job.job.payload.data.clone()) })
        .handle("fatal", |_| async { Err(HandlerError::fatal("Bad", "never works")) })
        .handle("panic", |job| async move {
            assert!(job.attempt > 1, "first attempts panic");
            Ok(Bytes::new())
        })
        .handle("early", |_| -> std::future::Ready<_> {
            panic!("before there is a future")
        })
        .handle("huge", |_| async { Ok(Bytes::from(vec![0; 65_537])) })
        .handle("wait", |job| async move {
            job.cancelled.cancelled().await;
            Err(HandlerError::Cancelled)
        })
        .handle("hang", |_| std::future::pending());
    HandlerRegistry::default().with(worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_end_jobs_in_all_ways() {
    let (node, stand) = start_with(options(), registry()).await;
    let mut echo = spec(1, "echo");
    echo.payload.data = Bytes::from_static(b"hello");
    let row = run(&node, &stand, echo).await;
    assert_eq!((row.state, &*row.result), (JobState::Succeeded, &b"hello"[..]));
    let row = run(&node, &stand, spec(2, "fatal")).await;
    assert_eq!((row.state, row.failures), (JobState::Dead, 1));
    assert_eq!(&*row.error.clone().unwrap().class, "Bad");
    let row = run(&node, &stand, spec(3, "panic")).await;
    assert_eq!((row.state, row.attempts, row.failures), (JobState::Succeeded, 2, 1));
    let mut early = spec(4, "early");
    early.options.max_attempts = 1;
    let row = run(&node, &stand, early).await;
    let error = row.error.clone().unwrap();
    assert_eq!((row.state, &*error.class), (JobState::Dead, "panic"));
    assert_eq!(&*error.message, "before there is a future");
    let row = run(&node, &stand, spec(5, "huge")).await;
    assert_eq!(&*row.error.clone().unwrap().class, "result_too_large");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_handler() {
    let (node, stand) = start_with(options(), registry()).await;
    let watch = node.watch_job(JobId(1));
    let id = stand.enqueue(spec(1, "wait"));
    eventually("it runs", || {
        stand.job(id).is_some_and(|row| row.state == JobState::Running)
    })
    .await;
    stand.apply(Command::Cancel {
        tenant: DEFAULT_TENANT.into(),
        job: id,
    });
    assert_eq!(ended(watch).await.state, JobState::Cancelled);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timed_out_attempt_frees_its_slot() {
    let (node, stand) = start_with(options(), registry()).await;
    for id in 1..=2 {
        let mut hang = spec(id, "hang");
        hang.options.attempt_timeout = 100;
        hang.options.max_attempts = 1;
        stand.enqueue(hang);
    }
    let row = run(&node, &stand, spec(3, "echo")).await;
    assert_eq!(row.state, JobState::Succeeded);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_hands_back_what_it_runs() {
    let mut options = options();
    options.local_drain = Duration::from_millis(50);
    let (node, stand) = start_with(options, registry()).await;
    let id = stand.enqueue(spec(1, "hang"));
    eventually("it runs", || {
        stand.job(id).is_some_and(|row| row.state == JobState::Running)
    })
    .await;
    node.shutdown().await;
    let row = stand.job(id).unwrap();
    assert_eq!((row.state, row.attempts, row.crashes), (JobState::Available, 0, 0));
    assert!(stand.sessions().is_empty());
}

async fn worker(node: &Node) -> Option<ActorCell> {
    let supervisor = find(node, Part::LocalWorkers).await?;
    let supervisor: ractor::ActorRef<LocalWorkersMsg> = supervisor.into();
    ractor::call_t!(supervisor, LocalWorkersMsg::Find, 1_000, 0)
        .ok()
        .flatten()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_local_worker_comes_back_and_its_jobs_run_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let hang_once = EmbeddedWorker::new("once").handle("once", move |_| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            Ok(Bytes::new())
        }
    });
    let (node, stand) = start_with(options(), HandlerRegistry::default().with(hang_once)).await;
    let watch = node.watch_job(JobId(1));
    stand.enqueue(spec(1, "once"));
    eventually("it runs", || calls.load(Ordering::SeqCst) == 1).await;
    let actor = worker(&node).await.unwrap();
    actor.send_message(WorkerMsg::Panic).unwrap();
    let row = ended(watch).await;
    assert_eq!((row.state, row.attempts, row.crashes), (JobState::Succeeded, 2, 1));
    assert_ne!(worker(&node).await.unwrap().get_id(), actor.get_id());
    node.shutdown().await;
}

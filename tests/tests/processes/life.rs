//! The life of jobs through a real cluster, by way of any node.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use muster_client::{Backoff, Client, Context, Enqueue, Error, Job, JobError, JobState, ListJobs, Worker};
use muster_tests::Cluster;

const LONG: Duration = Duration::from_secs(20);

/// Answers with the text in capitals; texts that begin with `!` fail.
#[derive(serde::Serialize, serde::Deserialize)]
struct Shout {
    text: String,
}

impl Job for Shout {
    const KIND: &'static str = "shout";
    type Output = String;
}

fn shout(text: &str) -> Shout {
    Shout { text: text.into() }
}

fn start_worker(client: &Client) -> tokio::task::JoinHandle<()> {
    let handler = |job: Shout, context: Context| async move {
        match job.text.strip_prefix('!') {
            None => Ok(job.text.to_uppercase()),
            Some("once") if context.attempt() > 1 => Ok("at last".to_owned()),
            Some("never") => Err(JobError::permanent("not in this life").with_class("Never")),
            Some(_) => Err(JobError::retry("not yet")),
        }
    };
    let worker = Worker::builder(client).handler(handler).build().unwrap();
    tokio::spawn(async move {
        let _ = worker.run_until(std::future::pending()).await;
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_go_in_at_any_node_and_results_come_out_at_any() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let worker = start_worker(&client);
    for id in cluster.ids() {
        let at = cluster.client_at(id).await;
        let job = at.enqueue(shout("hello")).await.unwrap();
        assert_eq!(job.wait(LONG).await.unwrap(), "HELLO");
        for other in cluster.ids() {
            let info = cluster.client_at(other).await.get(job.id()).await.unwrap();
            assert_eq!((info.state, info.attempts), (JobState::Succeeded, 1));
        }
    }
    worker.abort();
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_retried_and_the_dead_come_back_by_redrive() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let worker = start_worker(&client);
    let quick = || {
        Enqueue::new()
            .max_attempts(2)
            .backoff(Backoff::Fixed(Duration::from_millis(50)))
    };

    let once = client.enqueue_with(shout("!once"), quick()).await.unwrap();
    assert_eq!(once.wait(LONG).await.unwrap(), "at last");
    let often = client.enqueue_with(shout("!often"), quick()).await.unwrap();
    let error = often.wait(LONG).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::JobEnded {
                state: JobState::Dead,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(often.get().await.unwrap().attempts, 2);
    let never = client.enqueue_with(shout("!never"), quick()).await.unwrap();
    let error = never.wait(LONG).await.unwrap_err();
    assert!(error.to_string().contains("not in this life"), "{error}");
    assert_eq!(
        never.get().await.unwrap().attempts,
        1,
        "a permanent failure is not retried"
    );

    let again = client.redrive(never.id()).await.unwrap();
    let info = client.wait(again.id, LONG).await.unwrap();
    assert_eq!(
        (info.state, info.redriven_from),
        (JobState::Dead, Some(never.id().to_string()))
    );
    let error = client.redrive(once.id()).await.unwrap_err();
    assert!(error.to_string().contains("JOB_NOT_DEAD"), "{error}");
    let dead = ListJobs {
        states: vec![JobState::Dead],
        ..ListJobs::default()
    };
    assert_eq!(client.list(&dead).await.unwrap().jobs.len(), 3);
    worker.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_queue_starts_nothing_and_a_cancelled_job_never_starts() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    client.pause_queue("default", "by test").await.unwrap();
    let held = client.enqueue(shout("held")).await.unwrap();
    let cancelled = client.enqueue(shout("cancelled")).await.unwrap();
    let elsewhere = client
        .enqueue_with(shout("free"), Enqueue::new().queue("other"))
        .await
        .unwrap();
    let worker = start_worker(&client);
    assert_eq!(elsewhere.wait(LONG).await.unwrap(), "FREE");
    assert_eq!(
        held.get().await.unwrap().state,
        JobState::Available,
        "its queue is paused"
    );
    assert_eq!(cancelled.cancel().await.unwrap(), JobState::Cancelled);
    client.resume_queue("default").await.unwrap();
    assert_eq!(held.wait(LONG).await.unwrap(), "HELD");
    let info = cancelled.get().await.unwrap();
    assert_eq!((info.state, info.attempts), (JobState::Cancelled, 0));
    worker.abort();
}

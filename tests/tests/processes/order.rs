//! Ordering keys of a real cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use muster_client::{Context, Enqueue, JobError, JobInfo, JobState, OrderingPolicy, RawJob, RawPayload, Worker};
use muster_tests::{Cluster, Working, eventually, wait_for_ends};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(40);

fn job(kind: &str, payload: &str) -> RawJob {
    RawJob::new(kind, payload.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_key_run_in_order_through_a_kill_of_the_leader() {
    const KEYS: usize = 3;
    const JOBS: usize = 40;
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    // Sequences of the runs that succeeded, by key, as they ended.
    let runs: Arc<Mutex<BTreeMap<String, Vec<u64>>>> = Arc::default();
    let handler = {
        let runs = Arc::clone(&runs);
        move |payload: RawPayload, context: Context| {
            let runs = Arc::clone(&runs);
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if payload.data == "flaky" && context.attempt() == 1 {
                    return Err(JobError::retry_after(Duration::from_millis(100), "on purpose"));
                }
                let key = context.ordering_key().expect("an ordering key").to_owned();
                runs.lock().unwrap().entry(key).or_default().push(context.sequence());
                Ok(Bytes::new())
            }
        }
    };
    let worker = Worker::builder(&client)
        .concurrency(16)
        .session_ttl(30 * SECOND)
        .raw_handler("step", handler);
    let worker = Working::run(worker.build().unwrap());
    let callers: Vec<_> = (0..KEYS)
        .map(|key| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for number in 0..JOBS {
                    let payload = if number % 7 == 3 { "flaky" } else { "steady" };
                    let options = Enqueue::new().ordering_key(format!("account:{key}"));
                    let enqueued = client.enqueue_raw(job("step", payload), options).await;
                    ids.push(enqueued.expect("done within 30 s").id);
                }
                ids
            })
        })
        .collect();
    eventually("a third has run", LONG, || async {
        let ended: usize = runs.lock().unwrap().values().map(Vec::len).sum();
        (ended > KEYS * JOBS / 3).then_some(())
    })
    .await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let mut lines = Vec::new();
    for caller in callers {
        lines.push(caller.await.unwrap());
    }
    wait_for_ends(&client, KEYS * JOBS).await;
    worker.stop().await;

    for ids in lines {
        let mut before: Option<JobInfo> = None;
        for id in ids {
            let job = client.get(id).await.unwrap();
            assert_eq!(job.state, JobState::Succeeded);
            if let Some(before) = before {
                assert!(before.sequence < job.sequence, "{before:?}, {job:?}");
                assert!(before.ended_at <= job.started_at, "{before:?}, {job:?}");
            }
            before = Some(job);
        }
    }
    for (key, sequences) in runs.lock().unwrap().iter() {
        assert!(sequences.is_sorted(), "{key}: {sequences:?}");
    }
    cluster.start_node(leader);
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_a_dead_job_holds_stays_held_when_all_nodes_are_killed() {
    let mut cluster = Cluster::start_with("\n[store]\nflush_interval = \"1s\"\n").await;
    let client = cluster.client().await;
    let handler = |payload: RawPayload, _: Context| async move {
        if payload.data == "bad" {
            return Err(JobError::permanent("on purpose"));
        }
        Ok(Bytes::new())
    };
    let worker = |client| {
        let worker = Worker::builder(client).concurrency(4).raw_handler("step", handler);
        Working::run(worker.build().unwrap())
    };
    let before = worker(&client);
    let strict = || Enqueue::new().ordered("account:1", OrderingPolicy::Strict);
    let bad = client.enqueue_raw(job("step", "bad"), strict()).await.unwrap().id;
    let good = client.enqueue_raw(job("step", "good"), strict()).await.unwrap().id;
    let free = client.enqueue_raw(job("step", "good"), Enqueue::new()).await.unwrap();
    let held = eventually("the key is held", LONG, || async {
        client.held_orders("default").await.ok()?.pop()
    })
    .await;
    assert_eq!((held.held_by, held.waiting), (bad.to_string(), 1));
    assert_eq!(client.wait(free.id, LONG).await.unwrap().state, JobState::Succeeded);
    before.stop().await;
    cluster.kill_all();

    cluster.start_all();
    cluster.leader().await;
    let after = worker(&client);
    // A job without a key runs, so the worker works; the one behind the dead job does not.
    let free = client.enqueue_raw(job("step", "good"), Enqueue::new()).await.unwrap();
    assert_eq!(client.wait(free.id, LONG).await.unwrap().state, JobState::Succeeded);
    assert_eq!(client.get(good).await.unwrap().state, JobState::Blocked);
    let held = client.held_orders("default").await.unwrap();
    assert_eq!(held[0].held_by, bad.to_string());
    client.release_order("default", "account:1").await.unwrap();
    wait_for_ends(&client, 4).await;
    assert_eq!(client.get(good).await.unwrap().state, JobState::Succeeded);
    assert_eq!(client.held_orders("default").await.unwrap(), []);
    after.stop().await;
    cluster.agree().await;
}

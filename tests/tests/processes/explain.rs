//! `muster job explain` on a real cluster: each answer is what an operator can act on, and still true after a kill of the leader.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::Duration;

use muster_client::{
    Client, Enqueue, JobId, Limit, LimitCause, LimitLevel, LimitSelector, RateLimit, RawJob, WaitReason,
};
use muster_tests::{Cluster, RawWorker, eventually};

const LONG: Duration = Duration::from_secs(40);
const TTL: Duration = Duration::from_secs(30);

async fn enqueue(client: &Client, kind: &str, options: Enqueue) -> JobId {
    let job = RawJob::new(kind, &b"payload"[..]);
    client.enqueue_raw(job, options).await.unwrap().id
}

async fn reasons(client: &Client, job: JobId) -> Vec<WaitReason> {
    client.explain(job).await.unwrap().reasons
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_job_is_explained_until_it_has_ended() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    client
        .set_limit(&Limit::new(LimitSelector::new(LimitLevel::Key, "api")).concurrency(1))
        .await
        .unwrap();

    // Nobody is there to run it.
    let lost = enqueue(&client, "unknown", Enqueue::new()).await;
    assert_eq!(reasons(&client, lost).await, [WaitReason::NoWorker]);
    let ran = cluster.muster(&format!("job explain {lost}")).await.good();
    assert!(
        ran.stdout.contains("waits for     a worker: none is connected"),
        "{ran:?}"
    );

    // One runs, one waits at the limit of its key behind it, one for a slot.
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let mut worker = RawWorker::open(&cluster.address(follower), "default", "call", TTL).await;
    worker.credit(1).await;
    let key = || Enqueue::new().limit_key("api");
    let first = enqueue(&client, "call", key()).await;
    let leased = worker.job(LONG).await;
    let holder = client.explain(first).await.unwrap().holder.expect("it runs");
    assert_eq!((&holder.session_id, holder.node_id), (&worker.session, follower));
    let second = enqueue(&client, "call", key()).await;
    let third = enqueue(&client, "call", Enqueue::new()).await;
    let ran = cluster.muster(&format!("job explain {lost}")).await.good();
    let missing = "a worker with kind unknown: of 1 connected, 1 match otherwise, and none has that";
    assert!(ran.stdout.contains(missing), "{ran:?}");
    assert_eq!(reasons(&client, third).await, [WaitReason::NoSlot]);

    cluster.kill(leader);
    cluster.leader().await;
    let explained = client.explain(second).await.unwrap();
    let [WaitReason::Limit(limit), WaitReason::NoSlot] = &explained.reasons[..] else {
        panic!("{explained:?}");
    };
    assert_eq!(
        (limit.cause, limit.name.as_str(), limit.running),
        (LimitCause::Full, "api", 1)
    );
    assert_eq!((limit.parked, &limit.holders), (true, &vec![first.to_string()]));
    assert_eq!(explained.position.map(|position| position.available), Some(1));
    assert_eq!(explained.expected_start, None, "the end of a running job is not known");
    let json = cluster.muster(&format!("job explain {second} -o json")).await.json();
    assert_eq!(json["reasons"][0]["reason"], "limit");
    assert_eq!(json["reasons"][0]["holders"][0], first.to_string());
    assert_eq!(json["job"]["state"], "available");

    // What any node knows, without the leader.
    let near = cluster.client_at(follower).await;
    eventually("any node knows as much", LONG, || async {
        let stale = near.stale().explain(second).await.ok()?;
        (stale.value.reasons == explained.reasons).then_some(())
    })
    .await;

    worker.credit(1).await;
    worker.succeed(&leased.id, leased.fence, LONG).await;
    for _ in 0..2 {
        let leased = worker.job(LONG).await;
        worker.succeed(&leased.id, leased.fence, LONG).await;
        worker.credit(1).await;
    }
    let ran = cluster.muster(&format!("job explain {second}")).await.good();
    assert!(ran.stdout.contains("nothing: it has ended"), "{ran:?}");
    cluster.start_node(leader);
    cluster.agree().await;
}

/// The start that is told is the one that comes, to within the tick that makes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_waits_for_tokens_comes_when_it_was_told() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let rate = RateLimit {
        count: 1,
        period: Duration::from_secs(2),
        burst: 1,
    };
    let slow = Limit::new(LimitSelector::new(LimitLevel::Queue, "slow")).rate(rate);
    client.set_limit(&slow).await.unwrap();
    let node = cluster.follower().await;
    let mut worker = RawWorker::open(&cluster.address(node), "default", "call", TTL).await;
    worker.credit(10).await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(enqueue(&client, "call", Enqueue::new().queue("slow")).await);
    }
    let explained = client.explain(jobs[3]).await.unwrap();
    let told = explained.expected_start.expect("it is known");
    assert_eq!(explained.position.map(|position| position.before), Some(2));
    for job in &jobs {
        let leased = worker.job(LONG).await;
        assert_eq!(leased.id, job.to_string());
    }
    let started = client.get(jobs[3]).await.unwrap().started_at.unwrap();
    assert!(started >= told, "it began {:?} early", told.duration_since(started));
    let late = started.duration_since(told).unwrap();
    assert!(late < Duration::from_secs(1), "it began {late:?} late");
}

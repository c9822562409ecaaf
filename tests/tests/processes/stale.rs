//! Reads that may be stale: from any node, without a leader, and never older than they say.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use muster_client::{Client, Enqueue, JobId, JobState, ListJobs, RawJob};
use muster_tests::{Cluster, eventually};

const LONG: Duration = Duration::from_secs(40);

fn job() -> RawJob {
    RawJob::new("echo", &b"payload"[..])
}

/// A client that waits no longer than it must.
fn impatient(address: &str) -> Client {
    let client = Client::builder().addresses([address]).deadline(Duration::from_secs(2));
    client.connect_lazy().unwrap()
}

async fn is_known(client: &Client, id: JobId) -> bool {
    client.stale().get(id).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_leader_a_node_still_says_what_it_knows() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let id = client
        .enqueue_raw(job(), Enqueue::new().queue("mail"))
        .await
        .unwrap()
        .id;
    cluster.agree().await;
    let alone = cluster.follower().await;
    for node in cluster.ids() {
        if node != alone {
            cluster.kill(node);
        }
    }
    let client = impatient(&cluster.address(alone));
    let refused = client.get(id).await.unwrap_err();
    assert!(!refused.is_unknown() && !refused.is_not_found(), "{refused}");

    let stale = client.stale();
    let (found, told) = stale.get(id).await.unwrap().split();
    assert_eq!((found.state, told.node_id), (JobState::Available, alone));
    assert!(told.applied_index > 0 && told.applied_at.is_some());
    let jobs = stale.list(&ListJobs::default()).await.unwrap();
    assert_eq!(jobs.value.jobs.len(), 1);
    let queues = stale.queues().await.unwrap().value;
    assert!(queues.iter().any(|queue| queue.name == "mail"), "{queues:?}");
    let tenants = stale.tenants().await.unwrap().value;
    assert!(tenants.iter().any(|tenant| tenant.name == "default"), "{tenants:?}");
    assert_eq!(stale.workers().await.unwrap().value, Vec::new());

    // It grows older, and says so.
    let first = stale.get(id).await.unwrap();
    eventually("the answer is older than two seconds", LONG, || async {
        let age = client.stale().get(id).await.unwrap().age?;
        (age > Duration::from_secs(2)).then_some(())
    })
    .await;
    assert!(first.is_older_than(&told) || first.age == told.age);

    // The same by command.
    let address = cluster.address(alone);
    let ran = |line: String| cluster.begin_at(&address, &line).end();
    ran(format!("job get {id} --timeout 2s")).await.bad(&["NOT_DONE"]);
    let shown = ran(format!("job get {id} --stale")).await.good();
    assert!(
        shown.stdout.contains("mail") && shown.stderr.contains("at most"),
        "{shown:?}"
    );
    let shown = ran(format!("job get {id} --stale -o json")).await.good().json();
    assert_eq!(shown["freshness"]["node_id"], alone);
    assert!(shown["freshness"]["age_ms"].as_u64().unwrap() >= 2_000, "{shown}");
    assert_eq!(shown["answer"]["queue"], "mail");
    for list in ["job", "queue", "tenant", "worker"] {
        ran(format!("{list} list --stale")).await.good();
    }
    let status = ran("cluster status".to_owned()).await.good();
    assert!(status.stdout.contains("none known"), "{status:?}");
}

/// Each answer is held against what was acknowledged before: all that is older than the age it states must be in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_never_older_than_it_says() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let writer = cluster.client().await;
    let writing = tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        let end = Instant::now() + Duration::from_secs(12);
        while Instant::now() < end {
            if let Ok(enqueued) = writer.enqueue_raw(job(), Enqueue::new()).await {
                acknowledged.push((enqueued.id, Instant::now()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        acknowledged
    });
    let readers: Vec<_> = cluster
        .ids()
        .into_iter()
        .map(|node| {
            let client = impatient(&cluster.address(node));
            tokio::spawn(async move {
                let mut looks = Vec::new();
                let end = Instant::now() + Duration::from_secs(12);
                while Instant::now() < end {
                    let asked = Instant::now();
                    if let Ok(page) = client.stale().queues().await {
                        let count = page.value.iter().map(|queue| queue.available).sum::<u64>();
                        if let Some(age) = page.age {
                            looks.push((node, asked.checked_sub(age).unwrap(), count));
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
                looks
            })
        })
        .collect();
    // The leader is frozen for longer than it takes to elect another: it may not take itself for fresh afterwards.
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.pause(leader);
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.resume(leader);

    let acknowledged = writing.await.unwrap();
    assert!(acknowledged.len() > 100, "{} were acknowledged", acknowledged.len());
    let mut compared = 0;
    for reader in readers {
        for (node, no_older_than, count) in reader.await.unwrap() {
            let due = acknowledged.iter().filter(|(_, at)| *at <= no_older_than).count() as u64;
            assert!(
                count >= due,
                "node {node} showed {count} of {due} that are older than it said"
            );
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared} answers");
    let first = acknowledged.first().unwrap().0;
    let client = impatient(&cluster.address(leader));
    eventually("the old leader knows all again", LONG, || async {
        is_known(&client, first).await.then_some(())
    })
    .await;
}

//! Who runs next on a real cluster: paused kinds, priorities that change, labels.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::Duration;

use muster_client::{Client, Enqueue, JobId, JobState, NewTenant, Priority, PriorityOrder, RawJob};
use muster_tests::{Cluster, RawWorker, eventually};

const LONG: Duration = Duration::from_secs(40);
const TTL: Duration = Duration::from_secs(30);

async fn enqueue(client: &Client, kind: &str, options: Enqueue) -> JobId {
    let job = RawJob::new(kind, &b"payload"[..]);
    client.enqueue_raw(job, options).await.unwrap().id
}

async fn run_one(worker: &mut RawWorker) -> String {
    let leased = worker.job(LONG).await;
    worker.succeed(&leased.id, leased.fence, LONG).await;
    leased.id
}

/// A pause holds through the end of every node, and ends when it is told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_kind_stays_paused_through_a_kill_of_all_nodes() {
    let mut cluster = Cluster::start().await;
    cluster.muster("kind pause send --note broken").await.good();
    let client = cluster.client().await;
    let held = enqueue(&client, "send", Enqueue::new()).await;
    cluster.kill_all();
    cluster.start_all();
    let node = cluster.follower().await;
    let mut worker = RawWorker::open(&cluster.address(node), "default", "send", TTL).await;
    worker.credit(5).await;
    let kinds = eventually("the worker is known", LONG, || async {
        let kinds = client.kinds().await.ok()?;
        kinds.iter().any(|kind| kind.workers == 1).then_some(kinds)
    })
    .await;
    let kind = &kinds[0];
    assert_eq!(
        (kind.name.as_str(), kind.paused, kind.note.as_str()),
        ("send", true, "broken")
    );
    assert_eq!((kind.available, kind.running), (1, 0));
    let ran = cluster.muster(&format!("job explain {held}")).await.good();
    let words = "kind send, which is paused (broken): muster kind resume send";
    assert!(ran.stdout.contains(words), "{ran:?}");
    let listed = cluster.muster("kind list -o json").await.json();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["paused"]),
        (&"send".into(), &true.into())
    );
    assert_eq!(client.get(held).await.unwrap().state, JobState::Available);
    cluster.muster("kind resume send").await.good();
    assert_eq!(run_one(&mut worker).await, held.to_string());
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn priorities_are_changed_by_id_and_by_filter_and_kept_by_the_next_leader() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let mut tenant = NewTenant::new("strict");
    tenant.priority_order = Some(PriorityOrder::Strict);
    let made = client.create_tenant(tenant).await.unwrap();
    assert_eq!(made.priority_order, PriorityOrder::Strict);
    let client = client.with_tenant("strict").unwrap();
    let mut jobs = Vec::new();
    for queue in ["a", "a", "b", "b"] {
        jobs.push(enqueue(&client, "send", Enqueue::new().queue(queue)).await);
    }
    let moved = cluster
        .muster("job -t strict set-priority high --queue b -o json")
        .await
        .json();
    assert_eq!(moved["changed"], 2);
    let changed = client
        .set_priority(&[jobs[1], JobId::default()], Priority::Critical)
        .await
        .unwrap();
    assert_eq!((changed.changed, changed.not_live.len()), (1, 1));
    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.leader().await;
    let node = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let mut worker = RawWorker::open(&cluster.address(node), "strict", "send", TTL).await;
    let mut order = Vec::new();
    for _ in 0..4 {
        worker.credit(1).await;
        order.push(run_one(&mut worker).await);
    }
    let wanted = [1, 2, 3, 0].map(|number: usize| jobs[number].to_string());
    assert_eq!(order, wanted);
    let ended = cluster
        .muster(&format!("job -t strict set-priority low {} -o json", jobs[0]))
        .await
        .json();
    assert_eq!(
        (&ended["changed"], &ended["not_live"][0]),
        (&0.into(), &jobs[0].to_string().into())
    );
    cluster.start_node(leader);
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_nobody_accepts_are_listed_with_what_is_missing() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let node = cluster.follower().await;
    let worker = RawWorker::open(&cluster.address(node), "default", "send", TTL).await;
    worker.credit(1).await;
    let line = "job enqueue send --require gpu=a100 --prefer zone=eu --queue media";
    let id = cluster.muster(line).await.good().stdout.trim().to_owned();
    let job = client.get(id.parse().unwrap()).await.unwrap();
    assert_eq!(
        (&job.required_labels["gpu"], &job.preferred_labels["zone"]),
        (&"a100".into(), &"eu".into())
    );
    let groups = eventually("the worker is known", LONG, || async {
        let groups = client.unroutable().await.ok()?;
        groups
            .first()
            .is_some_and(|group| group.workers.open == 1)
            .then_some(groups)
    })
    .await;
    let group = &groups[0];
    assert_eq!(
        (group.kind.as_str(), group.queue.as_str(), group.jobs),
        ("send", "media", 1)
    );
    assert_eq!((group.workers.version, group.workers.accept), (1, 0));
    let ran = cluster.muster("job unroutable").await.good();
    let row = ran.stdout.lines().nth(1).unwrap();
    assert!(
        row.contains("gpu=a100") && row.trim_end().ends_with("labels"),
        "{ran:?}"
    );
}

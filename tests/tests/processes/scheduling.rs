//! Who runs next on a real cluster: paused kinds, priorities that change, labels, slots, weights of queues, guarantees.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::Duration;

use muster_client::{Client, Enqueue, JobId, JobState, NewTenant, Priority, PriorityOrder, RawJob, TenantChange};
use muster_tests::{Cluster, Ledger, RawWorker, Working, eventually};

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

/// A worker with four slots is kept busy by narrow jobs. A job that takes all of them runs all the same; one that takes more
/// than any worker has is listed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wide_jobs_run_beside_narrow_ones() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let ledger = Ledger::default();
    let worker = Working::start(&client, "send", 4, Duration::from_millis(100), &ledger);
    let too_wide = enqueue(&client, "send", Enqueue::new().slots(5)).await;
    for _ in 0..40 {
        enqueue(&client, "send", Enqueue::new()).await;
    }
    let wide = cluster
        .muster("job enqueue send --slots 4 --priority critical")
        .await
        .good();
    let wide: JobId = wide.stdout.trim().parse().unwrap();
    assert_eq!(client.get(wide).await.unwrap().slots, 4);
    for _ in 0..40 {
        enqueue(&client, "send", Enqueue::new()).await;
    }
    eventually("all that can has run", LONG, || async {
        let queues = client.queues().await.ok()?;
        (queues[0].available == 1 && queues[0].running == 0).then_some(())
    })
    .await;
    assert_eq!(client.get(wide).await.unwrap().state, JobState::Succeeded);
    let groups = client.unroutable().await.unwrap();
    assert_eq!(
        (groups[0].slots, groups[0].workers.labels, groups[0].workers.accept),
        (5, 1, 0)
    );
    let ran = cluster.muster(&format!("job explain {too_wide}")).await.good();
    assert!(ran.stdout.contains("a worker with 5 slots"), "{ran:?}");
    let workers = cluster.muster("worker list -o json").await.json();
    assert_eq!((&workers[0]["slots"], &workers[0]["credits"]), (&4.into(), &4.into()));
    let stats = worker.stop().await;
    assert_eq!(stats.succeeded, 81);
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_of_queues_are_kept_by_all_nodes() {
    let mut cluster = Cluster::start().await;
    cluster.muster("queue weight mail 300").await.good();
    cluster.muster("queue weight imports 100").await.good();
    let client = cluster.client().await;
    let refused = client.set_queue_weight("mail", Some(10_001)).await.unwrap_err();
    assert!(refused.to_string().contains("weight"), "{refused}");
    let mut jobs = Vec::new();
    for queue in ["imports", "imports", "imports", "mail", "mail", "mail"] {
        jobs.push(enqueue(&client, "send", Enqueue::new().queue(queue)).await.to_string());
    }
    cluster.kill_all();
    cluster.start_all();
    let node = cluster.follower().await;
    let listed = cluster.muster("queue list -o json").await.json();
    assert_eq!((&listed[0]["weight"], &listed[1]["weight"]), (&100.into(), &300.into()));
    let mut worker = RawWorker::open(&cluster.address(node), "default", "send", TTL).await;
    let mut first = Vec::new();
    for _ in 0..4 {
        worker.credit(1).await;
        first.push(run_one(&mut worker).await);
    }
    let mails = first.iter().filter(|job| jobs[3..].contains(job)).count();
    assert!(mails >= 2, "{first:?} of {jobs:?}");
    cluster.muster("queue weight mail --none").await.good();
    let listed = cluster.muster("queue list -o json").await.json();
    assert_eq!(listed[1]["weight"], serde_json::Value::Null);
    cluster.agree().await;
}

/// A tenant of little weight is guaranteed a slot. All nodes know, also after a kill of all; its job starts first, and the other
/// tenant's is told why it waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guaranteed_slots_come_first_on_all_nodes() {
    let mut cluster = Cluster::start().await;
    let made = cluster
        .muster("tenant create sure --weight 1 --guaranteed-slots 1")
        .await
        .good();
    assert!(made.stdout.contains("GUARANTEED"), "{made:?}");
    let client = cluster.client().await;
    let change = TenantChange {
        guaranteed_slots: Some(1_000_001),
        ..TenantChange::default()
    };
    let refused = client.update_tenant("sure", change).await.unwrap_err().to_string();
    assert!(
        refused.contains("guaranteed_slots") && refused.contains("1000000"),
        "{refused}"
    );
    let other = enqueue(&client, "send", Enqueue::new()).await.to_string();
    let own = cluster
        .muster("job enqueue send --tenant sure")
        .await
        .good()
        .stdout
        .trim()
        .to_owned();
    cluster.kill_all();
    cluster.start_all();
    let node = cluster.follower().await;
    let mut worker = RawWorker::open(&cluster.address(node), "*", "send", TTL).await;
    let explained = eventually("the worker is known", LONG, || async {
        let explained = cluster.muster(&format!("job explain {other}")).await.good().stdout;
        explained.contains("1 of them since").then_some(explained)
    })
    .await;
    assert!(explained.contains("1 of 2 tenants are served before it"), "{explained}");
    worker.credit(1).await;
    let leased = worker.job(LONG).await;
    assert_eq!(leased.id, own);
    let shown = cluster.muster("tenant show sure -o json").await.json();
    assert_eq!(
        (&shown["guaranteed_slots"], &shown["running_slots"]),
        (&1.into(), &1.into())
    );
    // It has what it is guaranteed, and both go on by their shares.
    worker.credit(1).await;
    assert_eq!(worker.job(LONG).await.id, other);
    let unset = cluster
        .muster("tenant set sure --guaranteed-slots 0 -o json")
        .await
        .json();
    assert_eq!(unset["guaranteed_slots"], 0);
    cluster.agree().await;
}

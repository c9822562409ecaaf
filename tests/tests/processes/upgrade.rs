//! A rolling upgrade under load: node by node to a program that understands more, then the switch.
//!
//! The older program is the same one, held to an older feature level by `--level-max`: whatever a level changes is asked of
//! the replicated state, so it then runs the very paths of its predecessor, and refuses what its predecessor would refuse.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use muster_client::{Client, Code, Enqueue, JobId, RawJob};
use muster_tests::{Cluster, eventually};

const LONG: Duration = Duration::from_secs(40);
const OLD: [&str; 2] = ["--level-max", "1"];

/// Callers that enqueue until told to stop. Every call must be done within its deadline.
struct Load {
    over: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    callers: Vec<tokio::task::JoinHandle<Vec<JobId>>>,
}

impl Load {
    fn start(client: &Client) -> Self {
        let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let caller = |_| {
            let (client, over, done) = (client.clone(), over.clone(), done.clone());
            tokio::spawn(async move {
                let mut ids = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let job = RawJob::new("echo", &b"payload"[..]);
                    let enqueued = client.enqueue_raw(job, Enqueue::new().deadline(LONG)).await;
                    ids.push(enqueued.expect("no call fails in an upgrade").id);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                ids
            })
        };
        let callers = (0..4).map(caller).collect();
        Self { over, done, callers }
    }

    /// Waits until so many more calls are done.
    async fn go_on(&self, more: usize) {
        let target = self.done.load(Ordering::Relaxed) + more;
        eventually("calls go on", LONG, || async {
            (self.done.load(Ordering::Relaxed) >= target).then_some(())
        })
        .await;
    }

    async fn stop(self) -> Vec<JobId> {
        self.over.store(true, Ordering::Relaxed);
        let mut ids = Vec::new();
        for caller in self.callers {
            ids.extend(caller.await.expect("no caller panicked"));
        }
        ids
    }
}

async fn heard_of_all(client: &Client, level: u32) {
    eventually("all members are heard of", LONG, || async {
        let info = client.upgrade_info().await.ok()?;
        (info.level_possible == Some(level)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_under_load_fails_no_call() {
    let mut cluster = Cluster::prepare("\n[raft]\nstate_hash_every = 16\n");
    for id in cluster.ids() {
        cluster.set_arguments(id, &OLD);
    }
    cluster.start_all();
    cluster.leader().await;
    let client = cluster.client().await;
    heard_of_all(&client, 1).await;
    assert_eq!(client.upgrade_info().await.unwrap().level, 1);
    let load = Load::start(&client);
    load.go_on(50).await;

    for (at, id) in cluster.ids().into_iter().enumerate() {
        cluster.terminate(id).await;
        load.go_on(20).await;
        cluster.set_arguments(id, &[]);
        cluster.start_node(id);
        eventually("the node is back", LONG, || async {
            cluster.status(id).await?.leader_id
        })
        .await;
        load.go_on(20).await;
        if at < 2 {
            // Not before all can.
            let refused = eventually("a refusal", LONG, || async {
                match client.upgrade(Some(2)).await {
                    Ok(levels) => panic!("{levels:?} with {} of 3 nodes upgraded", at + 1),
                    Err(error) => error
                        .reason()
                        .filter(|reason| reason.reason == "LEVEL_UNSUPPORTED")
                        .cloned(),
                }
            })
            .await;
            assert_eq!(refused.code, Code::FailedPrecondition);
            assert!(refused.message.contains("node 3"), "{refused:?}");
        }
    }
    heard_of_all(&client, 2).await;
    let shown = cluster
        .muster_beside(&["cluster", "upgrade", "--check", "-a", &cluster.address(1)])
        .await;
    assert!(shown.stdout.contains("levels up to 2"), "{shown:?}");
    let switched = cluster
        .muster_beside(&["cluster", "upgrade", "-a", &cluster.address(1)])
        .await;
    assert_eq!(switched.code, Some(0), "{switched:?}");
    assert!(
        switched.stdout.contains("feature level 2 is in force; it was 1"),
        "{switched:?}"
    );
    load.go_on(50).await;
    let again = client.upgrade(None).await.unwrap();
    assert_eq!(again, (2, 2));
    let falls = client.upgrade(Some(1)).await.unwrap_err();
    assert_eq!(
        falls.reason().map(|reason| reason.reason.clone()).as_deref(),
        Some("LEVEL_FALLS")
    );

    let ids = load.stop().await;
    for id in cluster.ids() {
        // A follower may be a moment behind.
        eventually("the level is in force on every node", LONG, || async {
            cluster
                .log(id)
                .contains("a feature level comes into force")
                .then_some(())
        })
        .await;
    }
    // Hashes are made in the new way on all nodes, or they would differ.
    cluster.agree().await;
    println!("{} calls during the upgrade, none failed", ids.len());
    for id in &ids {
        client.get(*id).await.expect("an acknowledged job is there");
    }

    // There is no way back: an older program leaves the data alone and says what it needs.
    let victim = cluster.follower().await;
    cluster.terminate(victim).await;
    cluster.set_arguments(victim, &OLD);
    cluster.start_node(victim);
    let code = eventually("the older program ends", LONG, || {
        let ended = cluster.ended(victim);
        async move { ended.map(|status| status.code()) }
    })
    .await;
    let log = cluster.log(victim);
    assert_eq!(code, Some(4), "{log}");
    assert!(
        log.contains("feature level 2") && log.contains("levels up to 1"),
        "{log}"
    );
    assert!(!cluster.data(victim).join("damaged").exists());
    cluster.set_arguments(victim, &[]);
    cluster.start_node(victim);
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_program_stops_before_the_entry_that_it_does_not_understand() {
    let mut cluster = Cluster::prepare("");
    for id in cluster.ids() {
        cluster.set_arguments(id, &OLD);
    }
    cluster.start_all();
    cluster.leader().await;
    let client = cluster.client().await;
    // Node 3 is away with the older program when the others switch: heard of lately, so they may.
    for id in [1, 2, 3] {
        cluster.terminate(id).await;
        cluster.set_arguments(id, &[]);
        cluster.start_node(id);
        eventually("the node is back", LONG, || async {
            cluster.status(id).await?.leader_id
        })
        .await;
    }
    heard_of_all(&client, 2).await;
    cluster.pause(3);
    let switched = client.upgrade(None).await.unwrap();
    assert_eq!(switched, (1, 2));
    cluster.kill(3);
    cluster.set_arguments(3, &OLD);
    cluster.start_node(3);
    let code = eventually("the older program ends", LONG, || {
        let ended = cluster.ended(3);
        async move { ended.map(|status| status.code()) }
    })
    .await;
    let log = cluster.log(3);
    assert_eq!(code, Some(4), "{log}");
    assert!(
        log.contains("needs a program that understands feature level 2"),
        "{log}"
    );
    cluster.set_arguments(3, &[]);
    cluster.start_node(3);
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_cluster_begins_with_what_all_its_members_understand() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    eventually("the level of a new cluster", LONG, || async {
        let info = client.upgrade_info().await.ok()?;
        (info.level == 2).then_some(())
    })
    .await;
    cluster.kill_all();
}

//! A replica whose state differs from the others' is found out and stopped.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use muster_client::{Client, Enqueue, JobId, RawJob};
use muster_core::{Changes, Row};
use muster_store::{Checkpoint, Store, StoreOptions};
use muster_tests::{Cluster, eventually};

const LONG: Duration = Duration::from_secs(40);

async fn enqueue(client: &Client, count: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let job = RawJob::new("echo", &b"payload"[..]);
        ids.push(client.enqueue_raw(job, Enqueue::new()).await.unwrap().id);
    }
    ids
}

/// What no checksum shows: the state of a stopped node with another hash, as a defect of the program would leave it.
fn corrupt(dir: &Path) {
    let store = Store::open(StoreOptions::new(dir)).unwrap();
    let loaded = store.state().load().unwrap();
    let mut rows = loaded.rows.into_iter();
    let meta = rows.find_map(|row| match row {
        Row::Meta(meta) => Some(meta),
        _ => None,
    });
    let mut meta = meta.expect("a state has a meta row");
    meta.hash ^= 1;
    let checkpoint = Checkpoint {
        ahead: Vec::new(),
        changes: Changes {
            put: vec![Row::Meta(meta)],
            delete: Vec::new(),
        },
        ended: Vec::new(),
        applied: loaded.applied,
        membership: loaded.membership,
    };
    store.state().write(checkpoint).unwrap();
    store.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_differs_from_a_majority_ends_and_is_rebuilt_by_one_command() {
    let tables = "\n[raft]\nstate_hash_every = 8\n[store]\nflush_interval = \"200ms\"\n";
    for leads in [false, true] {
        let mut cluster = Cluster::start_with(tables).await;
        let client = cluster.client().await;
        let mut ids = enqueue(&client, 50).await;
        let victim = if leads {
            cluster.leader().await
        } else {
            cluster.follower().await
        };
        cluster.terminate(victim).await;
        corrupt(&cluster.data(victim));
        cluster.start_node(victim);
        let code = eventually("the node ends", LONG, || {
            let ended = cluster.ended(victim);
            async move { ended.map(|status| status.code()) }
        })
        .await;
        let log = cluster.log(victim);
        assert_eq!(code, Some(5), "{log}");
        assert!(log.contains("has hash") && log.contains("a majority has"), "{log}");
        // The others go on.
        ids.extend(enqueue(&client, 20).await);
        // It must not come back as it is.
        let exit = cluster.run_to_exit(&cluster.config(), victim).await;
        assert_eq!(exit.code, Some(4), "{exit:?}");
        assert!(
            exit.stderr.contains(&format!("muster node rebuild --node {victim}")),
            "{exit:?}"
        );
        let rebuilt = cluster
            .muster_beside(&[
                "node",
                "rebuild",
                "--config",
                "cluster-1.toml",
                "--node",
                &victim.to_string(),
            ])
            .await;
        assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
        cluster.start_node(victim);
        eventually("the node is refilled", LONG, || async {
            cluster.log(victim).contains("the data is complete again").then_some(())
        })
        .await;
        cluster.agree().await;
        let at = cluster.client_at(victim).await;
        for id in ids {
            at.get(id).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_it_is_told_and_nobody_ends() {
    let mut cluster = Cluster::start_with("\n[store]\nflush_interval = \"200ms\"\n").await;
    let client = cluster.client().await;
    enqueue(&client, 20).await;
    let (victim, third) = {
        let leader = cluster.leader().await;
        let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        (others[0], others[1])
    };
    cluster.terminate(victim).await;
    cluster.kill(third);
    corrupt(&cluster.data(victim));
    cluster.start_node(victim);
    let leader = cluster.leader().await;
    for id in [victim, leader] {
        eventually("it is told", LONG, || async {
            cluster
                .log(id)
                .contains("no majority says which is right")
                .then_some(())
        })
        .await;
    }
    let ids = enqueue(&client, 5).await;
    for id in [victim, leader] {
        assert_eq!(cluster.ended(id), None);
    }
    // With the third there is a majority, and it is clear who is wrong.
    cluster.start_node(third);
    eventually("the wrong one ends", LONG, || {
        let ended = cluster.ended(victim);
        async move { ended }
    })
    .await;
    for id in ids {
        client.get(id).await.unwrap();
    }
}

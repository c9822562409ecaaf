//! Damaged data directories of real nodes: found, refilled from the others, nothing lost.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use muster_client::{Client, Context, Enqueue, JobError, JobId, JobState, RawJob, RawPayload, Worker};
use muster_tests::{Cluster, damage, eventually};
use tokio::sync::oneshot;

const LONG: Duration = Duration::from_mins(1);

async fn enqueue(client: &Client, count: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let job = RawJob::new("echo", vec![7_u8; 2_000]);
        ids.push(client.enqueue_raw(job, Enqueue::new()).await.unwrap().id);
    }
    ids
}

/// Runs all jobs to their end.
async fn run_all(client: &Client, ids: &[JobId]) {
    let handler = |payload: RawPayload, _: Context| async move { Ok::<_, JobError>(payload.data) };
    let worker = Worker::builder(client)
        .concurrency(64)
        .raw_handler("echo", handler)
        .build()
        .unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        let _ = worker.run_until(async { drop(stopped.await) }).await;
    });
    for id in ids {
        eventually("the job ends", LONG, || async {
            let job = client.get(*id).await.ok()?;
            (job.state == JobState::Succeeded).then_some(())
        })
        .await;
    }
    stop.send(()).unwrap();
    running.await.unwrap();
}

async fn refilled(cluster: &Cluster, node: u64) {
    eventually("the node is refilled", LONG, || async {
        let status = cluster.status(node).await?;
        (!status.storage.refilling && cluster.log(node).contains("the data is complete again")).then_some(())
    })
    .await;
}

async fn all_there(client: &Client, ids: &[JobId]) {
    for id in ids {
        client.get(*id).await.expect("an acknowledged job is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_damaged_data_come_back_by_themselves() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let mut ids = enqueue(&client, 300).await;
    for (what, leads, broken) in [
        ("log of a follower", false, damage::break_log as fn(&std::path::Path)),
        ("log of the leader", true, damage::break_log),
        ("state of the leader", true, damage::break_state),
    ] {
        let leader = cluster.leader().await;
        let victim = if leads { leader } else { cluster.follower().await };
        if what.starts_with("state") {
            // In order, so that the state is flushed.
            cluster.terminate(victim).await;
        } else {
            cluster.kill(victim);
        }
        broken(&cluster.data(victim));
        // The others go on.
        ids.extend(enqueue(&client, 20).await);
        let begun = Instant::now();
        cluster.start_node(victim);
        refilled(&cluster, victim).await;
        println!("{what}: whole again after {:?}", begun.elapsed());
        cluster.agree().await;
        let log = cluster.log(victim);
        assert!(
            log.contains("the data is damaged") && log.contains("does not vote"),
            "{log}"
        );
        eventually("the damaged data goes", LONG, || async {
            (!cluster.data(victim).join("damaged").exists()).then_some(())
        })
        .await;
        // It counts again: with another node away it is needed.
        let leader = cluster.leader().await;
        let third = cluster.ids().into_iter().find(|id| *id != victim && *id != leader);
        let third = third.unwrap();
        cluster.kill(third);
        ids.extend(enqueue(&client, 5).await);
        cluster.start_node(third);
    }
    cluster.agree().await;
    all_there(&client, &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refill_that_is_killed_goes_on() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let ids = enqueue(&client, 200).await;
    let victim = cluster.follower().await;
    cluster.kill(victim);
    damage::break_log(&cluster.data(victim));
    // Killed at every stage: as soon as the old data was put aside, in the middle, near the end.
    for pause in [0, 5, 40, 160] {
        cluster.start_node(victim);
        eventually("the damaged data is put aside", LONG, || async {
            (cluster.data(victim).join("damaged").exists() || !cluster.status(victim).await?.storage.refilling)
                .then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        cluster.kill(victim);
    }
    cluster.start_node(victim);
    eventually("the node is refilled", LONG, || async {
        let status = cluster.status(victim).await?;
        (!status.storage.refilling).then_some(())
    })
    .await;
    cluster.agree().await;
    all_there(&client, &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_votes_must_be_replaced() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let ids = enqueue(&client, 10).await;
    let victim = cluster.follower().await;
    cluster.kill(victim);
    let (data, kept) = (cluster.data(victim), cluster.path().join("kept"));
    damage::copy(&data, &kept);
    damage::break_marks(&data);
    let exit = cluster.run_to_exit(&cluster.config(), victim).await;
    assert_eq!(exit.code, Some(4), "{exit:?}");
    let command = format!("muster cluster replace {victim} NEW_ID");
    assert!(exit.stderr.contains(&command), "{exit:?}");
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
    assert_eq!(rebuilt.code, Some(4), "{rebuilt:?}");
    assert!(rebuilt.stderr.contains(&command), "{rebuilt:?}");

    // An older copy of the whole directory is no better, and nothing in it tells.
    std::fs::remove_dir_all(&data).unwrap();
    damage::copy(&kept, &data);
    cluster.start_node(victim);
    cluster.agree().await;
    all_there(&client, &enqueue(&client, 10).await).await;
    cluster.agree().await;
    cluster.kill(victim);
    all_there(&client, &enqueue(&client, 10).await).await;
    std::fs::remove_dir_all(&data).unwrap();
    damage::copy(&kept, &data);
    let exit = cluster.run_to_exit(&cluster.config(), victim).await;
    assert_eq!(exit.code, Some(4), "{exit:?}");
    assert!(
        exit.stderr.contains("is an older copy") && exit.stderr.contains(&command),
        "{exit:?}"
    );
    all_there(&client, &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_majority_waits_and_throws_nothing_away() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let ids = enqueue(&client, 50).await;
    cluster.kill_all();
    let kept = cluster.path().join("kept");
    for victim in [2, 3] {
        damage::copy(&cluster.data(victim), &kept.join(victim.to_string()));
        damage::break_log(&cluster.data(victim));
    }
    cluster.start_all();
    for victim in [2, 3] {
        eventually("the node says that it waits", LONG, || async {
            cluster
                .log(victim)
                .contains("Nothing has been thrown away")
                .then_some(())
        })
        .await;
    }
    let refused = client
        .enqueue_raw(
            RawJob::new("echo", &b""[..]),
            Enqueue::new().deadline(Duration::from_secs(2)),
        )
        .await;
    assert!(refused.is_err(), "there is no majority: {refused:?}");
    // The disk of one was read wrong: with the right one back, there is a majority that brings the other its data.
    cluster.kill(2);
    std::fs::remove_dir_all(cluster.data(2)).unwrap();
    damage::copy(&kept.join("2"), &cluster.data(2));
    cluster.start_node(2);
    refilled(&cluster, 3).await;
    cluster.agree().await;
    all_there(&client, &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_a_running_node_meets_ends_it_and_the_next_start_refills() {
    let mut cluster = Cluster::start_with("\n[store]\nflush_interval = \"200ms\"\n").await;
    let client = cluster.client().await;
    let ids = enqueue(&client, 300).await;
    run_all(&client, &ids).await;
    // Ended jobs come from disk after a restart.
    for id in cluster.ids() {
        cluster.terminate(id).await;
        cluster.start_node(id);
    }
    cluster.agree().await;
    let victim = cluster.leader().await;
    let data = cluster.data(victim);
    let at = cluster.client_at(victim).await;
    let mut broken = BTreeSet::new();
    let begun = Instant::now();
    let code = eventually("the node ends", LONG, || {
        // Whatever is flushed meanwhile is damaged, too.
        for table in damage::files(&damage::state(&data), &["sst"]) {
            if broken.insert(table.clone()) {
                damage::flip(&table);
            }
        }
        let ended = cluster.ended(victim);
        let (at, id) = (at.clone(), ids[begun.elapsed().subsec_nanos() as usize % ids.len()]);
        async move {
            // Refused, or answered from what is whole: never wrong.
            if let Ok(job) = at.get(id).await {
                assert_eq!(job.state, JobState::Succeeded);
            }
            ended.map(|status| status.code())
        }
    })
    .await;
    assert_eq!(code, Some(5), "{}", cluster.log(victim));
    assert!(cluster.data(victim).join("damage.json").exists());
    assert!(
        cluster.log(victim).contains("its next start refills it"),
        "{}",
        cluster.log(victim)
    );
    cluster.start_node(victim);
    refilled(&cluster, victim).await;
    cluster.agree().await;
    let at = cluster.client_at(victim).await;
    for id in &ids {
        assert_eq!(at.get(*id).await.unwrap().state, JobState::Succeeded);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_can_be_looked_into() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let ids = enqueue(&client, 30).await;
    let victim = cluster.follower().await;
    let data = cluster.data(victim).display().to_string();
    let running = cluster.muster_beside(&["fsck", "--data", &data]).await;
    assert_eq!(running.code, Some(4), "{running:?}");
    assert!(running.stderr.contains("in use by another process"), "{running:?}");
    cluster.agree().await;
    cluster.terminate(victim).await;

    let whole = cluster.muster_beside(&["fsck", "--data", &data]).await;
    assert_eq!(whole.code, Some(0), "{whole:?}");
    assert!(whole.stdout.contains("All that was read is whole."), "{whole:?}");
    let json = cluster.muster_beside(&["fsck", "--data", &data, "-o", "json"]).await;
    let found: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&found["whole"], &found["node"]),
        (&true.into(), &victim.into()),
        "{json:?}"
    );
    let last = found["log"]["last"]["index"].as_u64().unwrap();
    assert!(last >= 30);

    let dump = cluster.muster_beside(&["log", "dump", "--data", &data]).await;
    assert_eq!(dump.code, Some(0), "{dump:?}");
    assert_eq!(
        dump.stdout.lines().count() as u64,
        last + 2,
        "a line for each entry and a head"
    );
    assert!(
        dump.stdout.contains("membership") && dump.stdout.contains("Enqueue"),
        "{dump:?}"
    );
    let json = cluster
        .muster_beside(&[
            "log",
            "dump",
            "--data",
            &data,
            "--from",
            "2",
            "--to",
            &last.to_string(),
            "-o",
            "json",
        ])
        .await;
    let lines: Vec<serde_json::Value> = json
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len() as u64, last - 1);
    // Every job that was acknowledged stands in the log.
    let text = json.stdout.replace('-', "");
    for id in &ids {
        assert!(text.contains(&id.to_string().replace('-', "")), "{id}");
    }

    damage::break_log(&cluster.data(victim));
    let damaged = cluster.muster_beside(&["fsck", "--data", &data]).await;
    assert_eq!(damaged.code, Some(1), "{damaged:?}");
    assert!(
        damaged.stdout.contains("DAMAGE") && damaged.stdout.contains("refills it from the others"),
        "{damaged:?}"
    );
    assert_eq!(
        cluster.muster_beside(&["log", "dump", "--data", &data]).await.code,
        Some(1)
    );
    let nothing = cluster.muster_beside(&["fsck", "--data", "/nonexistent"]).await;
    assert_eq!(nothing.code, Some(4), "{nothing:?}");
    // Looking changed nothing: the node refills itself.
    cluster.start_node(victim);
    refilled(&cluster, victim).await;
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_can_have_a_node_rebuilt() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let ids = enqueue(&client, 50).await;
    let victim = cluster.follower().await;
    let config = format!("cluster-{victim}.toml");
    let number = victim.to_string();
    let command = ["node", "rebuild", "--config", &config, "--node", &number];
    let refused = cluster.muster_beside(&command).await;
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("in use by another process"), "{refused:?}");
    cluster.terminate(victim).await;
    let marked = cluster.muster_beside(&command).await;
    assert_eq!(marked.code, Some(0), "{marked:?}");
    assert!(marked.stdout.contains("muster server --config"), "{marked:?}");
    cluster.start_node(victim);
    refilled(&cluster, victim).await;
    cluster.agree().await;
    all_there(&cluster.client_at(victim).await, &ids).await;
    // Once only.
    cluster.terminate(victim).await;
    cluster.start_node(victim);
    cluster.agree().await;
    assert_eq!(cluster.log(victim).matches("was put aside").count(), 1);
}

//! `muster cluster recover`: what `docs/operations.md` says to type when a majority is gone for good.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use muster_client::{Client, Enqueue, JobState, ListJobs, RawJob};
use muster_tests::{Cluster, RawWorker, eventually, muster};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(40);

/// A worker that takes one job and keeps it.
async fn hold(address: &str) -> RawWorker {
    let worker = RawWorker::open(address, "default", "held", 600 * SECOND).await;
    worker.credit(1).await;
    worker
}

fn job(kind: &str) -> RawJob {
    RawJob::new(kind, &b"payload"[..])
}

async fn ids(client: &Client) -> BTreeSet<String> {
    let filter = ListJobs {
        page_size: 1_000,
        ..ListJobs::default()
    };
    let page = client.list(&filter).await.unwrap();
    page.jobs.into_iter().map(|job| job.id).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Refused with a text that has `part`, and the directory as it was.
async fn refused(cluster: &Cluster, arguments: &[&str], part: &str) {
    let file = cluster.config_file(1).display().to_string();
    let recover = ["cluster", "recover", "--config", &file, "--node", "1"];
    let ran = muster(&[&recover[..], arguments].concat(), &[]).await;
    assert!(
        ran.code == Some(1) && ran.stderr.contains(part),
        "{arguments:?}: {ran:?}"
    );
    let beside = std::fs::read_dir(cluster.path()).unwrap();
    let left: Vec<_> = beside
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("node-1."))
        .filter(|name| name != "node-1.log")
        .collect();
    assert!(left.is_empty(), "{arguments:?}: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_lost_its_majority_goes_on_with_what_is_left() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let mut acknowledged = BTreeSet::new();
    for _ in 0..200 {
        let enqueued = client.enqueue_raw(job("keep"), Enqueue::new()).await.unwrap();
        acknowledged.insert(enqueued.id.to_string());
    }
    let held = client.enqueue_raw(job("held"), Enqueue::new()).await.unwrap();
    acknowledged.insert(held.id.to_string());
    let mut worker = hold(&cluster.address(1)).await;
    let lease = worker.job(LONG).await;
    cluster.agree().await;
    let old_id = client.cluster_status().await.unwrap().cluster_id;

    refused(&cluster, &["--lost", "2,3"], "the node runs").await;
    cluster.kill_all();
    drop(client);
    refused(&cluster, &["--lost", "3"], "are a majority").await;
    refused(&cluster, &["--lost", "2,3,4"], "node 4 is not a member").await;
    refused(&cluster, &["--lost", "1,2"], "cannot be lost and survive").await;
    // What only the old majority knows, and node 1 never hears of.
    let spare = [2, 3].map(|id| (id, cluster.path().join(format!("spare-{id}"))));
    cluster.start_node(2);
    refused(&cluster, &["--lost", "2,3"], "node 2 answers").await;
    cluster.start_node(3);
    cluster.leader().await;
    refused(&cluster, &["--lost", "2,3"], "it is not lost").await;
    let client = cluster.client_at(2).await;
    let alone = client.enqueue_raw(job("keep"), Enqueue::new()).await.unwrap();
    drop(client);
    cluster.kill_all();
    for (id, spare) in &spare {
        copy(&cluster.data(*id), spare);
        std::fs::remove_dir_all(cluster.data(*id)).unwrap();
    }

    let file = cluster.config_file(1).display().to_string();
    let recover = ["cluster", "recover", "-o", "json", "--config", &file, "--node", "1"];
    let inspected = muster(&[&recover[..], &["--inspect"]].concat(), &[]).await.json();
    assert_eq!(
        (inspected["live_jobs"].as_u64(), &inspected["voters"]),
        (Some(201), &serde_json::json!([1, 2, 3]))
    );
    let dry = muster(&[&recover[..], &["--lost", "2,3", "--dry-run"]].concat(), &[])
        .await
        .json();
    assert!(dry["cluster"].is_null() && dry["kept"].is_null(), "{dry}");
    let recovered = muster(&[&recover[..], &["--lost", "2,3"]].concat(), &[]).await.json();
    let lost_above = inspected["log_index"].as_u64().unwrap();
    assert!(
        recovered["possibly_lost"]
            .as_str()
            .unwrap()
            .contains(&lost_above.to_string()),
        "{recovered}"
    );
    let kept = recovered["kept"].as_str().unwrap();
    assert!(
        Path::new(kept).join("identity.json").exists(),
        "the old directory is kept"
    );

    cluster.start_node(1);
    let client = cluster.client_at(1).await;
    let status = eventually("node 1 leads alone", LONG, || async {
        let status = client.cluster_status().await.ok()?;
        (status.leader_id == Some(1)).then_some(status)
    })
    .await;
    assert!(status.cluster_id != old_id && Some(status.cluster_id.as_str()) == recovered["cluster"].as_str());
    assert_eq!(status.members.len(), 1);
    assert_eq!(
        ids(&client).await,
        acknowledged,
        "all that node 1 had; job {} was never on it",
        alone.id
    );
    let again = client.get(held.id).await.unwrap();
    assert_eq!((again.state, again.attempts), (JobState::Available, 0));
    let mut worker = hold(&cluster.address(1)).await;
    let renewed = worker.job(LONG).await;
    assert!(renewed.fence > lease.fence);
    client.enqueue_raw(job("keep"), Enqueue::new()).await.unwrap();

    // The lost nodes come back: first one that finds the successor at its start, then two that find it while they run.
    for (id, spare) in &spare {
        copy(spare, &cluster.data(*id));
    }
    let config = cluster.config();
    let exit = cluster.run_to_exit(&config, 2).await;
    assert!(
        exit.code == Some(4) && exit.stderr.contains("was recovered as cluster"),
        "{exit:?}"
    );
    cluster.kill(1);
    cluster.start_node(2);
    cluster.start_node(3);
    cluster.leader().await;
    cluster.start_node(1);
    for id in [2, 3] {
        let status = eventually("a superseded node ends", LONG, || {
            let ended = cluster.ended(id);
            async move { ended }
        })
        .await;
        assert_eq!(status.code(), Some(4), "{}", cluster.log(id));
        assert!(cluster.log(id).contains("was recovered as cluster"));
    }
    let client = cluster.client_at(1).await;
    eventually("node 1 leads alone", LONG, || async {
        let status = client.cluster_status().await.ok()?;
        (status.leader_id == Some(1)).then_some(())
    })
    .await;
    client.enqueue_raw(job("keep"), Enqueue::new()).await.unwrap();

    // New nodes make it bear a loss again; ids of the lost ones stay used.
    for id in [2, 3] {
        cluster.forget(id);
    }
    cluster.prepare_node(4);
    let token = cluster.muster("cluster token create --node 4").await.good();
    cluster.start_joining(4, token.stdout.trim());
    eventually("node 4 votes", LONG, || async {
        let status = cluster.status(1).await?;
        let member = status.members.iter().find(|member| member.node_id == 4)?;
        (member.role == "follower").then_some(())
    })
    .await;
    cluster.agree().await;
    cluster
        .muster("cluster token create --node 2")
        .await
        .bad(&["NODE_ID_USED", "5"]);
}

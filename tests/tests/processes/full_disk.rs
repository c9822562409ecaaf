//! Disks that fill up: writes are refused in words, reads go on, and it ends by itself when there is room.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use muster_client::{Client, Code, Enqueue, JobId, JobState, RawJob};
use muster_tests::{Cluster, SmallDisk, eventually};

const LONG: Duration = Duration::from_secs(40);
const SIZE: u64 = 640 << 20;
const TABLES: &str = "\n[store]\ndisk_reserve = \"64MiB\"\nflush_interval = \"2s\"\n";

/// A cluster whose nodes have a disk of their own each.
struct Small {
    // First: the nodes must end before their disks go.
    cluster: Cluster,
    disks: Vec<SmallDisk>,
}

impl Small {
    async fn start() -> Option<Self> {
        if let Some(need) = SmallDisk::lacking() {
            eprintln!("skipped: needs {need}");
            return None;
        }
        let mut cluster = Cluster::prepare(TABLES);
        let disks = cluster
            .ids()
            .iter()
            .map(|id| SmallDisk::mount(&cluster.data(*id), SIZE))
            .collect();
        cluster.start_all();
        cluster.leader().await;
        Some(Self { cluster, disks })
    }

    fn fill(&self, ids: &[u64]) {
        for id in ids {
            self.disks[*id as usize - 1].fill();
        }
    }

    fn free(&self, ids: &[u64]) {
        for id in ids {
            self.disks[*id as usize - 1].free();
        }
    }

    async fn wait_for_room(&self, id: u64, room: &str) {
        eventually("the node sees its room", LONG, || async {
            (self.cluster.status(id).await?.storage.room == room).then_some(())
        })
        .await;
    }

    fn all_run(&mut self) {
        for id in self.cluster.ids() {
            assert_eq!(
                self.cluster.ended(id),
                None,
                "node {id} ended: {}",
                self.cluster.log(id)
            );
        }
    }
}

async fn enqueue(client: &Client, deadline: Duration) -> muster_client::Result<JobId> {
    let job = RawJob::new("echo", vec![7_u8; 1_000]);
    let enqueued = client.enqueue_raw(job, Enqueue::new().deadline(deadline)).await?;
    Ok(enqueued.id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_one_node_stops_nobody() {
    let Some(mut small) = Small::start().await else { return };
    let client = small.cluster.client().await;
    let mut ids = vec![enqueue(&client, LONG).await.unwrap()];
    for leads in [true, false] {
        let leader = small.cluster.leader().await;
        let victim = if leads { leader } else { small.cluster.follower().await };
        small.fill(&[victim]);
        small.wait_for_room(victim, "out").await;
        // A leader without room hands over; the others go on.
        eventually("another leads", LONG, || async {
            let status = small.cluster.status(victim).await?;
            (status.leader_id.is_some() && status.leader_id != Some(victim)).then_some(())
        })
        .await;
        for _ in 0..50 {
            ids.push(enqueue(&client, LONG).await.unwrap());
        }
        small.all_run();
        small.free(&[victim]);
        let begun = Instant::now();
        small.cluster.agree().await;
        println!(
            "node {victim} takes part again {:?} after there was room",
            begun.elapsed()
        );
        small.all_run();
    }
    for id in ids {
        client.get(id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disks_of_a_majority_refuse_writes_serve_reads_and_recover() {
    let Some(mut small) = Small::start().await else { return };
    let client = small.cluster.client().await;
    let mut ids = Vec::new();
    for round in 0..3 {
        for _ in 0..20 {
            ids.push(enqueue(&client, LONG).await.unwrap());
        }
        let leader = small.cluster.leader().await;
        let mut full = small.cluster.ids();
        match round {
            0 => full.retain(|id| *id != leader),
            1 => {
                full.retain(|id| *id != leader);
                full.pop();
                full.push(leader);
            }
            _ => {}
        }
        small.fill(&full);
        for id in &full {
            small.wait_for_room(*id, "out").await;
        }
        let refused = eventually("a refusal that says why", LONG, || async {
            match enqueue(&client, Duration::from_millis(300)).await {
                Ok(id) => panic!("{id} was accepted without room on {full:?}"),
                Err(error) => error.reason().filter(|reason| reason.reason == "DISK_FULL").cloned(),
            }
        })
        .await;
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert!(
            refused.retry_after.is_some() && refused.message.contains("disks"),
            "{refused:?}"
        );
        for id in ids.iter().rev().take(5) {
            assert_eq!(client.get(*id).await.unwrap().state, JobState::Available);
        }
        // Longer than the state goes unflushed: no flush may end a node now.
        tokio::time::sleep(Duration::from_secs(3)).await;
        small.all_run();
        small.free(&full);
        let begun = Instant::now();
        ids.push(enqueue(&client, LONG).await.unwrap());
        println!(
            "full {full:?}: the first job is accepted {:?} after there was room",
            begun.elapsed()
        );
        small.all_run();
        small.cluster.agree().await;
    }
    for id in ids {
        client.get(id).await.unwrap();
    }
}

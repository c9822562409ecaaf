//! What operating a cluster costs, with many jobs queued: restarts, snapshots, backups. On a cluster of our own alone,
//! since nodes are killed.

pub(crate) mod backup;
pub(crate) mod load;
pub(crate) mod restart;
pub(crate) mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use muster_client::{Client, RawJob};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Bench, bar, payload, to};
use crate::cluster::Cluster;

/// Longest wait for a node or a cluster to be back.
const BACK: Duration = Duration::from_mins(5);
/// Jobs in one call while a queue is filled.
const BATCH: u64 = 1_000;
const LANES: u64 = 8;

/// Settings under which these scenarios make sense: a short log, so that purges and snapshots happen, and backups.
pub(crate) fn tables(dir: &std::path::Path) -> String {
    format!(
        "\n[raft]\nlog_keep_bytes = \"4MiB\"\n\n[backup]\nurl = '{}'\nunsigned = true\ninterval = \"0s\"\n",
        dir.join("backups").display()
    )
}

impl Bench {
    /// Sees to it that so many jobs are queued that nobody takes.
    pub(crate) async fn fill(&self, jobs: u64) -> Result<()> {
        let status = self
            .client
            .cluster_status()
            .await
            .context("asking how many jobs wait")?;
        let missing = jobs.saturating_sub(status.available);
        let bar = bar("filling the queue", missing);
        let left = Arc::new(std::sync::atomic::AtomicU64::new(missing));
        let mut lanes = JoinSet::new();
        for _ in 0..LANES {
            let (client, left, bar, bytes) = (self.client.clone(), left.clone(), bar.clone(), self.args.payload_bytes);
            lanes.spawn(async move {
                loop {
                    let take = |left: u64| (left > 0).then(|| left.saturating_sub(BATCH));
                    use std::sync::atomic::Ordering::Relaxed;
                    let Ok(before) = left.fetch_update(Relaxed, Relaxed, take) else {
                        return Ok::<_, anyhow::Error>(());
                    };
                    let items = (0..before.min(BATCH)).map(|at| (noise(bytes, before + at), to("bench-backlog")));
                    for result in client.enqueue_many_raw(items).await {
                        result.context("filling the queue")?;
                    }
                    bar.inc(before.min(BATCH));
                }
            });
        }
        while let Some(lane) = lanes.join_next().await {
            lane.context("joining a caller")??;
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// A payload that cannot be compressed: what is stored is as large as it looks.
fn noise(bytes: u32, seed: u64) -> RawJob {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    RawJob::new(
        super::KIND,
        std::iter::repeat_with(next).take(bytes as usize).collect::<Vec<_>>(),
    )
}

/// The cluster that these scenarios need.
pub(crate) fn own(cluster: Option<&mut Cluster>) -> Result<&mut Cluster> {
    let Some(cluster) = cluster else {
        bail!("this scenario kills nodes: it needs --spawn")
    };
    ensure!(cluster.addresses.len() >= 3, "this scenario needs at least three nodes");
    Ok(cluster)
}

/// A client of one node alone.
fn client_of(address: &str) -> Result<Client> {
    let builder = Client::builder().addresses([address]).deadline(Duration::from_secs(1));
    Ok(builder.connect_lazy()?)
}

/// Number of a node that does not lead, from 0.
async fn follower(bench: &Bench) -> Result<usize> {
    let leader = bench
        .client
        .cluster_status()
        .await
        .context("asking for the leader")?
        .leader_id;
    Ok(usize::from(leader == Some(1)))
}

/// Waits until a node has applied an entry.
pub(crate) async fn until_applied(address: &str, index: u64) -> Result<()> {
    let client = client_of(address)?;
    let deadline = Instant::now() + BACK;
    loop {
        if let Ok(status) = client.node_status(address).await
            && status.applied_index >= index
        {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{address} did not reach log index {index} within {BACK:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a call is acknowledged by a cluster.
async fn until_acknowledged(addresses: &[String]) -> Result<()> {
    let client = Client::builder().addresses(addresses).deadline(BACK).connect_lazy()?;
    let now = Instant::now();
    let first = client.enqueue_raw(payload(32, now, now), to("bench-first")).await;
    first.map(drop).context("waiting for the first acknowledgement")
}

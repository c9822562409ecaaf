//! Nodes that are killed and started again with a long queue.

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::{follower, own, until_acknowledged, until_applied};
use crate::cluster::Cluster;
use crate::report::Operation;
use crate::scenario::Bench;

const TIMES: usize = 5;

pub(crate) async fn run(bench: &mut Bench, cluster: Option<&mut Cluster>) -> Result<Vec<Operation>> {
    let cluster = own(cluster)?;
    bench.fill(bench.args.jobs).await?;
    let mut one = Operation::new("one node: from its start until it has caught up", "s");
    for _ in 0..TIMES {
        let node = follower(bench).await?;
        let status = bench
            .client
            .cluster_status()
            .await
            .context("asking for the log's end")?;
        cluster.kill(node)?;
        let begun = Instant::now();
        cluster.spawn(node)?;
        until_applied(&cluster.addresses[node], status.applied_index).await?;
        one.values.push(begun.elapsed().as_secs_f64());
    }
    let mut all = Operation::new(
        "all nodes at once: from their start until the first acknowledgement",
        "s",
    );
    for _ in 0..TIMES {
        for node in 0..cluster.addresses.len() {
            cluster.kill(node)?;
        }
        let begun = Instant::now();
        for node in 0..cluster.addresses.len() {
            cluster.spawn(node)?;
        }
        until_acknowledged(&cluster.addresses).await?;
        all.values.push(begun.elapsed().as_secs_f64());
    }
    bench.reconnect(cluster.pids()).await?;
    Ok(vec![one, all])
}

//! A node that missed what was purged gets a snapshot, under load; and what purges do to the load.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::Instant;

use super::load::Load;
use super::{follower, own, until_applied};
use crate::cluster::Cluster;
use crate::report::Operation;
use crate::scenario::Bench;

const TIMES: usize = 3;
/// Calls a second meanwhile.
const RATE: u32 = 500;
/// A span of quiet for comparison.
const SPAN: Duration = Duration::from_secs(10);
/// Jobs by which a node falls behind: more log than is kept.
const BEHIND: u64 = 150_000;

pub(crate) async fn run(bench: &mut Bench, cluster: Option<&mut Cluster>) -> Result<Vec<Operation>> {
    let cluster = own(cluster)?;
    bench.fill(bench.args.jobs).await?;
    let p99 = |when: &str| Operation::new(&format!("p99 of enqueue at {RATE}/s, {when}"), "ms");
    let mut install = Operation::new(
        "from the start of a node until it has the snapshot and has caught up",
        "s",
    );
    let (mut before, mut during, mut after) = (
        p99("before the snapshot"),
        p99("while a snapshot is sent and installed"),
        p99("after it"),
    );
    let mut received = 0;
    for _ in 0..TIMES {
        let node = follower(bench).await?;
        cluster.kill(node)?;
        let purged = purges(cluster);
        let target = bench.args.jobs + BEHIND;
        let queued = bench
            .client
            .cluster_status()
            .await
            .context("asking how many jobs wait")?
            .available;
        bench.fill(target.max(queued + BEHIND)).await?;
        let deadline = Instant::now() + super::BACK;
        while purges(cluster) <= purged {
            ensure!(Instant::now() < deadline, "no node purged its log");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let load = Load::start(bench, RATE);
        tokio::time::sleep(SPAN / 5).await;
        let quiet = Instant::now();
        tokio::time::sleep(SPAN).await;
        let status = bench
            .client
            .cluster_status()
            .await
            .context("asking for the log's end")?;
        let begun = Instant::now();
        cluster.spawn(node)?;
        until_applied(&cluster.addresses[node], status.applied_index).await?;
        let ended = Instant::now();
        tokio::time::sleep(SPAN).await;
        install.values.push((ended - begun).as_secs_f64());
        before.add_p99(load.between(quiet, begun)?);
        during.add_p99(load.between(begun, ended)?);
        after.add_p99(load.between(ended, ended + SPAN)?);
        load.stop().await;
        received += usize::from(cluster.log_text(node).contains("snapshot received"));
    }
    ensure!(received > 0, "no node got a snapshot: none was needed");
    let purge = purge(bench, cluster).await?;
    bench.reconnect(cluster.pids()).await?;
    Ok([vec![install, before, during, after], purge].concat())
}

/// Seconds in which some node purged its log, against the others.
async fn purge(bench: &Bench, cluster: &Cluster) -> Result<Vec<Operation>> {
    let load = Load::start(bench, 4 * RATE);
    let (mut with, mut without) = (
        Operation::new(
            &format!("p99 of enqueue at {}/s, in seconds with a purge of the log", 4 * RATE),
            "ms",
        ),
        Operation::new("the same, in other seconds", "ms"),
    );
    tokio::time::sleep(SPAN / 5).await;
    let mut seconds = Vec::new();
    let mut count = purges(cluster);
    for _ in 0..60 {
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = purges(cluster);
        seconds.push((begun, now > count));
        count = now;
    }
    tokio::time::sleep(SPAN / 5).await;
    for (begun, purged) in seconds {
        let figures = load.between(begun, begun + Duration::from_secs(1))?;
        if purged { &mut with } else { &mut without }.add_p99(figures);
    }
    load.stop().await;
    Ok(vec![with, without])
}

fn purges(cluster: &Cluster) -> usize {
    let nodes = 0..cluster.addresses.len();
    nodes
        .map(|node| cluster.log_text(node).matches("the log is purged").count())
        .sum()
}

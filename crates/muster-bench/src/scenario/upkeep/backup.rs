//! Backups under load, and the way back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::time::Instant;

use super::load::Load;
use super::{own, until_acknowledged};
use crate::cluster::Cluster;
use crate::report::Operation;
use crate::scenario::Bench;

const TIMES: usize = 3;
/// Calls a second meanwhile.
const RATE: u32 = 500;
/// A span of quiet for comparison.
const SPAN: Duration = Duration::from_secs(10);
const MIB: f64 = 1_048_576.0;

pub(crate) async fn run(bench: &mut Bench, cluster: Option<&mut Cluster>) -> Result<Vec<Operation>> {
    let cluster = own(cluster)?;
    bench.fill(bench.args.jobs).await?;
    let p99 = |when: &str| Operation::new(&format!("p99 of enqueue at {RATE}/s, {when}"), "ms");
    let (mut before, mut during, mut after) = (p99("before a backup"), p99("while a backup is made"), p99("after it"));
    let mut took = Operation::new(
        "a backup, from the call to the answer (the first sends everything)",
        "s",
    );
    let mut size = Operation::new("size of a backup", "MiB");
    let mut sent = Operation::new("of which sent", "MiB");
    let load = Load::start(bench, RATE);
    for _ in 0..TIMES {
        tokio::time::sleep(SPAN / 5).await;
        let quiet = Instant::now();
        tokio::time::sleep(SPAN).await;
        let begun = Instant::now();
        let backup = bench.client.create_backup(|_| ()).await.context("making a backup")?;
        let ended = Instant::now();
        tokio::time::sleep(SPAN).await;
        took.values.push((ended - begun).as_secs_f64());
        size.values.push(backup.bytes as f64 / MIB);
        sent.values.push(backup.new_bytes as f64 / MIB);
        before.add_p99(load.between(quiet, begun)?);
        during.add_p99(load.between(begun, ended)?);
        after.add_p99(load.between(ended, ended + SPAN)?);
    }
    load.stop().await;
    let status = bench
        .client
        .cluster_status()
        .await
        .context("asking for the log's end")?;
    let deadline = Instant::now() + super::BACK;
    loop {
        let archive = bench
            .client
            .backup_status()
            .await
            .context("asking for the archive")?
            .archive;
        if archive.is_some_and(|archive| archive.archived_index >= status.applied_index) {
            break;
        }
        ensure!(Instant::now() < deadline, "the log is not archived");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut verify = Operation::new("muster backup verify", "s");
    let mut restore = Operation::new("muster backup restore of one node", "s");
    let mut serve = Operation::new("restored nodes: from their start until the first acknowledgement", "s");
    // Machines restore at the same time, each its own directory: one counts.
    for time in 0..TIMES {
        verify
            .values
            .push(muster(cluster, &["backup", "verify"], &cluster.config()).await?);
        let config = cluster.restored_config(time)?;
        restore
            .values
            .push(muster(cluster, &["backup", "restore", "--node", "1"], &config).await?);
    }
    let config = cluster.restored_config(TIMES)?;
    muster(cluster, &["backup", "restore", "--all-nodes"], &config).await?;
    cluster.switch_to(&config)?;
    let begun = Instant::now();
    for node in 0..cluster.addresses.len() {
        cluster.spawn(node)?;
    }
    until_acknowledged(&cluster.addresses).await?;
    serve.values.push(begun.elapsed().as_secs_f64());
    bench.reconnect(cluster.pids()).await?;
    Ok(vec![took, size, sent, before, during, after, verify, restore, serve])
}

/// Runs a command of the program that the nodes run; returns how long it took in seconds.
async fn muster(cluster: &Cluster, arguments: &[&str], config: &std::path::Path) -> Result<f64> {
    let begun = Instant::now();
    let output = Command::new(cluster.server())
        .args(arguments)
        .arg("--config")
        .arg(config)
        .args(["-o", "json"])
        .output()
        .await
        .context("running muster")?;
    let took = begun.elapsed().as_secs_f64();
    ensure!(
        output.status.success(),
        "muster {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(took)
}

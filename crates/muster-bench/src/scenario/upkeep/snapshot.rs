//! A node that missed what was purged gets a snapshot, under load; and what purges do to the load.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use tokio::time::Instant;

use super::load::Load;
use super::{follower, own, until_applied};
use crate::cluster::Cluster;
use crate::report::Operation;
use crate::scenario::{Bench, bar};

const TIMES: usize = 3;
/// Calls a second meanwhile.
const RATE: u32 = 500;
/// A span of quiet for comparison.
const SPAN: Duration = Duration::from_secs(10);
/// Spans in which calls that meet purges are compared with calls at other moments.
const SPANS: u32 = 18;
/// The windows of purges are moved by so many milliseconds, for comparison.
const SHIFTS: [u64; 4] = [200, 400, 600, 800];
/// What a node logs when it has built a snapshot and purged its log.
const PURGED: &str = "the log is purged";
/// Jobs by which a node falls behind: more log than is kept.
const BEHIND: u64 = 150_000;

/// From when to when.
type Window = (Instant, Instant);

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

/// Calls that were under way while some node built a snapshot and purged its log, against those that were under way in
/// windows of the same lengths at other moments of the same span. Not against all others: the longer a call takes, the
/// likelier it meets a window, whatever happens in it.
async fn purge(bench: &Bench, cluster: &Cluster) -> Result<Vec<Operation>> {
    let load = Load::start(bench, 4 * RATE);
    let p99 = |which: &str| Operation::new(&format!("p99 of enqueue at {}/s, {which}", 4 * RATE), "ms");
    let (mut with, mut elsewhere) = (
        p99("calls while a node builds a snapshot and purges"),
        p99("calls in windows as long when no node does"),
    );
    let mut part = Operation::new("part of the time in which a node does", "%");
    tokio::time::sleep(SPAN / 5).await;
    let anchor = (Instant::now(), Timestamp::now());
    let bar = bar("spans of calls beside purges", SPANS.into());
    for _ in 0..SPANS {
        tokio::time::sleep(SPAN).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
    tokio::time::sleep(SPAN / 5).await;
    let windows = purge_windows(cluster, anchor)?;
    let moved = windows
        .iter()
        .flat_map(|(from, to)| SHIFTS.map(Duration::from_millis).map(|by| (*from + by, *to + by)));
    let moved: Vec<Window> = moved.filter(|(from, to)| !meets(&windows, *from, *to)).collect();
    for span in 0..SPANS {
        let from = anchor.0 + SPAN * span;
        let own = |due: Instant| (from..from + SPAN).contains(&due);
        with.add_p99(load.of(|due, took| own(due) && meets(&windows, due, due + took))?);
        elsewhere.add_p99(load.of(|due, took| own(due) && meets(&moved, due, due + took))?);
        let millis = SPAN.as_millis() as u64;
        let covered = (0..millis).map(|at| from + Duration::from_millis(at));
        let covered = covered.filter(|at| meets(&windows, *at, *at)).count();
        part.values.push(100.0 * covered as f64 / millis as f64);
    }
    load.stop().await;
    Ok(vec![with, elsewhere, part])
}

/// Whether a span of time has a moment in common with one of these.
fn meets(windows: &[Window], begun: Instant, ended: Instant) -> bool {
    windows.iter().any(|(from, to)| begun <= *to && ended >= *from)
}

/// When purges began and ended that ended after a moment, which is given by both clocks.
fn purge_windows(cluster: &Cluster, anchor: (Instant, Timestamp)) -> Result<Vec<Window>> {
    let mut windows = Vec::new();
    for node in 0..cluster.addresses.len() {
        let text = cluster.log_text(node);
        for line in text.lines().filter(|line| line.contains(PURGED)) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ended: Timestamp = words.first().context("a line of the log without time")?.parse()?;
            let took = words.iter().find_map(|word| word.strip_prefix("took_ms="));
            let took: u64 = took.context("a purge that does not say how long it took")?.parse()?;
            // Those before the moment are of no use here.
            let Ok(after) = Duration::try_from(ended.duration_since(anchor.1)) else {
                continue;
            };
            let ended = anchor.0 + after;
            windows.push((ended - Duration::from_millis(took), ended));
        }
    }
    Ok(windows)
}

fn purges(cluster: &Cluster) -> usize {
    let nodes = 0..cluster.addresses.len();
    nodes.map(|node| cluster.log_text(node).matches(PURGED).count()).sum()
}

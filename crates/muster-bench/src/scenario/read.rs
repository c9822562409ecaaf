//! Callers that each await one read before the next: what a linearizable one costs more than a stale one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use muster_client::{Client, JobId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Bench, Budget, bar, payload, to};
use crate::measure::Times;
use crate::report::Figures;

/// Measures reads of one job with so many callers.
pub(crate) async fn run(bench: &mut Bench, callers: u32, stale: bool) -> Result<Figures> {
    let queue = bench.queue();
    let how = if stale { "stale read" } else { "read" };
    let name = format!("{how}, {callers} callers");
    let bar = bar(&name, bench.args.jobs);
    let epoch = Instant::now();
    let job = payload(bench.args.payload_bytes, epoch, epoch);
    let job = bench
        .client
        .enqueue_raw(job, to(&queue))
        .await
        .context("enqueueing a job")?;
    // All nodes have it.
    while stale && bench.client.stale().get(job.id).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let meter = bench.meter(name).await?;
    let budget = bench.budget();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (client, budget, bar) = (bench.client.clone(), Arc::clone(&budget), bar.clone());
        tasks.spawn(caller(client, budget, job.id, stale, bar));
    }
    let (mut reads, mut errors, mut last_error, mut all) = (0, 0, None, Times::new()?);
    while let Some(done) = tasks.join_next().await {
        let (times, error) = done.context("joining a caller")?;
        reads += times.len() as u64;
        for time in times {
            all.add(time);
        }
        if error.is_some() {
            errors += 1;
            last_error = error;
        }
    }
    if let (0, Some(error)) = (reads, last_error) {
        bail!("no read was answered: {error}");
    }
    let figures = meter.end(reads, errors, all.quantiles(), None).await?;
    bar.finish_and_clear();
    bench.empty(&queue, 1).await?;
    Ok(figures)
}

/// Ends at its first error.
async fn caller(
    client: Client,
    budget: Arc<Budget>,
    job: JobId,
    stale: bool,
    bar: ProgressBar,
) -> (Vec<Duration>, Option<muster_client::Error>) {
    let mut times = Vec::new();
    while budget.take(1) {
        let begin = Instant::now();
        let answer = if stale {
            client.stale().get(job).await.map(drop)
        } else {
            client.get(job).await.map(drop)
        };
        if let Err(error) = answer {
            return (times, Some(error));
        }
        times.push(begin.elapsed());
        if times.len().is_multiple_of(64) {
            bar.inc(64);
        }
    }
    (times, None)
}

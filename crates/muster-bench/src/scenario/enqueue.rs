//! Callers that each await the acknowledgement of one job before they enqueue the next.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use muster_client::Client;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Bench, Budget, bar, payload, to};
use crate::measure::Times;
use crate::report::Figures;

/// What callers did.
pub(super) struct Enqueued {
    pub(super) jobs: u64,
    pub(super) errors: u64,
    pub(super) times: Times,
}

pub(crate) async fn run(bench: &mut Bench, callers: u32) -> Result<Figures> {
    let queue = bench.queue();
    let name = format!("enqueue, {callers} callers");
    let bar = bar(&name, bench.args.jobs);
    let epoch = Instant::now();
    // Opens the stream.
    let warm_up = bench
        .client
        .enqueue_raw(payload(bench.args.payload_bytes, epoch, epoch), to(&queue))
        .await;
    warm_up.context("enqueueing a first job")?;
    let meter = bench.meter(name).await?;
    let done = call(bench, &bench.budget(), callers, &queue, epoch, &bar).await?;
    let figures = meter.end(done.jobs, done.errors, done.times.quantiles(), None).await?;
    bar.finish_and_clear();
    bench.empty(&queue, done.jobs + 1).await?;
    Ok(figures)
}

/// Enqueues with so many callers until the budget is used up. Payloads carry the time since `epoch`.
pub(super) async fn call(
    bench: &Bench,
    budget: &Arc<Budget>,
    callers: u32,
    queue: &str,
    epoch: Instant,
    bar: &ProgressBar,
) -> Result<Enqueued> {
    let queue: Arc<str> = queue.into();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let caller = caller(
            bench.client.clone(),
            Arc::clone(budget),
            bench.args.payload_bytes,
            Arc::clone(&queue),
            epoch,
            bar.clone(),
        );
        tasks.spawn(caller);
    }
    let mut all = Enqueued {
        jobs: 0,
        errors: 0,
        times: Times::new()?,
    };
    let mut last_error = None;
    while let Some(done) = tasks.join_next().await {
        let (times, error) = done.context("joining a caller")?;
        all.jobs += times.len() as u64;
        for time in times {
            all.times.add(time);
        }
        if error.is_some() {
            all.errors += 1;
            last_error = error;
        }
    }
    match last_error {
        Some(error) if all.jobs == 0 => bail!("no job was accepted: {error}"),
        _ => Ok(all),
    }
}

/// Ends at its first error: one that persists would otherwise only fill the time.
async fn caller(
    client: Client,
    budget: Arc<Budget>,
    bytes: u32,
    queue: Arc<str>,
    epoch: Instant,
    bar: ProgressBar,
) -> (Vec<std::time::Duration>, Option<muster_client::Error>) {
    let mut times = Vec::new();
    while budget.take(1) {
        let begin = Instant::now();
        if let Err(error) = client
            .enqueue_raw(payload(bytes, epoch, Instant::now()), to(&queue))
            .await
        {
            return (times, Some(error));
        }
        times.push(begin.elapsed());
        if times.len().is_multiple_of(64) {
            bar.inc(64);
        }
    }
    (times, None)
}

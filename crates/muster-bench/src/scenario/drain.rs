//! Workers that empty a queue of no-op jobs.

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::{Bench, Runner, bar, payload, to};
use crate::report::Figures;

/// Jobs of one call while the queue is filled.
const FILL: u64 = 1_000;
/// More would measure the filling.
const JOBS_MAX: u64 = 100_000;

pub(crate) async fn run(bench: &mut Bench) -> Result<Figures> {
    let queue = bench.queue();
    let (workers, bytes) = (bench.args.workers, bench.args.payload_bytes);
    let jobs = bench.args.jobs.min(JOBS_MAX);
    let filling = bar("filling a queue", jobs);
    let epoch = Instant::now();
    let mut filled = 0;
    while filled < jobs {
        let count = FILL.min(jobs - filled);
        let items = (0..count).map(|_| (payload(bytes, epoch, Instant::now()), to(&queue)));
        for result in bench.client.enqueue_many_raw(items).await {
            result.context("filling the queue")?;
        }
        filled += count;
        filling.set_position(filled);
    }
    filling.finish_and_clear();
    let name = format!("drain, {workers} workers");
    let bar = bar(&name, jobs);
    let meter = bench.meter(name).await?;
    let runner = Runner::start(bench, &queue, workers, |_, _| {}).await?;
    runner.until_succeeded(jobs, &bar).await?;
    let figures = meter.end(jobs, 0, None, None).await?;
    bar.finish_and_clear();
    runner.stop().await?;
    Ok(figures)
}

//! Time from the call to the start of the handler, at a rate that the cluster can well hold.

use anyhow::Result;
use tokio::time::Instant;

use super::pace::pace;
use super::{Bench, Runner, Starts, bar};
use crate::report::Figures;

pub(crate) async fn run(bench: &mut Bench, rate: u32) -> Result<Figures> {
    let queue = bench.queue();
    let name = format!("start, {rate}/s");
    let bar = bar(&name, bench.args.jobs.min(u64::from(rate) * bench.args.seconds));
    let epoch = Instant::now();
    let starts = Starts::new(epoch)?;
    let seen = starts.clone();
    let runner = Runner::start(bench, &queue, bench.args.workers, move |payload, _| seen.note(&payload)).await?;
    let budget = bench.budget();
    let meter = bench.meter(name).await?;
    let done = pace(&bench.client, rate, &budget, bench.args.payload_bytes, &queue, epoch).await?;
    runner.until_succeeded(done.jobs, &bar).await?;
    let figures = meter
        .end(done.jobs, done.errors, done.times.quantiles(), starts.quantiles())
        .await?;
    bar.finish_and_clear();
    runner.stop().await?;
    Ok(figures)
}

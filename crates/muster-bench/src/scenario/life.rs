//! Producers and workers at once: the whole life of a job, from the call to the durable end.

use anyhow::Result;
use tokio::time::Instant;

use super::{Bench, Runner, Starts, bar, enqueue};
use crate::report::Figures;

pub(crate) async fn run(bench: &mut Bench) -> Result<Figures> {
    let queue = bench.queue();
    let (producers, workers) = (bench.args.producers(), bench.args.workers);
    let name = format!("life, {producers} producers, {workers} workers");
    let bar = bar(&name, bench.args.jobs);
    let epoch = Instant::now();
    let starts = Starts::new(epoch)?;
    let seen = starts.clone();
    let runner = Runner::start(bench, &queue, workers, move |payload, _| seen.note(&payload)).await?;
    let meter = bench.meter(name).await?;
    let done = enqueue::call(bench, &bench.budget(), producers, &queue, epoch, &bar).await?;
    runner.until_succeeded(done.jobs, &bar).await?;
    let figures = meter
        .end(done.jobs, done.errors, done.times.quantiles(), starts.quantiles())
        .await?;
    bar.finish_and_clear();
    runner.stop().await?;
    Ok(figures)
}

//! Producers and workers at once: the whole life of a job, from the call to the durable end.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::time::Instant;

use super::{Bench, Runner, age, bar, enqueue};
use crate::measure::Times;
use crate::report::Figures;

pub(crate) async fn run(bench: &mut Bench) -> Result<Figures> {
    let queue = bench.queue();
    let (producers, workers) = (bench.args.producers(), bench.args.workers);
    let name = format!("life, {producers} producers, {workers} workers");
    let bar = bar(&name, bench.args.jobs);
    let epoch = Instant::now();
    let started = Arc::new(Mutex::new(Times::new()?));
    let times = Arc::clone(&started);
    let runner = Runner::start(bench, &queue, workers, move |payload| {
        if let Some(age) = age(&payload, epoch) {
            times.lock().unwrap_or_else(PoisonError::into_inner).add(age);
        }
    })
    .await?;
    let meter = bench.meter(name).await?;
    let done = enqueue::call(bench, &bench.budget(), producers, &queue, epoch, &bar).await?;
    runner.until_succeeded(done.jobs, &bar).await?;
    let starts = started.lock().unwrap_or_else(PoisonError::into_inner).quantiles();
    let figures = meter
        .end(done.jobs, done.errors, done.times.quantiles(), starts)
        .await?;
    bar.finish_and_clear();
    runner.stop().await?;
    Ok(figures)
}

//! Callers that each await the acknowledgement of one batch before they enqueue the next.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Bench, bar, payload, to};
use crate::measure::Times;
use crate::report::Figures;

pub(crate) async fn run(bench: &mut Bench) -> Result<Figures> {
    let queue = bench.queue();
    let (batch, lanes, bytes) = (bench.args.batch, bench.args.lanes, bench.args.payload_bytes);
    let name = format!("batches of {batch}, {lanes} callers");
    let bar = bar(&name, bench.args.jobs);
    let shared: Arc<str> = queue.as_str().into();
    let budget = bench.budget();
    let meter = bench.meter(name).await?;
    let mut tasks = JoinSet::new();
    for _ in 0..lanes {
        let (client, budget, bar, queue) = (
            bench.client.clone(),
            Arc::clone(&budget),
            bar.clone(),
            Arc::clone(&shared),
        );
        tasks.spawn(async move {
            let epoch = Instant::now();
            let (mut jobs, mut errors, mut last_error, mut times) = (0, 0, None, Vec::new());
            while errors == 0 && budget.take(u64::from(batch)) {
                let begin = Instant::now();
                let items = (0..batch).map(|_| (payload(bytes, epoch, Instant::now()), to(&queue)));
                for result in client.enqueue_many_raw(items).await {
                    match result {
                        Ok(_) => jobs += 1,
                        Err(error) => {
                            errors += 1;
                            last_error = Some(error);
                        }
                    }
                }
                times.push(begin.elapsed());
                bar.inc(u64::from(batch));
            }
            (jobs, errors, last_error, times)
        });
    }
    let (mut jobs, mut errors, mut last_error, mut all) = (0, 0, None, Times::new()?);
    while let Some(done) = tasks.join_next().await {
        let (lane_jobs, lane_errors, error, times) = done.context("joining a caller")?;
        jobs += lane_jobs;
        errors += lane_errors;
        last_error = error.or(last_error);
        for time in times {
            all.add(time);
        }
    }
    if let (0, Some(error)) = (jobs, last_error) {
        bail!("no job was accepted: {error}");
    }
    let figures = meter.end(jobs, errors, all.quantiles(), None).await?;
    bar.finish_and_clear();
    bench.empty(&queue, jobs).await?;
    Ok(figures)
}

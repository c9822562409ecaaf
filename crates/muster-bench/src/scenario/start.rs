//! Time from the call to the start of the handler, at a rate that the cluster can well hold.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Bench, Runner, age, bar, payload, to};
use crate::measure::Times;
use crate::report::Figures;

pub(crate) async fn run(bench: &mut Bench, rate: u32) -> Result<Figures> {
    let queue = bench.queue();
    let (workers, bytes) = (bench.args.workers, bench.args.payload_bytes);
    let name = format!("start, {rate}/s");
    let bar = bar(&name, bench.args.jobs.min(u64::from(rate) * bench.args.seconds));
    let epoch = Instant::now();
    let started = Arc::new(Mutex::new(Times::new()?));
    let times = Arc::clone(&started);
    let runner = Runner::start(bench, &queue, workers, move |payload| {
        if let Some(age) = age(&payload, epoch) {
            times.lock().unwrap_or_else(PoisonError::into_inner).add(age);
        }
    })
    .await?;
    let budget = bench.budget();
    let meter = bench.meter(name).await?;
    let mut clock = tokio::time::interval(Duration::from_secs(1) / rate);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = JoinSet::new();
    while budget.take(1) {
        // Late calls count from when they were due, else a slow moment would hide itself.
        let due = clock.tick().await;
        let (client, job, options) = (bench.client.clone(), payload(bytes, epoch, due), to(&queue));
        calls.spawn(async move { client.enqueue_raw(job, options).await.map(|_| due.elapsed()) });
    }
    let (mut jobs, mut errors, mut last_error, mut acknowledged) = (0, 0, None, Times::new()?);
    while let Some(call) = calls.join_next().await {
        match call.context("joining a caller")? {
            Ok(time) => {
                jobs += 1;
                acknowledged.add(time);
            }
            Err(error) => {
                errors += 1;
                last_error = Some(error);
            }
        }
    }
    if let (0, Some(error)) = (jobs, last_error) {
        bail!("no job was accepted: {error}");
    }
    runner.until_succeeded(jobs, &bar).await?;
    let starts = started.lock().unwrap_or_else(PoisonError::into_inner).quantiles();
    let figures = meter.end(jobs, errors, acknowledged.quantiles(), starts).await?;
    bar.finish_and_clear();
    runner.stop().await?;
    Ok(figures)
}

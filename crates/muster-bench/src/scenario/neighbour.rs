//! What the jobs of a quiet tenant wait, alone and beside a tenant that enqueues many times as much for the same workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use muster_client::Client;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::others::{Others, make_tenant, make_tenants};
use super::pace::pace;
use super::{Bench, Runner, Starts, bar, payload, to};
use crate::report::Figures;

/// Jobs per second of the quiet tenant.
const QUIET: u32 = 50;
/// How many times as much its neighbour enqueues.
const TIMES: [u32; 4] = [0, 10, 100, 1_000];
/// Callers of the neighbour. Each awaits one call before the next, so what a busy cluster has not answered is bounded.
const CALLERS: u32 = 16;
const NOISY: &str = "bench-noisy";

/// One row for each load of the neighbour, about the jobs of the quiet tenant; CPU time is per job of all.
pub(crate) async fn run(bench: &mut Bench) -> Result<Vec<Figures>> {
    make_tenant(&bench.client, NOISY).await?;
    make_tenants(bench).await?;
    let noisy = bench.client.with_tenant(NOISY)?;
    let mut all = Vec::new();
    for times in TIMES {
        all.push(beside(bench, &noisy, times).await?);
    }
    Ok(all)
}

async fn beside(bench: &mut Bench, noisy: &Client, times: u32) -> Result<Figures> {
    let queue = bench.queue();
    let rate = QUIET * times;
    let name = match times {
        0 => format!("quiet tenant, {QUIET}/s, alone"),
        _ => format!("beside {times} times as much"),
    };
    let bar = bar(&name, u64::from(QUIET + rate) * bench.args.seconds);
    let starts = Starts::new(Instant::now())?;
    let (seen, quiet) = (starts.clone(), bench.client.tenant().to_owned());
    let runner = Runner::of_tenants(bench, &["*"], &queue, bench.args.workers, move |payload, context| {
        if context.tenant() == quiet {
            seen.note(&payload);
        }
    })
    .await?;
    let budget = bench.budget();
    let meter = bench.meter(name).await?;
    let noise = Noise::start(noisy, rate, bench.args.payload_bytes, &queue);
    let bytes = bench.args.payload_bytes;
    let others = Others::start(bench, &queue);
    let done = pace(&bench.client, QUIET, &budget, bytes, &queue, starts.epoch()).await?;
    let seconds = meter.seconds();
    let beside = noise.stop().await?;
    let all = done.jobs + beside + others.stop().await?;
    runner.until_succeeded(all, &bar).await?;
    let mut figures = meter
        .end(all, done.errors, done.times.quantiles(), starts.quantiles())
        .await?;
    // The neighbour's part of the rate is what the cluster took of what it was offered.
    if times > 0 {
        figures.name = format!("{} ({:.0}/s)", figures.name, beside as f64 / seconds);
    }
    figures.jobs = done.jobs;
    figures.rate = done.jobs as f64 / seconds;
    bar.finish_and_clear();
    runner.stop().await?;
    Ok(figures)
}

/// Jobs of the neighbour, as many per second as was asked for, or as the cluster takes.
struct Noise {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    callers: JoinSet<Result<()>>,
}

impl Noise {
    fn start(client: &Client, rate: u32, bytes: u32, queue: &str) -> Self {
        let mut noise = Self {
            stop: Arc::default(),
            accepted: Arc::default(),
            callers: JoinSet::new(),
        };
        if rate == 0 {
            return noise;
        }
        // Calls of one job until each caller would have to make one every 10 ms.
        let batch = (rate / (CALLERS * 100)).max(1);
        let every = Duration::from_secs(1) * CALLERS * batch / rate;
        for _ in 0..CALLERS {
            let (client, queue) = (client.clone(), queue.to_owned());
            let (stop, accepted) = (Arc::clone(&noise.stop), Arc::clone(&noise.accepted));
            noise.callers.spawn(async move {
                let mut clock = tokio::time::interval(every);
                clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !stop.load(Ordering::Relaxed) {
                    let now = clock.tick().await;
                    let jobs = (0..batch).map(|_| (payload(bytes, now, now), to(&queue)));
                    for result in client.enqueue_many_raw(jobs).await {
                        result.context("enqueueing for the neighbour")?;
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(())
            });
        }
        noise
    }

    /// How many jobs were accepted.
    async fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(caller) = self.callers.join_next().await {
            caller.context("joining a caller")??;
        }
        Ok(self.accepted.load(Ordering::Relaxed))
    }
}

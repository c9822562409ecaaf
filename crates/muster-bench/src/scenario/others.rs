//! Tenants besides those that are measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use muster_client::{Client, Code, NewTenant};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Bench, bar, payload, to};

/// Jobs per second of all of them together.
const RATE: u32 = 100;
/// Callers that make them.
const CALLERS: u32 = 64;

/// Makes a tenant, unless an earlier measurement did.
pub(super) async fn make_tenant(client: &Client, name: &str) -> Result<()> {
    match client.create_tenant(NewTenant::new(name)).await {
        Ok(_) => Ok(()),
        Err(error) if error.reason().is_some_and(|reason| reason.code == Code::AlreadyExists) => Ok(()),
        Err(error) => Err(error).context("creating a tenant"),
    }
}

/// Makes as many as the arguments ask for.
pub(super) async fn make_tenants(bench: &Bench) -> Result<()> {
    let count = bench.args.tenants;
    let bar = bar("making tenants", u64::from(count));
    let next = Arc::new(AtomicU32::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS.min(count) {
        let (client, next, bar) = (bench.client.clone(), Arc::clone(&next), bar.clone());
        callers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, anyhow::Error>(());
                }
                make_tenant(&client, &name(number)).await?;
                bar.inc(1);
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.context("joining a caller")??;
    }
    bar.finish_and_clear();
    Ok(())
}

fn name(number: u32) -> String {
    format!("bench-other-{number}")
}

/// Their jobs, one tenant's after the other's. None without such tenants.
pub(super) struct Others {
    stop: Arc<AtomicBool>,
    jobs: Option<JoinHandle<Result<u64>>>,
}

impl Others {
    pub(super) fn start(bench: &Bench, queue: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (count, bytes) = (bench.args.tenants, bench.args.payload_bytes);
        let (client, queue, over) = (bench.client.clone(), queue.to_owned(), Arc::clone(&stop));
        let jobs = (count > 0).then(|| {
            tokio::spawn(async move {
                let mut clock = tokio::time::interval(Duration::from_secs(1) / RATE);
                clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let (mut calls, mut number) = (JoinSet::new(), 0);
                while !over.load(Ordering::Relaxed) {
                    clock.tick().await;
                    let client = client.with_tenant(name(number % count))?;
                    let (job, options) = (payload(bytes, Instant::now(), Instant::now()), to(&queue));
                    calls.spawn(async move { client.enqueue_raw(job, options).await.map(drop) });
                    number += 1;
                }
                let mut done = 0;
                while let Some(call) = calls.join_next().await {
                    call.context("joining a caller")?
                        .context("enqueueing for another tenant")?;
                    done += 1;
                }
                Ok(done)
            })
        });
        Self { stop, jobs }
    }

    /// How many jobs were accepted.
    pub(super) async fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        match self.jobs {
            Some(jobs) => jobs.await.context("joining the caller")?,
            None => Ok(0),
        }
    }
}

//! Calls at a fixed rate, whatever becomes of those before: an open loop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use muster_client::Client;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::enqueue::Enqueued;
use super::{Budget, payload, to};
use crate::measure::Times;

/// Enqueues at this rate until the budget is used up. Times count from when a call was due, not from when it was made: else a slow
/// moment would hide the calls that it held up. Payloads carry the time at which they were due.
pub(super) async fn pace(
    client: &Client,
    rate: u32,
    budget: &Arc<Budget>,
    bytes: u32,
    queue: &str,
    epoch: Instant,
) -> Result<Enqueued> {
    let mut clock = tokio::time::interval(Duration::from_secs(1) / rate);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = JoinSet::new();
    while budget.take(1) {
        let due = clock.tick().await;
        let (client, job, options) = (client.clone(), payload(bytes, epoch, due), to(queue));
        calls.spawn(async move { client.enqueue_raw(job, options).await.map(|_| due.elapsed()) });
    }
    let mut all = Enqueued {
        jobs: 0,
        errors: 0,
        times: Times::new()?,
    };
    let mut last_error = None;
    while let Some(call) = calls.join_next().await {
        match call.context("joining a caller")? {
            Ok(time) => {
                all.jobs += 1;
                all.times.add(time);
            }
            Err(error) => {
                all.errors += 1;
                last_error = Some(error);
            }
        }
    }
    match last_error {
        Some(error) if all.jobs == 0 => bail!("no job was accepted: {error}"),
        _ => Ok(all),
    }
}

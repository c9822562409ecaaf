//! Calls at a fixed rate while something else happens, and how long those took that were due in a span of time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::super::{Bench, payload, to};
use crate::measure::{Quantiles, Times};

type Calls = Arc<Mutex<Vec<(Instant, Option<Duration>)>>>;

/// A load that goes on in the background.
pub(crate) struct Load {
    calls: Calls,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Load {
    pub(crate) fn start(bench: &Bench, rate: u32) -> Self {
        let calls = Calls::default();
        let (stop, mut stopped) = oneshot::channel();
        let (client, bytes, noted) = (bench.client.clone(), bench.args.payload_bytes, calls.clone());
        let task = tokio::spawn(async move {
            let mut clock = tokio::time::interval(Duration::from_secs(1) / rate);
            clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
            loop {
                // Late calls count from when they were due.
                let due = tokio::select! {
                    due = clock.tick() => due,
                    _ = &mut stopped => return,
                };
                let (client, noted) = (client.clone(), noted.clone());
                tokio::spawn(async move {
                    let called = client.enqueue_raw(payload(bytes, due, due), to("bench-backlog")).await;
                    let took = called.is_ok().then(|| due.elapsed());
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push((due, took));
                });
            }
        });
        Self { calls, stop, task }
    }

    /// Times of calls that were due in a span, and how many failed.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Result<(Option<Quantiles>, u64)> {
        self.of(|due, _| (from..to).contains(&due))
    }

    /// The same of the calls that are chosen by when they were due and how long they took.
    pub(crate) fn of(&self, chosen: impl Fn(Instant, Duration) -> bool) -> Result<(Option<Quantiles>, u64)> {
        let mut times = Times::new()?;
        let mut failed = 0;
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, took) in calls
            .iter()
            .filter(|(due, took)| chosen(*due, took.unwrap_or_default()))
        {
            match took {
                Some(took) => times.add(*took),
                None => failed += 1,
            }
        }
        Ok((times.quantiles(), failed))
    }

    pub(crate) async fn stop(self) {
        drop(self.stop);
        // It cannot fail but by a panic, which was printed.
        let _ = self.task.await;
    }
}

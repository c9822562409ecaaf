//! The work that every system gets, and what is measured of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use muster_bench::{Quantiles, Times, process};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::args::{Args, BATCH, LANES, PAYLOAD_BYTES, PREFETCH, PRODUCERS, WORKERS};
use crate::crew::Seen;
use crate::servers::disk_bytes;
use crate::system::{Queue, System};

/// For a replica that is behind the majority.
const CATCH_UP: Duration = Duration::from_secs(20);

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Workers empty a queue that was filled before.
    Drain,
    /// Producers and workers at once.
    Life,
    /// The same at a fixed number of jobs per second.
    Paced(u32),
    /// So many callers that each await the acknowledgement of one job after the other.
    Enqueue(usize),
    /// Callers that each await the acknowledgement of one batch after the other.
    Batch,
}

impl Load {
    pub fn name(self) -> String {
        match self {
            Self::Drain => "drain".into(),
            Self::Life => format!("life, {PRODUCERS} producers"),
            Self::Paced(rate) => format!("life at {rate}/s"),
            Self::Enqueue(1) => "enqueue, 1 caller".into(),
            Self::Enqueue(callers) => format!("enqueue, {callers} callers"),
            Self::Batch => format!("batches of {BATCH}, {LANES} callers"),
        }
    }
}

/// What one load gave.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub load: String,
    pub jobs: u64,
    pub seconds: f64,
    /// Jobs per second.
    pub rate: f64,
    /// From call to acknowledgement; of a paced load: from the time at which the call was due.
    pub acknowledged_ms: Option<Quantiles>,
    /// Likewise to the start of the job.
    pub started_ms: Option<Quantiles>,
    /// CPU time of all servers per 100,000 jobs, in seconds.
    pub server_cpu_seconds_per_100k: Option<f64>,
    /// CPU time of this program per 100,000 jobs, in seconds.
    pub client_cpu_seconds_per_100k: Option<f64>,
    /// Bytes that the servers wrote to the disk, per job.
    pub written_bytes_per_job: Option<f64>,
    /// With a queue filled to be drained.
    pub filled: Option<Filled>,
}

/// What a filled queue takes.
#[derive(Clone, Debug, Serialize)]
pub struct Filled {
    pub jobs: u64,
    /// Resident memory of all servers, in MiB.
    pub memory_mib: Option<f64>,
    /// Of all servers, the log of the replication included.
    pub disk_bytes: u64,
}

/// Runs one load on a queue of its own.
pub async fn measure(system: &dyn System, load: Load, args: &Args) -> Result<Measured> {
    let name: String = load.name().chars().filter(char::is_ascii_alphanumeric).collect();
    let queue = system.queue(&name).await.context("making a queue")?;
    let run = Run {
        system,
        queue: Arc::clone(&queue),
        load,
        args,
        epoch: Instant::now(),
    };
    let measured = match load {
        Load::Drain => run.drain().await?,
        Load::Life => run.life().await?,
        Load::Paced(rate) => run.paced(rate).await?,
        Load::Enqueue(callers) => run.enqueue(callers, 1).await?,
        Load::Batch => run.enqueue(LANES, BATCH).await?,
    };
    queue.remove().await.context("removing the queue")?;
    Ok(measured)
}

struct Run<'a> {
    system: &'a dyn System,
    queue: Arc<dyn Queue>,
    load: Load,
    args: &'a Args,
    epoch: Instant,
}

impl Run<'_> {
    async fn enqueue(&self, callers: usize, batch: usize) -> Result<Measured> {
        // Opens what is opened at the first call.
        self.queue.enqueue(payload(self.epoch, self.epoch)).await?;
        let meter = self.meter();
        let (jobs, times) = self.call(callers, batch, self.budget()).await?;
        Ok(meter.end(jobs, times.quantiles(), None))
    }

    async fn drain(&self) -> Result<Measured> {
        let before = self.written_by_each();
        let budget = Budget {
            left: AtomicU64::new(self.args.queued),
            // Ended by the time of the whole turn.
            until: None,
        };
        let (jobs, _) = self.call(LANES, BATCH, budget).await.context("filling the queue")?;
        let filled = Filled {
            jobs,
            memory_mib: process::memory_mib(&self.system.pids()),
            disk_bytes: disk_bytes(self.system.path()),
        };
        self.check_replicas(jobs, &before).await?;
        let meter = self.meter();
        let mut crew = self.queue.work(Arc::new(|_| {})).await?;
        crew.until_done(jobs).await?;
        self.queue.settled().await?;
        let mut measured = meter.end(jobs, None, None);
        measured.filled = Some(filled);
        Ok(measured)
    }

    async fn life(&self) -> Result<Measured> {
        let (seen, started) = self.seen()?;
        let mut crew = self.queue.work(seen).await?;
        let meter = self.meter();
        let (jobs, times) = self.call(PRODUCERS, 1, self.budget()).await?;
        crew.until_done(jobs).await?;
        self.queue.settled().await?;
        Ok(meter.end(jobs, times.quantiles(), started()))
    }

    async fn paced(&self, rate: u32) -> Result<Measured> {
        let (seen, started) = self.seen()?;
        let mut crew = self.queue.work(seen).await?;
        let meter = self.meter();
        let mut clock = tokio::time::interval(Duration::from_secs(1) / rate);
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut calls = JoinSet::new();
        for _ in 0..u64::from(rate) * self.args.seconds {
            // Late calls count from when they were due, else a slow moment would hide itself.
            let due = clock.tick().await;
            let (queue, job) = (Arc::clone(&self.queue), payload(self.epoch, due));
            calls.spawn(async move { queue.enqueue(job).await.map(|()| due.elapsed()) });
        }
        let (mut jobs, mut times) = (0, Times::new()?);
        while let Some(call) = calls.join_next().await {
            times.add(call??);
            jobs += 1;
        }
        crew.until_done(jobs).await?;
        self.queue.settled().await?;
        Ok(meter.end(jobs, times.quantiles(), started()))
    }

    /// Calls until the budget is used up, and how long each took.
    async fn call(&self, callers: usize, batch: usize, budget: Budget) -> Result<(u64, Times)> {
        let budget = Arc::new(budget);
        let mut tasks: JoinSet<Result<Vec<Duration>>> = JoinSet::new();
        for _ in 0..callers {
            let (queue, budget, epoch) = (Arc::clone(&self.queue), Arc::clone(&budget), self.epoch);
            tasks.spawn(async move {
                let mut times = Vec::new();
                while budget.take(batch as u64) {
                    let begin = Instant::now();
                    if batch == 1 {
                        queue.enqueue(payload(epoch, begin)).await?;
                    } else {
                        let jobs = (0..batch).map(|_| payload(epoch, begin)).collect();
                        queue.enqueue_batch(jobs).await?;
                    }
                    times.push(begin.elapsed());
                }
                Ok(times)
            });
        }
        let (mut calls, mut all) = (0, Times::new()?);
        while let Some(done) = tasks.join_next().await {
            for time in done?? {
                all.add(time);
                calls += 1;
            }
        }
        Ok((calls * batch as u64, all))
    }

    /// To be called with payloads that workers start, and how old they were.
    fn seen(&self) -> Result<(Seen, impl Fn() -> Option<Quantiles>)> {
        let started = Arc::new(Mutex::new(Times::new()?));
        let (times, epoch) = (Arc::clone(&started), self.epoch);
        let seen = Arc::new(move |payload: &[u8]| {
            if let Some(age) = age(payload, epoch) {
                times.lock().unwrap_or_else(PoisonError::into_inner).add(age);
            }
        });
        Ok((seen, move || {
            started.lock().unwrap_or_else(PoisonError::into_inner).quantiles()
        }))
    }

    fn budget(&self) -> Budget {
        Budget {
            left: AtomicU64::new(self.args.jobs),
            until: Some(Instant::now() + Duration::from_secs(self.args.seconds)),
        }
    }

    fn meter(&self) -> Meter {
        let pids = self.system.pids();
        Meter {
            load: self.load,
            begin: Instant::now(),
            server_cpu: process::cpu_seconds(&pids),
            client_cpu: process::own_cpu_seconds(),
            written: process::written_bytes(&pids),
            pids,
        }
    }

    fn written_by_each(&self) -> Vec<Option<u64>> {
        let pids = self.system.pids();
        pids.into_iter().map(|pid| process::written_bytes(&[pid])).collect()
    }

    /// A server that wrote less than the payloads holds no replica of them: the figures would compare unequal things. One that is only behind
    /// the majority gets time to catch up.
    async fn check_replicas(&self, jobs: u64, before: &[Option<u64>]) -> Result<()> {
        let payloads = jobs * PAYLOAD_BYTES as u64;
        let deadline = Instant::now() + CATCH_UP;
        for (at, before) in before.iter().enumerate() {
            loop {
                let after = self.written_by_each().get(at).copied().flatten();
                let (Some(before), Some(after)) = (before, after) else {
                    break;
                };
                let written = after - before;
                if written >= payloads {
                    break;
                }
                if Instant::now() > deadline {
                    bail!(
                        "server {} wrote {written} bytes for payloads of {payloads}: it is no replica",
                        at + 1
                    );
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

/// How much one load may do.
struct Budget {
    left: AtomicU64,
    until: Option<Instant>,
}

impl Budget {
    /// False when jobs or time are used up.
    fn take(&self, count: u64) -> bool {
        let take = |left: u64| left.checked_sub(count);
        self.until.is_none_or(|until| Instant::now() < until)
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
    }
}

struct Meter {
    load: Load,
    begin: Instant,
    server_cpu: Option<f64>,
    client_cpu: Option<f64>,
    written: Option<u64>,
    pids: Vec<u32>,
}

impl Meter {
    fn end(self, jobs: u64, acknowledged_ms: Option<Quantiles>, started_ms: Option<Quantiles>) -> Measured {
        let seconds = self.begin.elapsed().as_secs_f64();
        let per_100k = |before: Option<f64>, after: Option<f64>| Some((after? - before?) * 100_000.0 / jobs as f64);
        let written = process::written_bytes(&self.pids);
        Measured {
            load: self.load.name(),
            jobs,
            seconds,
            rate: jobs as f64 / seconds,
            acknowledged_ms,
            started_ms,
            server_cpu_seconds_per_100k: per_100k(self.server_cpu, process::cpu_seconds(&self.pids)),
            client_cpu_seconds_per_100k: per_100k(self.client_cpu, process::own_cpu_seconds()),
            written_bytes_per_job: written
                .zip(self.written)
                .map(|(after, before)| (after - before) as f64 / jobs as f64),
            filled: None,
        }
    }
}

/// Bytes that cannot be compressed, behind the time at which the job was due in microseconds since `epoch`.
fn payload(epoch: Instant, due: Instant) -> Vec<u8> {
    static SEED: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    let mut state = SEED.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) | 1;
    let mut data = Vec::with_capacity(PAYLOAD_BYTES);
    data.extend_from_slice(&(due.saturating_duration_since(epoch).as_micros() as u64).to_le_bytes());
    while data.len() < PAYLOAD_BYTES {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data
}

/// How long ago the payload was due.
fn age(payload: &[u8], epoch: Instant) -> Option<Duration> {
    let stamp: [u8; 8] = payload.get(..8)?.try_into().ok()?;
    let due = Duration::from_micros(u64::from_le_bytes(stamp));
    Some(epoch.elapsed().saturating_sub(due))
}

/// What the workers hold at once, all together.
pub const IN_HAND: usize = WORKERS * PREFETCH;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn payloads_differ_and_carry_their_age() {
        let epoch = Instant::now();
        let (one, other) = (payload(epoch, epoch), payload(epoch, epoch));
        assert_eq!((one.len(), other.len()), (PAYLOAD_BYTES, PAYLOAD_BYTES));
        assert_ne!(one, other);
        let late = payload(epoch, epoch + Duration::from_secs(3_600));
        assert_eq!(age(&late, epoch), Some(Duration::ZERO), "not yet due");
        assert!(age(&one, epoch).unwrap() < Duration::from_secs(3_600));
        assert_eq!(age(&[0; 7], epoch), None);
    }

    #[test]
    fn a_budget_ends_by_jobs_and_by_time() {
        let budget = |left, until| Budget {
            left: AtomicU64::new(left),
            until,
        };
        let jobs = budget(250, None);
        assert!(jobs.take(100) && jobs.take(100) && !jobs.take(100));
        assert!(!budget(250, Some(Instant::now())).take(1));
    }
}

//! The measurements. Each uses a queue of its own and leaves it empty.

pub(crate) mod batch;
pub(crate) mod drain;
pub(crate) mod enqueue;
pub(crate) mod idle;
pub(crate) mod leader_kill;
pub(crate) mod life;
pub(crate) mod neighbour;
mod others;
mod pace;
pub(crate) mod read;
pub(crate) mod start;
pub(crate) mod upkeep;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use muster_client::{Client, Context, Enqueue, JobError, JobId, RawJob, RawPayload, Worker, WorkerStats};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::args::BenchArgs;
use crate::measure::{Quantiles, Times};
use crate::process;
use crate::report::Figures;

/// Kind of all jobs here.
const KIND: &str = "muster-bench";
/// Jobs at once when a queue is emptied without being measured.
const CLEANERS: u32 = 512;
/// A queue that does not get emptier for so long will not get empty.
const STALL: Duration = Duration::from_secs(15);

/// What the scenarios share.
pub(crate) struct Bench {
    pub client: Client,
    addresses: Vec<String>,
    pids: Vec<u32>,
    pub args: BenchArgs,
    run: String,
    queues: u32,
}

impl Bench {
    pub(crate) fn new(client: Client, addresses: Vec<String>, pids: Vec<u32>, args: &BenchArgs) -> Self {
        let run = JobId::new().as_uuid().simple().to_string();
        Self {
            client,
            addresses,
            pids,
            args: args.clone(),
            run,
            queues: 0,
        }
    }

    /// Connects anew after nodes were started again.
    async fn reconnect(&mut self, pids: Vec<u32>) -> Result<()> {
        self.client = self.other_client().await?;
        self.pids = pids;
        Ok(())
    }

    /// A queue that nobody else uses.
    fn queue(&mut self) -> String {
        self.queues += 1;
        format!("bench-{}-{}", self.run, self.queues)
    }

    fn budget(&self) -> Arc<Budget> {
        let time = Duration::from_secs(self.args.seconds);
        Arc::new(Budget {
            left: AtomicU64::new(self.args.jobs),
            until: Instant::now() + time,
        })
    }

    /// A second connection, as a worker in another process would have.
    async fn other_client(&self) -> Result<Client> {
        let builder = Client::builder().addresses(&self.addresses).tenant(&self.args.tenant);
        builder.connect().await.context("connecting for the worker")
    }

    async fn meter(&self, name: String) -> Result<Meter> {
        Ok(Meter {
            log_index: log_index(&self.client).await?,
            client: self.client.clone(),
            name,
            begin: Instant::now(),
            server_cpu: process::cpu_seconds(&self.pids),
            client_cpu: process::own_cpu_seconds(),
            pids: self.pids.clone(),
        })
    }

    /// Runs what is in the queue, unmeasured.
    async fn empty(&self, queue: &str, jobs: u64) -> Result<()> {
        let bar = bar(&format!("emptying {queue}"), jobs);
        let runner = Runner::start(self, queue, CLEANERS, |_, _| {}).await?;
        runner.until_succeeded(jobs, &bar).await?;
        runner.stop().await?;
        bar.finish_and_clear();
        Ok(())
    }
}

/// How much one measurement may do.
pub(crate) struct Budget {
    left: AtomicU64,
    until: Instant,
}

impl Budget {
    /// Takes `count` jobs; false when jobs or time are used up.
    fn take(&self, count: u64) -> bool {
        Instant::now() < self.until
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count))
                .is_ok()
    }
}

/// Between the begin and the end of a measurement.
struct Meter {
    client: Client,
    name: String,
    log_index: u64,
    begin: Instant,
    server_cpu: Option<f64>,
    client_cpu: Option<f64>,
    pids: Vec<u32>,
}

impl Meter {
    /// Since the begin.
    fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    async fn end(
        self,
        jobs: u64,
        errors: u64,
        acknowledged_ms: Option<Quantiles>,
        started_ms: Option<Quantiles>,
    ) -> Result<Figures> {
        let seconds = self.seconds();
        let entries = log_index(&self.client).await?.saturating_sub(self.log_index);
        let jobs_per_log_entry = (entries > 0).then(|| jobs as f64 / entries as f64);
        let per_100k = |before: Option<f64>, after: Option<f64>| {
            (jobs > 0)
                .then(|| Some((after? - before?) * 100_000.0 / jobs as f64))
                .flatten()
        };
        Ok(Figures {
            name: self.name,
            jobs,
            seconds,
            rate: jobs as f64 / seconds,
            errors,
            acknowledged_ms,
            started_ms,
            server_cpu_seconds_per_100k: per_100k(self.server_cpu, process::cpu_seconds(&self.pids)),
            client_cpu_seconds_per_100k: per_100k(self.client_cpu, process::own_cpu_seconds()),
            server_memory_mib: process::memory_mib(&self.pids),
            jobs_per_log_entry,
        })
    }
}

/// How far the log has grown, by the leader's word when it can be reached.
async fn log_index(client: &Client) -> Result<u64> {
    Ok(client
        .cluster_status()
        .await
        .context("asking for the log's end")?
        .last_log_index)
}

/// A payload that carries the time at which it was due, in microseconds since `epoch`.
fn payload(bytes: u32, epoch: Instant, due: Instant) -> RawJob {
    let mut data = vec![0x20; bytes as usize];
    let stamp = (due.saturating_duration_since(epoch).as_micros() as u64).to_le_bytes();
    for (to, from) in data.iter_mut().zip(stamp) {
        *to = from;
    }
    RawJob::new(KIND, data)
}

/// From when jobs were due to the start of their handlers.
#[derive(Clone)]
struct Starts {
    epoch: Instant,
    times: Arc<Mutex<Times>>,
}

impl Starts {
    /// Of jobs whose payloads carry the time since `epoch`.
    fn new(epoch: Instant) -> Result<Self> {
        let times = Arc::new(Mutex::new(Times::new()?));
        Ok(Self { epoch, times })
    }

    fn epoch(&self) -> Instant {
        self.epoch
    }

    /// A job starts now.
    fn note(&self, payload: &RawPayload) {
        if let Some(age) = age(payload, self.epoch) {
            self.times.lock().unwrap_or_else(PoisonError::into_inner).add(age);
        }
    }

    fn quantiles(&self) -> Option<Quantiles> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).quantiles()
    }
}

/// How long ago the payload was due.
fn age(payload: &RawPayload, epoch: Instant) -> Option<Duration> {
    let stamp: [u8; 8] = payload.data.get(..8)?.try_into().ok()?;
    Some(
        epoch
            .elapsed()
            .saturating_sub(Duration::from_micros(u64::from_le_bytes(stamp))),
    )
}

fn to(queue: &str) -> Enqueue {
    Enqueue::new().queue(queue)
}

fn bar(name: &str, jobs: u64) -> ProgressBar {
    // Draws on the error stream, and only on a terminal.
    let bar = ProgressBar::new(jobs).with_message(name.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{msg:32} {wide_bar} {human_pos} jobs {per_sec}") {
        bar.set_style(style);
    }
    bar
}

/// A worker with a no-op handler.
struct Runner {
    stats: Box<dyn Fn() -> WorkerStats + Send>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<muster_client::Result<WorkerStats>>,
}

impl Runner {
    async fn start(
        bench: &Bench,
        queue: &str,
        concurrency: u32,
        seen: impl Fn(RawPayload, Context) + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::of_tenants(bench, &[], queue, concurrency, seen).await
    }

    /// `tenants`: whom it serves; the client's when there is none.
    async fn of_tenants(
        bench: &Bench,
        tenants: &[&str],
        queue: &str,
        concurrency: u32,
        seen: impl Fn(RawPayload, Context) + Send + Sync + 'static,
    ) -> Result<Self> {
        let client = bench.other_client().await?;
        let mut builder = Worker::builder(&client);
        for tenant in tenants {
            builder = builder.tenant(*tenant);
        }
        let worker = builder
            .name("muster-bench")
            .queue(queue)
            .concurrency(concurrency)
            .raw_handler(KIND, move |payload, context: Context| {
                seen(payload, context);
                std::future::ready(Ok::<_, JobError>(Default::default()))
            })
            .build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let stats = Box::new(worker.stats_handle());
        let task = tokio::spawn(worker.run_until(async {
            // Dropping the other end stops as well.
            let _ = stopped.await;
        }));
        Ok(Self { stats, stop, task })
    }

    /// Waits until so many jobs have succeeded.
    async fn until_succeeded(&self, jobs: u64, bar: &ProgressBar) -> Result<()> {
        let (mut last, mut moved_at) = (0, Instant::now());
        loop {
            let stats = (self.stats)();
            bar.set_position(stats.succeeded);
            if stats.succeeded >= jobs {
                return Ok(());
            }
            if stats.succeeded > last {
                (last, moved_at) = (stats.succeeded, Instant::now());
            } else if moved_at.elapsed() > STALL {
                bail!("only {last} of {jobs} jobs succeeded, none in the last {STALL:?}: {stats:?}");
            }
            if self.task.is_finished() {
                bail!("the worker ended early: {stats:?}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn stop(self) -> Result<WorkerStats> {
        drop(self.stop);
        Ok(self.task.await.context("joining the worker")??)
    }
}

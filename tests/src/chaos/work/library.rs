//! A worker of the client library.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use muster_client::{Context, JobError, RawPayload, Worker};
use muster_sim::history::{How, WorkerLog};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::TTL;
use super::handler::{Attempt, KINDS, SNOOZE};
use crate::chaos::load::{API, id};
use crate::chaos::world::World;

/// Attempts at once.
const CONCURRENCY: u32 = 16;

/// A worker that is killed now and then, and comes back.
pub(crate) struct Library {
    world: Arc<World>,
    number: usize,
    lives: AtomicU32,
    life: Mutex<Life>,
}

struct Life {
    task: JoinHandle<()>,
    running: Box<dyn Fn() -> u64 + Send>,
    stop: watch::Sender<bool>,
}

impl Library {
    pub(super) fn start(world: Arc<World>, number: usize) -> Self {
        let life = live(&world, number, 0);
        Self {
            world,
            number,
            lives: AtomicU32::new(1),
            life: Mutex::new(life),
        }
    }

    /// Kills it, its connection included, and starts another. Returns how many attempts it was running.
    pub(crate) async fn kill(&self) -> u64 {
        let mut life = self.life.lock().await;
        let running = (life.running)();
        life.task.abort();
        let number = self.lives.fetch_add(1, Ordering::Relaxed);
        *life = live(&self.world, self.number, number);
        running
    }

    /// Lets it end what it runs.
    pub(super) async fn stop(&self) {
        let mut life = self.life.lock().await;
        life.stop.send_replace(true);
        let _ = tokio::time::timeout(Duration::from_secs(15), &mut life.task).await;
    }
}

fn live(world: &Arc<World>, number: usize, life: u32) -> Life {
    let name = format!("library-{number}-{life}");
    let log = world.recorder.worker(name.as_str());
    let client = world.client(number);
    let mut builder = Worker::builder(&client.with_tenant("heavy").expect("a good name"))
        .name(name)
        .tenant("*")
        .concurrency(CONCURRENCY)
        .session_ttl(TTL)
        .drain(Duration::from_secs(8));
    for kind in KINDS {
        let (world, log) = (Arc::clone(world), log.clone());
        builder = builder.raw_handler(kind, move |payload: RawPayload, context: Context| {
            handle(Arc::clone(&world), log.clone(), payload, context)
        });
    }
    let worker = builder.build().expect("good settings");
    let stats = worker.stats_handle();
    let (stop, mut stopped) = watch::channel(false);
    let complaints = world.complaints.clone();
    let task = tokio::spawn(async move {
        let shutdown = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) = worker.run_until(shutdown).await {
            complaints.add(format!("a worker was refused: {error}"));
        }
    });
    Life {
        task,
        running: Box::new(move || stats().running),
        stop,
    }
}

async fn handle(world: Arc<World>, log: WorkerLog, payload: RawPayload, context: Context) -> Result<Bytes, JobError> {
    let attempt = Attempt {
        job: id(context.job_id()),
        fence: context.fence(),
        number: context.attempt(),
        kind: context.kind().to_owned(),
        argument: Attempt::argument(&payload.data),
    };
    let stop = async {
        context.cancelled().await;
    };
    let how = attempt.run(&world, &log, stop).await;
    log.ended(attempt.job, attempt.fence, how);
    match how {
        How::Succeeded => Ok(Bytes::new()),
        How::Failed { retry_after_ms: 0 } => Err(JobError::retry("as planned")),
        How::Failed { retry_after_ms } => Err(JobError::retry_after(
            Duration::from_millis(retry_after_ms),
            "as planned",
        )),
        How::FailedForGood => Err(JobError::permanent("as planned")),
        How::Snoozed => Err(JobError::snooze(SNOOZE)),
        How::Throttled => Err(JobError::throttled(API, SNOOZE)),
        How::Cancelled | How::Preempted | How::TimedOut | How::Crashed => Err(JobError::cancelled()),
    }
}

//! The workers: in this process, so that each execution is seen.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result};
use muster_client::{Client, JobError, Worker, WorkerStats};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::jobs::{FileIndex, FolderIndex, IndexFile, MergeFolder, Pulse};
use crate::record::Record;
use crate::tenants::{DOCS, LIBRARY, PULSES};

/// Silence after which the cluster gives a worker's jobs to others. Shorter than the default of 10 s, so that the
/// jobs handed out by the killed node in its last moment are seen to run again soon.
const SESSION_TTL: Duration = Duration::from_secs(3);
const WORKERS: u32 = 3;

/// Running workers.
pub struct Workers {
    stop: CancellationToken,
    running: Vec<JoinHandle<muster_client::Result<WorkerStats>>>,
}

impl Workers {
    /// Starts three workers that share `slots`.
    pub fn start(client: &Client, record: &Record, slots: u32, think: Duration) -> Result<Self> {
        let stop = CancellationToken::new();
        let mut running = Vec::new();
        for number in 0..WORKERS {
            let share = slots / WORKERS + u32::from(number < slots % WORKERS);
            let worker = worker(client, record, think)
                .name(format!("demo-{}", number + 1))
                .concurrency(share.max(1))
                .build()
                .context("putting a worker together")?;
            running.push(tokio::spawn(worker.run_until(stop.clone().cancelled_owned())));
        }
        Ok(Self { stop, running })
    }

    /// Lets running jobs end and waits for the workers.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        for worker in self.running {
            worker.await.context("a worker panicked")?.context("running a worker")?;
        }
        Ok(())
    }
}

fn worker(client: &Client, record: &Record, think: Duration) -> muster_client::WorkerBuilder {
    let (files, merges, pulses) = (record.clone(), record.clone(), record.clone());
    Worker::builder(client)
        .tenant(LIBRARY)
        .tenant(DOCS)
        .tenant(PULSES)
        .session_ttl(SESSION_TTL)
        .handler(move |job: IndexFile, context| recorded(files.clone(), &context, index(job, think)))
        .handler(move |job: MergeFolder, context| {
            recorded(merges.clone(), &context, async move { Ok(FolderIndex::of(&job.files)) })
        })
        .handler(move |job: Pulse, context| recorded(pulses.clone(), &context, async move { Ok(job.answer()) }))
}

/// Runs `work`, with its begin and end on record.
fn recorded<T, W>(
    record: Record,
    context: &muster_client::Context,
    work: W,
) -> impl Future<Output = Result<T, JobError>> + Send + use<T, W>
where
    W: Future<Output = Result<T, JobError>> + Send,
{
    let number = record.runs(context);
    async move {
        let result = work.await;
        record.ran(number);
        result
    }
}

async fn index(job: IndexFile, think: Duration) -> Result<FileIndex, JobError> {
    let index = tokio::task::spawn_blocking(move || std::fs::read_to_string(job.path).map(|text| FileIndex::of(&text)));
    let index = index.await??;
    tokio::time::sleep(think).await;
    Ok(index)
}

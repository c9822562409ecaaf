//! A worker of the client library, in a task.

use std::time::Duration;

use bytes::Bytes;
use muster_client::{Client, Context, JobError, RawPayload, Worker, WorkerStats};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::ledger::Ledger;

/// It runs until it is stopped.
pub struct Working {
    stop: oneshot::Sender<()>,
    task: JoinHandle<WorkerStats>,
}

impl Working {
    /// Every job takes this long and succeeds. What is run is written down.
    pub fn start(client: &Client, kind: &str, concurrency: u32, length: Duration, ledger: &Ledger) -> Self {
        let ledger = ledger.clone();
        let handler = move |_: RawPayload, context: Context| {
            let ledger = ledger.clone();
            async move {
                let job = context.job_id().to_string();
                ledger.begin(&job, context.fence(), context.attempt());
                tokio::time::sleep(length).await;
                ledger.end(&job, context.fence());
                Ok::<_, JobError>(Bytes::new())
            }
        };
        let worker = Worker::builder(client)
            .concurrency(concurrency)
            .session_ttl(Duration::from_secs(2))
            .drain(Duration::from_secs(5))
            .raw_handler(kind, handler)
            .build();
        Self::run(worker.expect("a good worker"))
    }

    /// Any worker.
    pub fn run(worker: Worker) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            worker
                .run_until(shutdown)
                .await
                .expect("a worker runs until it is stopped")
        });
        Self { stop, task }
    }

    /// Drains it and tells what it did.
    pub async fn stop(self) -> WorkerStats {
        let _ = self.stop.send(());
        self.task.await.expect("the worker did not panic")
    }
}

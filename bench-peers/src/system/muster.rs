//! Muster: three nodes as `muster bench --spawn` starts them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use muster_bench::Cluster;
use muster_client::{Client, Enqueue, JobError, RawJob, Worker};
use tokio::task::JoinSet;

use super::{Queue, System};
use crate::args::{Args, PREFETCH, WORKERS};
use crate::crew::{Crew, Seen};

const KIND: &str = "bench";

pub struct Muster {
    cluster: Cluster,
    version: String,
}

struct Lane {
    client: Client,
    addresses: Vec<String>,
    queue: String,
}

impl Muster {
    pub async fn start(args: &Args) -> Result<Self> {
        let cluster = Cluster::start(Some(&args.server), 3, &args.dir, false).await?;
        let client = Client::connect(&cluster.addresses).await?;
        let version = client.cluster_status().await?.version;
        Ok(Self { cluster, version })
    }
}

#[async_trait]
impl System for Muster {
    fn version(&self) -> String {
        self.version.clone()
    }

    fn pids(&self) -> Vec<u32> {
        self.cluster.pids()
    }

    fn path(&self) -> &Path {
        self.cluster.path()
    }

    async fn queue(&self, name: &str) -> Result<Arc<dyn Queue>> {
        Ok(Arc::new(Lane {
            client: Client::connect(&self.cluster.addresses).await?,
            addresses: self.cluster.addresses.clone(),
            queue: name.to_owned(),
        }))
    }
}

#[async_trait]
impl Queue for Lane {
    async fn enqueue(&self, payload: Vec<u8>) -> Result<()> {
        let to = Enqueue::new().queue(&self.queue);
        self.client.enqueue_raw(RawJob::new(KIND, payload), to).await?;
        Ok(())
    }

    async fn enqueue_batch(&self, payloads: Vec<Vec<u8>>) -> Result<()> {
        let jobs = payloads
            .into_iter()
            .map(|payload| (RawJob::new(KIND, payload), Enqueue::new().queue(&self.queue)));
        for result in self.client.enqueue_many_raw(jobs).await {
            result?;
        }
        Ok(())
    }

    async fn work(&self, seen: Seen) -> Result<Crew> {
        let mut tasks = JoinSet::new();
        let mut counts = Vec::new();
        for _ in 0..WORKERS {
            let client = Client::connect(&self.addresses).await.context("connecting a worker")?;
            let seen = Arc::clone(&seen);
            let worker = Worker::builder(&client)
                .queue(&self.queue)
                .concurrency(PREFETCH as u32)
                .raw_handler(KIND, move |payload, _| {
                    seen(&payload.data);
                    std::future::ready(Ok::<_, JobError>(Default::default()))
                })
                .build()?;
            counts.push(worker.stats_handle());
            tasks.spawn(async move {
                worker.run_until(std::future::pending()).await?;
                Ok(())
            });
        }
        Ok(Crew::new(
            move || counts.iter().map(|count| count().succeeded).sum(),
            tasks,
        ))
    }
}

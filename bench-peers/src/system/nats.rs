//! NATS JetStream: a work-queue stream of three replicas, awaited publishes, one durable pull consumer.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::try_join_all;
use muster_bench::free_ports;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Queue, System};
use crate::args::{Args, PREFETCH, WORKERS};
use crate::crew::{Crew, Seen};
use crate::servers::{START_TIME, Servers, command};

const NODES: usize = 3;
const CONSUMER: &str = "workers";
/// Until the last acknowledgements have been counted.
const SETTLE_TIME: Duration = Duration::from_secs(20);

pub struct Nats {
    servers: Servers,
    version: String,
    ports: Vec<u16>,
}

impl Nats {
    pub async fn start(args: &Args, synced: bool) -> Result<Self> {
        let mut servers = Servers::new(&args.dir)?;
        let ports = free_ports(2 * NODES)?;
        let (ports, routes) = ports.split_at(NODES);
        let program = args.packages.join("usr/sbin/nats-server");
        let version = command(&program, &args.packages, servers.path())
            .arg("--version")
            .output()
            .with_context(|| format!("starting {}", program.display()))?;
        let version = String::from_utf8_lossy(&version.stdout);
        let version = version.trim().rsplit('v').next().unwrap_or("?").to_owned();
        for node in 0..NODES {
            let data = servers.make_dir(&format!("node-{node}"))?;
            if synced {
                write_through(&data)?;
            }
            let config = servers.path().join(format!("node-{node}.conf"));
            std::fs::write(&config, config_of(node, ports, routes, &data)).context("writing nats.conf")?;
            let mut server = command(&program, &args.packages, servers.path());
            server.arg("--config").arg(&config);
            servers.start(&format!("node-{node}"), &mut server)?;
        }
        for port in ports {
            servers.until_listening(*port).await?;
        }
        Ok(Self {
            servers,
            version,
            ports: ports.to_vec(),
        })
    }
}

fn config_of(node: usize, ports: &[u16], routes: &[u16], data: &Path) -> String {
    let all: Vec<_> = routes
        .iter()
        .map(|port| format!("\"nats://127.0.0.1:{port}\""))
        .collect();
    format!(
        "server_name: node-{node}\nlisten: 127.0.0.1:{}\njetstream {{ store_dir: \"{}\" }}\n\
         cluster {{ name: bench, listen: 127.0.0.1:{}, routes: [{}] }}\n",
        ports[node],
        data.display(),
        routes[node],
        all.join(", ")
    )
}

/// Every write to files below becomes a sync, as if they were opened with `O_SYNC`. The server of the distribution is older than its
/// setting for that (`sync_interval`).
fn write_through(dir: &Path) -> Result<()> {
    let status = Command::new("chattr")
        .arg("+S")
        .arg(dir)
        .status()
        .context("running chattr")?;
    if !status.success() {
        bail!(
            "the file system of {} has no attribute S for files that are written through",
            dir.display()
        );
    }
    Ok(())
}

#[async_trait]
impl System for Nats {
    fn version(&self) -> String {
        self.version.clone()
    }

    fn pids(&self) -> Vec<u32> {
        self.servers.pids("node-")
    }

    fn path(&self) -> &Path {
        self.servers.path()
    }

    async fn queue(&self, name: &str) -> Result<Arc<dyn Queue>> {
        let context = connect(self.ports[0]).await?;
        let stream = make_stream(&context, name).await?;
        let stream_leader = leader_of(
            stream
                .cached_info()
                .cluster
                .as_ref()
                .and_then(|cluster| cluster.leader.as_deref()),
        )?;
        let config = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let leader = consumer.cached_info().cluster.as_ref();
        let consumer_leader = leader_of(leader.and_then(|cluster| cluster.leader.as_deref()))?;
        Ok(Arc::new(Lane {
            context: connect(self.ports[stream_leader]).await?,
            worker_port: self.ports[consumer_leader],
            name: name.to_owned(),
        }))
    }
}

async fn connect(port: u16) -> Result<Context> {
    let client = async_nats::connect(format!("nats://127.0.0.1:{port}")).await;
    Ok(jetstream::new(client.context("connecting to NATS")?))
}

/// Servers that have just started refuse until they know each other.
async fn make_stream(context: &Context, name: &str) -> Result<jetstream::stream::Stream> {
    let deadline = Instant::now() + START_TIME;
    loop {
        let config = Config {
            name: name.to_owned(),
            subjects: vec![name.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            num_replicas: NODES,
            ..Default::default()
        };
        match context.create_stream(config).await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => return Err(error).context("making a stream"),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Position of the server with this name.
fn leader_of(name: Option<&str>) -> Result<usize> {
    let position = name.and_then(|name| name.strip_prefix("node-"));
    position
        .and_then(|digits| digits.parse().ok())
        .filter(|position| *position < NODES)
        .ok_or_else(|| anyhow!("a stream or consumer has no leader: {name:?}"))
}

struct Lane {
    context: Context,
    worker_port: u16,
    name: String,
}

#[async_trait]
impl Queue for Lane {
    async fn enqueue(&self, payload: Vec<u8>) -> Result<()> {
        let sent = self.context.publish(self.name.clone(), Bytes::from(payload)).await?;
        sent.await?;
        Ok(())
    }

    /// There is no call for a batch: all are sent, then all are awaited.
    async fn enqueue_batch(&self, payloads: Vec<Vec<u8>>) -> Result<()> {
        try_join_all(payloads.into_iter().map(|payload| self.enqueue(payload))).await?;
        Ok(())
    }

    async fn work(&self, seen: Seen) -> Result<Crew> {
        let done = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..WORKERS {
            let context = connect(self.worker_port).await?;
            let consumer: PullConsumer = context.get_consumer_from_stream(CONSUMER, &self.name).await?;
            let mut jobs = consumer.stream().max_messages_per_batch(PREFETCH).messages().await?;
            let (done, seen) = (Arc::clone(&done), Arc::clone(&seen));
            tasks.spawn(async move {
                while let Some(job) = jobs.next().await {
                    let job = job?;
                    seen(&job.payload);
                    job.ack().await.map_err(|error| anyhow!("acknowledging: {error}"))?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        Ok(Crew::counting(done, tasks))
    }

    async fn settled(&self) -> Result<()> {
        let deadline = Instant::now() + SETTLE_TIME;
        let mut consumer: PullConsumer = self.context.get_consumer_from_stream(CONSUMER, &self.name).await?;
        loop {
            let info = consumer.info().await?;
            if info.num_pending == 0 && info.num_ack_pending == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} jobs and {} acknowledgements are left",
                    info.num_pending,
                    info.num_ack_pending
                );
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn remove(&self) -> Result<()> {
        self.context.delete_stream(&self.name).await?;
        Ok(())
    }
}

//! Redis: a stream with a consumer group, on one node whose log is synced before each answer.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use muster_bench::free_ports;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamReadReply;
use redis::{AsyncConnectionConfig, Client, Value, cmd, pipe};
use tokio::task::JoinSet;

use super::{Queue, System};
use crate::args::{Args, PREFETCH, WORKERS};
use crate::crew::{Crew, Seen};
use crate::servers::{Servers, command};

const GROUP: &str = "workers";
const FIELD: &str = "payload";
/// How long a fetch waits for a job.
const BLOCK: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Redis {
    servers: Servers,
    version: String,
    client: Client,
}

impl Redis {
    pub async fn start(args: &Args) -> Result<Self> {
        let mut servers = Servers::new(&args.dir)?;
        let port = free_ports(1)?[0];
        let program = args.packages.join("usr/bin/redis-server");
        let version = command(&program, &args.packages, servers.path())
            .arg("--version")
            .output()
            .with_context(|| format!("starting {}", program.display()))?;
        let version = version_of(&String::from_utf8_lossy(&version.stdout));
        let data = servers.make_dir("node-1")?;
        let mut node = command(&program, &args.packages, servers.path());
        configure(&mut node, port, &data);
        servers.start("node-1", &mut node)?;
        servers.until_listening(port).await?;
        let client = Client::open(format!("redis://127.0.0.1:{port}/"))?;
        Ok(Self {
            servers,
            version,
            client,
        })
    }
}

fn configure(node: &mut Command, port: u16, data: &Path) {
    node.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"])
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        // No rewriting of files while it is measured.
        .args(["--save", "", "--auto-aof-rewrite-percentage", "0"])
        .arg("--dir")
        .arg(data);
}

/// From "Redis server v=7.0.15 sha=...".
fn version_of(text: &str) -> String {
    let mut words = text.split_whitespace();
    words.find_map(|word| word.strip_prefix("v=")).unwrap_or("?").to_owned()
}

#[async_trait]
impl System for Redis {
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
        let mut connection = connect(&self.client).await?;
        cmd("XGROUP")
            .arg("CREATE")
            .arg(name)
            .arg(GROUP)
            .arg("0")
            .arg("MKSTREAM")
            .exec_async(&mut connection)
            .await?;
        Ok(Arc::new(Lane {
            client: self.client.clone(),
            connection,
            name: name.to_owned(),
        }))
    }
}

async fn connect(client: &Client) -> Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUT));
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    connection.context("connecting to Redis")
}

struct Lane {
    client: Client,
    connection: MultiplexedConnection,
    name: String,
}

#[async_trait]
impl Queue for Lane {
    async fn enqueue(&self, payload: Vec<u8>) -> Result<()> {
        let mut add = cmd("XADD");
        add.arg(&self.name).arg("*").arg(FIELD).arg(payload);
        add.exec_async(&mut self.connection.clone()).await?;
        Ok(())
    }

    async fn enqueue_batch(&self, payloads: Vec<Vec<u8>>) -> Result<()> {
        let mut pipe = pipe();
        for payload in payloads {
            pipe.cmd("XADD").arg(&self.name).arg("*").arg(FIELD).arg(payload);
        }
        pipe.exec_async(&mut self.connection.clone()).await?;
        Ok(())
    }

    async fn work(&self, seen: Seen) -> Result<Crew> {
        let done = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for worker in 0..WORKERS {
            let connection = connect(&self.client).await?;
            let (name, done, seen) = (self.name.clone(), Arc::clone(&done), Arc::clone(&seen));
            tasks.spawn(work(connection, name, worker, done, seen));
        }
        Ok(Crew::counting(done, tasks))
    }

    async fn remove(&self) -> Result<()> {
        let mut unlink = cmd("UNLINK");
        unlink.arg(&self.name).exec_async(&mut self.connection.clone()).await?;
        Ok(())
    }
}

/// Fetches up to [`PREFETCH`] jobs, runs them, acknowledges and deletes them in one round trip.
async fn work(
    mut connection: MultiplexedConnection,
    queue: String,
    worker: usize,
    done: Arc<AtomicU64>,
    seen: Seen,
) -> Result<()> {
    let mut fetch = cmd("XREADGROUP");
    fetch.arg("GROUP").arg(GROUP).arg(worker);
    fetch
        .arg("COUNT")
        .arg(PREFETCH)
        .arg("BLOCK")
        .arg(BLOCK.as_millis() as u64);
    fetch.arg("STREAMS").arg(&queue).arg(">");
    loop {
        let Some(reply) = fetch.query_async::<Option<StreamReadReply>>(&mut connection).await? else {
            continue;
        };
        let jobs = reply.keys.into_iter().flat_map(|key| key.ids);
        let mut ids = Vec::with_capacity(PREFETCH);
        for job in jobs {
            if let Some(Value::BulkString(payload)) = job.map.get(FIELD) {
                seen(payload);
            }
            ids.push(job.id);
        }
        let mut end = pipe();
        end.cmd("XACK").arg(&queue).arg(GROUP).arg(&ids).ignore();
        end.cmd("XDEL").arg(&queue).arg(&ids).ignore();
        end.exec_async(&mut connection).await?;
        done.fetch_add(ids.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        assert_eq!(
            version_of("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc"),
            "7.0.15"
        );
        assert_eq!(version_of(""), "?");
    }
}

//! RabbitMQ: a quorum queue on three nodes, publisher confirms, consumers with a prefetch.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use futures::StreamExt;
use futures::future::try_join_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use muster_bench::free_ports;
use tokio::task::JoinSet;

use super::{Queue, System};
use crate::args::{Args, PREFETCH, WORKERS};
use crate::crew::{Crew, Seen};
use crate::servers::{Servers, command};

const NODES: usize = 3;
/// Of the producers. The server gives each a process of its own.
const CHANNELS: usize = 8;
/// Delivery mode: on disk. Quorum queues know no other, and say so to nobody who asks for it.
const PERSISTENT: u8 = 2;

pub struct RabbitMq {
    servers: Servers,
    version: String,
    uri: String,
}

impl RabbitMq {
    pub async fn start(args: &Args) -> Result<Self> {
        let home = installed(&args.packages)?;
        let name = home.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let version = name.trim_start_matches("rabbitmq_server-").to_owned();
        let mut servers = Servers::new(&args.dir)?;
        let ports = free_ports(2 * NODES + 1)?;
        let (epmd, ports) = ports.split_first().context("no ports")?;
        write_config(servers.path())?;
        // Erlang's port mapper, which the first node would else leave behind as a daemon.
        let mut mapper = command(&args.packages.join("usr/bin/epmd"), &args.packages, servers.path());
        mapper.args(["-port", &epmd.to_string(), "-address", "127.0.0.1"]);
        servers.start("epmd", &mut mapper)?;
        servers.until_listening(*epmd).await?;
        let amqp: Vec<u16> = ports.chunks_exact(2).map(|pair| pair[0]).collect();
        for (id, pair) in (1..).zip(ports.chunks_exact(2)) {
            let mut node = node(&home, args, &servers, id, pair, *epmd)?;
            servers.start(&format!("node-{id}"), &mut node)?;
            // The others find a cluster to join; three that start at once wait for each other much longer.
            if id == 1 {
                servers.until_listening(pair[0]).await?;
            }
        }
        for port in &amqp {
            servers.until_listening(*port).await?;
        }
        let uri = format!("amqp://guest:guest@127.0.0.1:{}/%2f", amqp[0]);
        Ok(Self { servers, version, uri })
    }
}

/// Folder of the server's own files.
fn installed(packages: &Path) -> Result<PathBuf> {
    let lib = packages.join("usr/lib/rabbitmq/lib");
    let entries = fs::read_dir(&lib).with_context(|| format!("reading {}", lib.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.join("sbin/rabbitmq-server").exists())
        .with_context(|| format!("no RabbitMQ in {}", lib.display()))
}

fn write_config(dir: &Path) -> Result<()> {
    let mut config = "cluster_formation.peer_discovery_backend = classic_config\nlog.file.level = warning\n".to_owned();
    for id in 1..=NODES {
        config.push_str(&format!(
            "cluster_formation.classic_config.nodes.{id} = peer{id}@localhost\n"
        ));
    }
    fs::write(dir.join("rabbitmq.conf"), config).context("writing rabbitmq.conf")?;
    let cookie = dir.join(".erlang.cookie");
    fs::write(&cookie, "bench").context("writing a cookie")?;
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).context("protecting the cookie")
}

fn node(home: &Path, args: &Args, servers: &Servers, id: usize, ports: &[u16], epmd: u16) -> Result<Command> {
    let data = servers.make_dir(&format!("node-{id}"))?;
    let file = |name: &str| servers.path().join(name);
    let mut node = command(&home.join("sbin/rabbitmq-server"), &args.packages, servers.path());
    node.arg("-noinput")
        // The script then becomes the node instead of starting it, so that its process id is the node's.
        .env("RABBITMQ_ALLOW_INPUT", "1")
        .env("RABBITMQ_NODENAME", format!("peer{id}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", ports[0].to_string())
        .env("RABBITMQ_DIST_PORT", ports[1].to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}",
        )
        .env("ERL_EPMD_PORT", epmd.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
        // Neither the packages' nor the machine's own settings.
        .env("RABBITMQ_CONF_ENV_FILE", file("none"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("none"))
        .env("RABBITMQ_MNESIA_BASE", &data)
        .env("RABBITMQ_LOG_BASE", &data);
    Ok(node)
}

#[async_trait]
impl System for RabbitMq {
    fn version(&self) -> String {
        self.version.clone()
    }

    fn pids(&self) -> Vec<u32> {
        self.servers.pids("node-")
    }

    fn path(&self) -> &Path {
        self.servers.path()
    }

    /// The queue's leader is the node that declares it, which is also the one that producers and workers connect to.
    async fn queue(&self, name: &str) -> Result<Arc<dyn Queue>> {
        let connection = connect(&self.uri).await?;
        let channels = try_join_all((0..CHANNELS).map(|_| connection.create_channel())).await?;
        for channel in &channels {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
        }
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-quorum-initial-group-size".into(), AMQPValue::LongInt(NODES as i32));
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        channels[0].queue_declare(name.into(), options, arguments).await?;
        Ok(Arc::new(Lane {
            uri: self.uri.clone(),
            name: name.to_owned(),
            channels,
            next: AtomicUsize::new(0),
            _connection: connection,
        }))
    }
}

async fn connect(uri: &str) -> Result<Connection> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await;
    connection.context("connecting to RabbitMQ")
}

struct Lane {
    uri: String,
    name: String,
    channels: Vec<Channel>,
    next: AtomicUsize,
    _connection: Connection,
}

#[async_trait]
impl Queue for Lane {
    async fn enqueue(&self, payload: Vec<u8>) -> Result<()> {
        let channel = &self.channels[self.next.fetch_add(1, Ordering::Relaxed) % CHANNELS];
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let sent = channel
            .basic_publish(
                "".into(),
                self.name.as_str().into(),
                BasicPublishOptions::default(),
                &payload,
                properties,
            )
            .await?;
        match sent.await? {
            Confirmation::Ack(_) => Ok(()),
            other => bail!("not confirmed: {other:?}"),
        }
    }

    /// There is no call for a batch: all are sent, then all are awaited.
    async fn enqueue_batch(&self, payloads: Vec<Vec<u8>>) -> Result<()> {
        try_join_all(payloads.into_iter().map(|payload| self.enqueue(payload))).await?;
        Ok(())
    }

    /// Acknowledgements are not answered; they count as done when they are sent.
    async fn work(&self, seen: Seen) -> Result<Crew> {
        let done = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for worker in 0..WORKERS {
            let connection = connect(&self.uri).await?;
            let channel = connection.create_channel().await?;
            channel.basic_qos(PREFETCH as u16, BasicQosOptions::default()).await?;
            let tag = format!("worker-{worker}");
            let mut consumer = channel
                .basic_consume(
                    self.name.as_str().into(),
                    tag.into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await?;
            let (done, seen) = (Arc::clone(&done), Arc::clone(&seen));
            tasks.spawn(async move {
                let _connection = connection;
                while let Some(delivery) = consumer.next().await {
                    let delivery = delivery?;
                    seen(&delivery.data);
                    delivery.ack(BasicAckOptions::default()).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        Ok(Crew::counting(done, tasks))
    }

    async fn remove(&self) -> Result<()> {
        let channel = &self.channels[0];
        channel
            .queue_delete(self.name.as_str().into(), QueueDeleteOptions::default())
            .await?;
        Ok(())
    }
}

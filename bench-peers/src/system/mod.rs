//! What the load sees of a system.

mod muster;
mod nats;
mod rabbitmq;
mod redis;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use clap::ValueEnum;
use serde::Serialize;

use crate::args::Args;
use crate::crew::{Crew, Seen};

/// The systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Three nodes
    Muster,
    /// RabbitMQ: a quorum queue on three nodes
    Rabbitmq,
    /// NATS JetStream: a stream of three replicas whose files are written through to the disk
    NatsSynced,
    /// NATS JetStream: a stream of three replicas, as it comes
    Nats,
    /// Redis: a stream with a consumer group on one node, synced
    Redis,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Muster, Self::Rabbitmq, Self::NatsSynced, Self::Nats, Self::Redis];

    pub fn name(self) -> &'static str {
        match self {
            Self::Muster => "Muster",
            Self::Rabbitmq => "RabbitMQ quorum queue",
            Self::NatsSynced => "NATS JetStream, synced",
            Self::Nats => "NATS JetStream",
            Self::Redis => "Redis stream",
        }
    }

    /// What an acknowledgement means.
    pub fn durability(self) -> &'static str {
        match self {
            Self::Muster => "3 nodes; synced on a majority and applied",
            Self::Rabbitmq => "3 nodes; synced on a majority",
            Self::NatsSynced => {
                "3 nodes; written through on a majority (files with the attribute S: every write is a sync of its own; \
                 newer versions than the distribution's have a setting under which messages share syncs)"
            }
            Self::Nats => "3 nodes; written on a majority, **not synced** (every two minutes)",
            Self::Redis => "1 node, **no replica**; synced (appendfsync always)",
        }
    }

    /// Its acknowledged jobs are on so many nodes, or on a majority of them.
    pub fn replicas(self) -> usize {
        match self {
            Self::Redis => 1,
            _ => 3,
        }
    }
}

/// A running system. Dropping it ends it.
#[async_trait]
pub trait System: Send + Sync {
    fn version(&self) -> String;
    /// Of the processes that hold its data.
    fn pids(&self) -> Vec<u32>;
    /// Where that data lies.
    fn path(&self) -> &Path;
    /// Makes a queue and connects to where it is served best.
    async fn queue(&self, name: &str) -> Result<Arc<dyn Queue>>;
}

/// A queue, and a connection for its producers.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Returns once the job is acknowledged.
    async fn enqueue(&self, payload: Vec<u8>) -> Result<()>;
    /// Returns once all jobs are acknowledged.
    async fn enqueue_batch(&self, payloads: Vec<Vec<u8>>) -> Result<()>;
    /// Starts the workers, each with a connection of its own.
    async fn work(&self, seen: Seen) -> Result<Crew>;
    /// Waits until the system itself counts every job as done; for systems that do not answer acknowledgements of workers.
    async fn settled(&self) -> Result<()> {
        Ok(())
    }
    /// Removes it with what is left in it, where a system can do so at once.
    async fn remove(&self) -> Result<()> {
        Ok(())
    }
}

/// Starts a system and waits until it can take jobs.
pub async fn start(kind: Kind, args: &Args) -> Result<Box<dyn System>> {
    Ok(match kind {
        Kind::Muster => Box::new(muster::Muster::start(args).await?),
        Kind::Rabbitmq => Box::new(rabbitmq::RabbitMq::start(args).await?),
        Kind::NatsSynced => Box::new(nats::Nats::start(args, true).await?),
        Kind::Nats => Box::new(nats::Nats::start(args, false).await?),
        Kind::Redis => Box::new(redis::Redis::start(args).await?),
    })
}

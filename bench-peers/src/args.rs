//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::load::Load;
use crate::system::Kind;

/// Muster beside other systems.
#[derive(Debug, Parser)]
pub struct Args {
    /// The muster program
    #[arg(long)]
    pub server: PathBuf,
    /// Folder into which the packages of the other systems were unpacked
    #[arg(long)]
    pub packages: PathBuf,
    /// Folder for the report: report.md, report.json
    #[arg(long)]
    pub report: PathBuf,
    /// Folder for the data of all systems; the sync rate of its disk is measured
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub dir: PathBuf,
    /// How often each system has its turn, 1-20
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub rounds: u32,
    /// Time of one load in seconds, 1-60
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub seconds: u64,
    /// Most jobs of one load, 1,000-1,000,000
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000))]
    pub jobs: u64,
    /// Jobs that are queued before they are drained, 1,000-200,000
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1_000..=200_000))]
    pub queued: u64,
    /// Systems, in the order of the first round; default: all
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Kind>,
}

/// Bytes of a payload.
pub const PAYLOAD_BYTES: usize = 256;
/// Jobs of a batch, and callers that each await one after the other.
pub const BATCH: usize = 100;
/// See [`BATCH`].
pub const LANES: usize = 8;
/// Workers, each with a connection of its own.
pub const WORKERS: usize = 4;
/// Jobs that a worker holds at once.
pub const PREFETCH: usize = 16;
/// Producers beside the workers.
pub const PRODUCERS: usize = 64;

impl Args {
    pub fn systems(&self) -> Vec<Kind> {
        match self.only.is_empty() {
            true => Kind::ALL.to_vec(),
            false => self.only.clone(),
        }
    }

    /// Draining comes first: its queue is filled while nothing else has been left behind.
    pub fn loads(&self) -> Vec<Load> {
        vec![
            Load::Drain,
            Load::Life,
            Load::Paced(500),
            Load::Enqueue(1),
            Load::Enqueue(64),
            Load::Enqueue(1_024),
            Load::Batch,
        ]
    }
}

//! The demo's command line.

use std::path::PathBuf;

use clap::Parser;

/// Runs a real workload through a real three-node cluster, kills the leader in the middle, and proves that nothing was lost.
#[derive(Clone, Debug, Parser)]
#[command(name = "muster-demo", version)]
pub struct Args {
    /// Directory whose text files are indexed [default: the installed Rust documentation, else /usr/share]
    pub directory: Option<PathBuf>,
    /// Files at most
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pub files: u32,
    /// Jobs that run at once, over three workers
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(3..=3_000))]
    pub slots: u32,
    /// Milliseconds that a job waits besides its work, as for a slow service; keeps the workers contended
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=10_000), value_name = "MS")]
    pub think: u64,
    /// Starts per second that the limited tenant may have
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Seconds after which the demo gives up
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(10..=3_600), value_name = "S")]
    pub max_time: u64,
    /// The cluster's configuration; its data goes into a temporary directory
    #[arg(long, default_value = "cluster.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// The `muster` binary [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub muster: Option<PathBuf>,
    /// Where the temporary directory is made [default: the system's]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Keep the nodes' data and logs
    #[arg(long)]
    pub keep: bool,
}

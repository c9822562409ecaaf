//! Command lines of `muster server` and `muster dev`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `muster server`: one node of a cluster.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// The file that names all nodes
    #[arg(long, default_value = "cluster.toml", env = "MUSTER_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Which of them this process is
    #[arg(long, env = "MUSTER_NODE", value_name = "ID")]
    pub node: u64,
    /// Check the file, print what is in force, and stop
    #[arg(long)]
    pub check: bool,
    /// Form of the log lines on standard error; the filter is RUST_LOG
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// `muster dev`: three nodes in one process, for trying out.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// Keep the data in this directory instead of a temporary one
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// First of nine ports: three for clients, three for peers, three for metrics
    #[arg(long, default_value_t = 7001, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub port: u16,
    /// Form of the log lines on standard error; the filter is RUST_LOG (default here: warn)
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

//! Command lines of `muster server` and `muster dev`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use muster_raft::{BadToken, JoinToken};

use crate::Error;

/// `muster server`: one node of a cluster.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// The file that names all nodes
    #[arg(long, default_value = "cluster.toml", env = "MUSTER_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Which of them this process is
    #[arg(long, env = "MUSTER_NODE", value_name = "ID")]
    pub node: u64,
    /// Join a cluster that is there, with a token of `muster cluster add`. Visible to all users of the machine: rather
    /// give it in the environment or a file. Of no effect once the node has joined
    #[arg(long, env = "MUSTER_JOIN", value_name = "TOKEN", hide_env_values = true)]
    pub join: Option<String>,
    /// The same, from a file
    #[arg(long, env = "MUSTER_JOIN_FILE", value_name = "FILE")]
    pub join_file: Option<PathBuf>,
    /// Start although the cluster knows this node at another address, and look for the others where the file says that
    /// they are: when a whole cluster has moved
    #[arg(long)]
    pub moved: bool,
    /// Check the file, print what is in force, and stop
    #[arg(long)]
    pub check: bool,
    /// Understand no higher feature level, as an older program would: to rehearse an upgrade
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(1..=i64::from(muster_core::LEVEL_MAX)))]
    pub level_max: Option<u32>,
    /// Form of the log lines on standard error; the filter is RUST_LOG
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

impl ServerArgs {
    /// The join token that was given, in whichever way. A variable without a value is none.
    pub(crate) fn token(&self) -> Result<Option<JoinToken>, Error> {
        let join = self.join.as_ref().filter(|text| !text.trim().is_empty());
        let file = self.join_file.as_ref().filter(|file| !file.as_os_str().is_empty());
        let (text, place) = match (join, file) {
            (Some(_), Some(file)) => {
                return Err(Error::Config {
                    file: file.clone(),
                    reason: "a join token is given in two ways, --join (MUSTER_JOIN) and --join-file (MUSTER_JOIN_FILE); leave one out"
                        .to_owned(),
                });
            }
            (Some(text), None) => (text.clone(), PathBuf::from("--join")),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file).map_err(|error| Error::Config {
                    file: file.clone(),
                    reason: format!("the join token cannot be read: {error}"),
                })?;
                (text, file.clone())
            }
            (None, None) => return Ok(None),
        };
        let token = text.parse().map_err(|error: BadToken| Error::Config {
            file: place,
            reason: error.to_string(),
        })?;
        Ok(Some(token))
    }
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

/// Form of what a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

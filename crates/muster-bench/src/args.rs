//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Callers that each await one job after the other
    Enqueue,
    /// Callers that each await one batch after the other
    Batch,
    /// Workers that empty a queue of no-op jobs
    Drain,
    /// Producers and workers at once: enqueue, run, complete
    Life,
    /// Time from enqueue to start at fixed rates, whatever becomes of earlier calls (open loop)
    Start,
    /// Nodes killed and started again while --jobs are queued (with --spawn)
    Restart,
    /// A snapshot sent and installed, and purges of the log, while --jobs are queued (with --spawn)
    Snapshot,
    /// Backups under load while --jobs are queued, verify, restore (with --spawn); the last one: the restored cluster stays
    Backup,
    /// Callers that each read one job time after time, linearizable and stale
    Read,
    /// What a quiet tenant waits beside one that enqueues 10, 100 and 1,000 times as much for the same workers
    Neighbour,
    /// The leader killed under load, five times: how long nothing is acknowledged (with --spawn)
    LeaderKill,
    /// CPU time of a cluster that has nothing to do (with --spawn or --server-pids)
    Idle,
}

impl Scenario {
    /// It needs a cluster of our own with settings of its own.
    pub(crate) fn is_upkeep(self) -> bool {
        matches!(self, Self::Restart | Self::Snapshot | Self::Backup)
    }
}

/// Arguments of `muster bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What to measure; default: enqueue, batch, drain and life
    #[arg(value_enum)]
    pub scenarios: Vec<Scenario>,
    /// A node of the cluster; may be given several times
    #[arg(
        long,
        env = "MUSTER_ADDRESS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7001"
    )]
    pub address: Vec<String>,
    /// Start a cluster for the measurement, as processes on this machine, and end it afterwards
    #[arg(long)]
    pub spawn: bool,
    /// Nodes to start with --spawn, 1-7
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=7))]
    pub nodes: u32,
    /// Directory for the data of spawned nodes and for the disk probe; default: the system's temporary directory
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Program to start with --spawn; default: this one
    #[arg(long, hide = true)]
    pub server: Option<PathBuf>,
    /// Process ids of the servers, to measure their CPU time and memory; known with --spawn
    #[arg(long, value_delimiter = ',')]
    pub server_pids: Vec<u32>,
    /// Tenant of the jobs
    #[arg(long, default_value = "default")]
    pub tenant: String,
    /// Numbers of callers for enqueue and read, each 1-10,000; the first one from 64 up is also that of the producers of life
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
    pub callers: Vec<u32>,
    /// Jobs at once for drain, life and start, 1-10,000
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub workers: u32,
    /// Jobs of a batch, 1-10,000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// Callers of batch, 1-1,000
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub lanes: u32,
    /// Other tenants beside the two of neighbour, 0-100,000: they are made first, and enqueue a hundred jobs a second in turn
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub tenants: u32,
    /// Rates for start, in jobs per second, each 1-100,000
    #[arg(long, value_delimiter = ',', default_values_t = [100, 2_000])]
    pub rate: Vec<u32>,
    /// Most jobs of one measurement, 1-10,000,000
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub jobs: u64,
    /// Longest time of one measurement in seconds, 1-3,600
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// Size of a payload in bytes, 32-1,048,576
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(32..=1_048_576))]
    pub payload_bytes: u32,
    /// Folder for a report as well: table, JSON, plots (SVG)
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Allow a cluster on other machines: the load is meant to be as high as it can get
    #[arg(long)]
    pub allow_remote: bool,
}

impl BenchArgs {
    /// Checks what clap cannot.
    pub(crate) fn validate(&self) -> Result<()> {
        ensure!(!self.callers.is_empty(), "--callers names no number");
        for callers in &self.callers {
            ensure!(
                (1..=10_000).contains(callers),
                "--callers is {callers}, allowed are 1 to 10,000"
            );
        }
        for rate in &self.rate {
            ensure!(
                (1..=100_000).contains(rate),
                "--rate is {rate}, allowed are 1 to 100,000"
            );
        }
        if !self.spawn && !self.allow_remote {
            for address in &self.address {
                let host = host(address).with_context(|| format!("--address {address:?} has no host"))?;
                ensure!(
                    is_loopback(host),
                    "{address} is not on this machine; the load would be as high as it can get. Allow it with --allow-remote"
                );
            }
        }
        Ok(())
    }

    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        if self.scenarios.is_empty() {
            vec![Scenario::Enqueue, Scenario::Batch, Scenario::Drain, Scenario::Life]
        } else {
            self.scenarios.clone()
        }
    }

    pub(crate) fn producers(&self) -> u32 {
        self.callers
            .iter()
            .copied()
            .find(|callers| *callers >= 64)
            .unwrap_or(64)
    }
}

fn host(address: &str) -> Option<&str> {
    let bare = address.split_once("://").map_or(address, |(_, bare)| bare);
    let authority = bare.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    (!host.is_empty()).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn check(line: &str, expected: Result<(), &str>) {
        let args = Cli::try_parse_from(std::iter::once("bench").chain(line.split_whitespace()))
            .unwrap()
            .bench;
        match (args.validate(), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (result, _) => panic!("{line}: {result:?}"),
        }
    }

    #[test]
    fn only_loopback_unless_allowed() {
        check("", Ok(()));
        check("--address localhost:7001,[::1]:7001,http://127.0.0.2:7001/", Ok(()));
        check("--address http://10.0.0.1:7001", Err("--allow-remote"));
        check("--address 127.0.0.1.example.org:7001", Err("--allow-remote"));
        check("--address http://10.0.0.1:7001 --allow-remote", Ok(()));
        check("--callers 0", Err("allowed are 1 to 10,000"));
    }

    #[test]
    fn bounds_are_checked_while_parsing() {
        for line in ["--nodes 8", "--jobs 0", "--seconds 0", "--payload-bytes 8", "nonsense"] {
            assert!(
                Cli::try_parse_from(std::iter::once("bench").chain(line.split_whitespace())).is_err(),
                "{line}"
            );
        }
    }
}

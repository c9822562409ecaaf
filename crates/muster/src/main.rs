//! The `muster` binary: the server, the development cluster, the client commands, the benchmark.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Serves RocksDB too. It saves a seventh of the CPU time per job and half of the memory of a long queue
/// (docs/performance.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Background jobs on a small cluster of equal nodes: acknowledged means synced on a majority
#[derive(Parser)]
#[command(name = "muster", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one node of a cluster
    Server(muster_server::ServerArgs),
    /// Run three nodes in this process, for trying out
    Dev(muster_server::DevArgs),
    /// Work on the data of a node that is stopped
    #[command(subcommand)]
    Node(NodeCommand),
    /// Read everything in the data directory of a stopped node and say what is wrong
    Fsck(muster_server::FsckArgs),
    /// Look into the replicated log of a stopped node
    #[command(subcommand)]
    Log(LogCommand),
    /// Measure a cluster
    Bench(muster_bench::BenchArgs),
    #[command(flatten)]
    Client(muster_cli::Command),
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Throw its data away and get it anew from the other nodes at its next start
    Rebuild(muster_server::RebuildArgs),
}

#[derive(Subcommand)]
enum LogCommand {
    /// Print its entries
    Dump(muster_server::DumpArgs),
}

pub(crate) fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("muster: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match command {
            Command::Server(args) => served(muster_server::server(args).await),
            Command::Dev(args) => served(muster_server::dev(args).await),
            Command::Node(NodeCommand::Rebuild(args)) => served(muster_server::rebuild(&args)),
            Command::Fsck(args) => ExitCode::from(muster_server::fsck(&args)),
            Command::Log(LogCommand::Dump(args)) => ExitCode::from(muster_server::dump(&args)),
            Command::Bench(args) => match muster_bench::run(args).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("muster bench: {error:#}");
                    ExitCode::FAILURE
                }
            },
            Command::Client(command) => ExitCode::from(muster_cli::run(command, Cli::command()).await),
        }
    })
}

/// The end of a server. One that failed ends at once and closes nothing: after a failed write RocksDB's threads pause for a second
/// and an ordinary exit waits for them, or for a disk that hangs.
fn served(outcome: Result<(), muster_server::Error>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster: {error}");
            signal_hook::low_level::exit(i32::from(error.exit_code()))
        }
    }
}

//! The commands of the `muster` binary: text over the public API, through the client library alone; and, for what is done
//! without a cluster (backups, recovery), over `muster-backup` and `muster-server`.
//!
//! Tables for people, `-o json` for scripts. One line on standard error says what went wrong, to what, and what to do
//! next; [`exit`] lists the exit codes.

mod args;
mod command;
pub mod exit;
mod explain;
mod failure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod human;
mod json;
mod kinds;
mod limits;
mod output;
mod parse;
mod table;
mod tenants;

pub use args::Global;
pub use command::{BackupArgs, ClusterArgs, Command, JobArgs, KindArgs, QueueArgs, TenantArgs, WorkerArgs};

/// Runs a command and returns the process's exit code ([`exit`]).
///
/// `root` is the program's whole command line, from which `completion` makes its scripts.
pub async fn run(command: Command, root: clap::Command) -> u8 {
    command::run(command, root).await
}

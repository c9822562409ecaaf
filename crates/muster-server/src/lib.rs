//! One node as a process: reads `cluster.toml`, wires store, log, node, public interface and metrics, owns the shutdown.

const _: () = assert!(
    !muster_core::SEEDED_BUGS,
    "the feature seeded-bugs is for muster-sim alone: build without it"
);

mod args;
mod config;
mod dev;
mod dump;
mod error;
mod fsck;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod logs;
mod memory;
mod metrics;
mod open;
mod rebuild;
mod recover;
mod restore;
mod run;
mod size;
mod witness;

pub use args::{DevArgs, LogFormat, OutputFormat, ServerArgs};
pub use config::{NodeConfig, RaftTable, ServerConfig, StoreTable};
pub use dev::dev;
pub use dump::{DumpArgs, dump};
pub use error::Error;
pub use fsck::{FsckArgs, fsck};
pub use rebuild::{RebuildArgs, rebuild};
pub use recover::{Inspected, RecoverError, RecoverRequest, Recovered, inspect, recover};
pub use restore::{members, restore_nodes};
pub use run::{Entry, RunningNode, server, start_node};
pub use witness::RECORD_APPLIED;

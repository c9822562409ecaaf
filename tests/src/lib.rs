//! Real clusters for tests: `muster server` processes on loopback ports, killed, paused and restarted at will.

#![allow(clippy::expect_used, reason = "a test that cannot go on ends")]

pub mod chaos;
mod cli;
mod cluster;
pub mod damage;
mod disk;
pub mod excess;
mod ledger;
mod load;
mod ports;
mod shim;
mod wait;
mod worker;
mod working;

pub use cli::{Ran, Running, muster};
pub use cluster::{Cluster, Exit, NodePorts, RECORD_APPLIED, binary};
pub use disk::SmallDisk;
pub use ledger::{Ledger, Run};
pub use load::{Call, PacedLoad, assert_same, states};
pub use ports::free_ports;
pub use shim::{Syncs, sync_shim};
pub use wait::{eventually, wait_for_ends};
pub use worker::RawWorker;
pub use working::Working;

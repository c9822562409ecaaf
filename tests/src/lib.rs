//! Real clusters for tests: `muster server` processes on loopback ports, killed, paused and restarted at will.

#![allow(clippy::expect_used, reason = "a test that cannot go on ends")]

pub mod chaos;
mod cluster;
mod ledger;
mod ports;
mod wait;
mod worker;

pub use cluster::{Cluster, Exit, NodePorts, Ran, binary, muster};
pub use ledger::{Ledger, Run};
pub use ports::free_ports;
pub use wait::eventually;
pub use worker::RawWorker;

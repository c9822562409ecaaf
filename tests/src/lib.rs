//! Real clusters for tests: `muster server` processes on loopback ports, killed, paused and restarted at will.

#![allow(clippy::expect_used, reason = "a test that cannot go on ends")]

pub mod chaos;
mod cluster;
mod ledger;
mod ports;
mod wait;
mod worker;
mod working;

pub use cluster::{Cluster, Exit, NodePorts, Ran, binary, muster};
pub use ledger::{Ledger, Run};
pub use ports::free_ports;
pub use wait::{eventually, wait_for_ends};
pub use worker::RawWorker;
pub use working::Working;

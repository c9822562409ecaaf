//! Measures a Muster cluster from outside, through the client library alone: `muster bench`.
//!
//! Figures mean little without the disk they were measured on: each report names the sync rate of the disk and what an
//! acknowledgement means, and gives CPU time per job beside the rates, which moves less from machine to machine.

mod args;
mod cluster;
mod folder;
mod measure;
mod plot;
mod probe;
pub mod process;
mod report;
mod run;
mod scenario;

pub use args::{BenchArgs, Scenario};
pub use cluster::{Cluster, free_ports};
pub use measure::{Quantiles, Times};
pub use probe::syncs_per_second;
pub use report::{Figures, Operation, Report};
pub use run::{measure, run};

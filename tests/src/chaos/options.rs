//! What a run is to do.

use std::path::PathBuf;
use std::time::Duration;

use crate::chaos::Fault;

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long faults and load go on.
    pub time: Duration,
    /// 3 or 5.
    pub nodes: usize,
    /// Decides faults, their order and targets, and the load.
    pub seed: u64,
    /// Faults to choose from.
    pub faults: Vec<Fault>,
    /// Calls per second of all clients together, when the cluster answers at once.
    pub rate: u32,
    /// Where configuration, data, logs and history are kept; `None`: in a temporary directory that stays only if
    /// something is wrong.
    pub keep: Option<PathBuf>,
    /// Say how it goes on standard error.
    pub progress: bool,
    /// Nodes are the program with failpoints, and keep little of their log, so that all of its points are passed.
    pub failpoints: bool,
}

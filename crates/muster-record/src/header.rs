//! The first line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{FaultKind, Micros, OperationKind};

/// Version of the format that this crate writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// What the run was, and what it promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub muster_history: u32,
    /// Program that wrote it, with what is needed to repeat the run.
    pub source: String,
    /// Milliseconds since the Unix epoch at time 0 of the recording clock; 0 = not known. Lets times of workers be
    /// compared with the times that clients asked for.
    #[serde(default)]
    pub epoch_ms: u64,
    /// How far clocks and deliveries may be apart from the recording clock, in microseconds.
    #[serde(default = "default_slack")]
    pub slack_us: Micros,
    /// What must have happened for the history to count.
    #[serde(default)]
    pub demands: Demands,
}

fn default_slack() -> Micros {
    10_000_000
}

/// What a history must show to count: an idle run proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demands {
    /// Least number of calls that went well, by operation.
    #[serde(default)]
    pub operations: BTreeMap<OperationKind, u64>,
    /// Kinds of fault that must have taken effect at least once, besides those that were injected.
    #[serde(default)]
    pub faults: Vec<FaultKind>,
    /// The run went on after the last fault until everything was idle, at most this long; `None`: no such promise.
    #[serde(default)]
    pub drained_within_us: Option<Micros>,
}

impl Header {
    /// A header of this version that promises nothing.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            muster_history: VERSION,
            source: source.into(),
            epoch_ms: 0,
            slack_us: default_slack(),
            demands: Demands::default(),
        }
    }
}

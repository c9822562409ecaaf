//! What will be done to the cluster: calls of clients and faults, drawn from the seed before the run. Each item has a
//! seed of its own, so that the others stay what they are when a shrinker leaves some out.

use crate::history::{FaultKind, Micros};
use crate::sim::rng::Rng;

/// How hard the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Faults until the end, then a look at what is there.
    Safety,
    /// Faults stop after half of the calls; then everything must drain.
    Liveness,
}

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Calls of clients.
    pub calls: u64,
    /// How hard.
    pub mode: Mode,
    /// Record and judge the history. Else only hashes are compared.
    pub judged: bool,
    /// In a judged run: let the core recount itself and compare it with its written rows now and then.
    pub recounts: bool,
}

/// A call to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannedCall {
    /// Not before.
    pub(crate) at: Micros,
    pub(crate) client: u32,
    pub(crate) seed: u64,
}

/// A fault to be injected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannedFault {
    pub(crate) at: Micros,
    pub(crate) length: Micros,
    pub(crate) kind: FaultKind,
    pub(crate) seed: u64,
}

/// Everything that will be done.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) calls: Vec<PlannedCall>,
    pub(crate) faults: Vec<PlannedFault>,
}

/// Clients besides the one that sets up tenants.
pub(crate) const CLIENTS: u32 = 16;
/// Time between two calls, on average.
const CALL_EVERY: Micros = 1_500;

/// Faults that are injected, repeated by how often.
const FAULTS: &[FaultKind] = &[
    FaultKind::Kill,
    FaultKind::Kill,
    FaultKind::Pause,
    FaultKind::Partition,
    FaultKind::Partition,
    FaultKind::Delay,
    FaultKind::Duplicate,
    FaultKind::Drop,
    FaultKind::LeaderChange,
    FaultKind::LeaderChange,
    FaultKind::ClockJump,
    FaultKind::Snapshot,
    FaultKind::WorkerKill,
    FaultKind::WorkerHang,
    FaultKind::SessionLoss,
    FaultKind::DoubleReport,
    FaultKind::LateReport,
];

impl Script {
    pub(crate) fn draw(options: &Options) -> Self {
        let mut rng = Rng::new(options.seed);
        let span = options.calls * CALL_EVERY;
        let mut calls: Vec<PlannedCall> = (0..options.calls)
            .map(|_| PlannedCall {
                at: rng.below(span),
                client: 1 + rng.below(u64::from(CLIENTS)) as u32,
                seed: rng.word(),
            })
            .collect();
        calls.sort_unstable_by_key(|call| (call.at, call.seed));
        let stop = match options.mode {
            Mode::Safety => span,
            Mode::Liveness => span / 2,
        };
        let mut faults = Vec::new();
        let mut at = rng.below(300_000);
        while at < stop {
            faults.push(PlannedFault {
                at,
                length: rng.between(20_000, 600_000),
                kind: rng.pick(FAULTS),
                seed: rng.word(),
            });
            at += rng.between(10_000, 300_000);
        }
        Self { calls, faults }
    }

    /// When the last fault is over.
    pub(crate) fn healed_at(&self) -> Micros {
        self.faults
            .iter()
            .map(|fault| fault.at + fault.length)
            .max()
            .unwrap_or(0)
    }
}

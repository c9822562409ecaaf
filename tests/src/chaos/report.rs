//! What came of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use muster_sim::Tally;
use muster_sim::history::OperationKind;

use crate::chaos::Fault;

/// What a fault came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCount {
    /// Times it was injected.
    pub injected: u64,
    /// Times it was seen to do something.
    pub took_effect: u64,
}

/// What came of a run.
pub struct Report {
    /// Decides faults and load.
    pub seed: u64,
    /// How long faults and load went on.
    pub time: Duration,
    /// By fault.
    pub faults: BTreeMap<Fault, FaultCount>,
    /// Calls: done, not done, unknown.
    pub calls: BTreeMap<OperationKind, [u64; 3]>,
    /// Longest time without an acknowledged enqueue, and when in the run it began.
    pub gap: (Duration, Duration),
    /// From the end of the last fault until all work was done.
    pub drained_after: Duration,
    /// Leaders elected.
    pub leaders: usize,
    /// Times that two nodes were seen at one index, and compared.
    pub compared: u64,
    /// Entries that nodes recorded as applied.
    pub recorded: u64,
    /// What the checkers say.
    pub tally: Tally,
    /// What else is wrong.
    pub complaints: Vec<String>,
    /// Where logs, data and the history are, when they were kept.
    pub kept: Option<PathBuf>,
}

impl Report {
    /// Nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.tally.violations() == 0 && self.complaints.is_empty()
    }

    /// Faults that took effect.
    pub fn took_effect(&self) -> u64 {
        self.faults.values().map(|count| count.took_effect).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:16} {:>10} {:>12}", "fault", "injected", "took effect")?;
        for (fault, count) in &self.faults {
            writeln!(f, "{fault:16} {:>10} {:>12}", count.injected, count.took_effect)?;
        }
        let injected: u64 = self.faults.values().map(|count| count.injected).sum();
        writeln!(f, "{:16} {injected:>10} {:>12}\n", "all", self.took_effect())?;

        writeln!(f, "{:16} {:>10} {:>12} {:>10}", "call", "done", "not done", "unknown")?;
        let mut all = [0; 3];
        for (kind, counts) in &self.calls {
            let [done, not_done, unknown] = counts;
            let kind = serde_json::to_value(kind).ok();
            let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default();
            writeln!(f, "{kind:16} {done:>10} {not_done:>12} {unknown:>10}")?;
            all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        writeln!(f, "{:16} {:>10} {:>12} {:>10}\n", "all", all[0], all[1], all[2])?;

        write!(f, "{}", self.tally)?;
        for complaint in &self.complaints {
            writeln!(f, "wrong: {complaint}")?;
        }
        let (gap, at) = self.gap;
        writeln!(
            f,
            "\n{:.1} min, {} leaders elected, {} applied entries recorded by nodes, which were compared {} times while they ran; \
             all work done {:.1} s after the last fault",
            self.time.as_secs_f64() / 60.0,
            self.leaders,
            self.recorded,
            self.compared,
            self.drained_after.as_secs_f64()
        )?;
        writeln!(
            f,
            "longest time without an acknowledged enqueue: {:.1} s, from {:.0} s on",
            gap.as_secs_f64(),
            at.as_secs_f64()
        )?;
        if self.is_good() {
            write!(f, "Nothing is wrong. Seed {}.", self.seed)
        } else {
            write!(
                f,
                "{} violations, {} other complaints. Seed {}.",
                self.tally.violations(),
                self.complaints.len(),
                self.seed
            )
        }
    }
}

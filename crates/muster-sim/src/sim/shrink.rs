//! Makes a failing script smaller: leaves out faults and calls by halves, as long as the same checker still fails.

use crate::sim::defect::Chosen;
use crate::sim::script::{Options, Script};
use crate::sim::{Outcome, follow};

/// Runs spent on one shrink.
const RUNS_MAX: u32 = 300;

/// What is left of a failing run.
pub struct Shrunk {
    /// Runs it took.
    pub runs: u32,
    /// Calls and faults before and after.
    pub sizes: [(usize, usize); 2],
    /// The faults that are needed, as text.
    pub faults: Vec<String>,
    /// What the smallest run came to.
    pub outcome: Outcome,
}

/// Shrinks a seed that fails; `None` if it does not.
pub fn shrink(options: Options, chosen: Chosen) -> Option<Shrunk> {
    let whole = Script::draw(&options);
    let outcome = follow(options, whole.clone(), chosen, None);
    let wanted = outcome.found_by();
    if wanted.is_empty() {
        return None;
    }
    let mut runs = 1;
    let mut best = (whole.clone(), outcome);
    let mut fails = |script: &Script| {
        runs += 1;
        let outcome = follow(options, script.clone(), chosen, None);
        let same = outcome.found_by().iter().any(|found| wanted.contains(found));
        (same, runs < RUNS_MAX, outcome)
    };
    halve(&mut best, &mut fails, |script| &mut script.faults);
    halve(&mut best, &mut fails, |script| &mut script.calls);
    halve(&mut best, &mut fails, |script| &mut script.faults);
    let faults = best.0.faults.iter().map(|fault| {
        let end = fault.at + fault.length;
        format!("{:?} from {} µs to {end} µs", fault.kind, fault.at)
    });
    Some(Shrunk {
        sizes: [&whole, &best.0].map(|script| (script.calls.len(), script.faults.len())),
        faults: faults.collect(),
        outcome: best.1,
        runs,
    })
}

/// Leaves out pieces of one list, smaller and smaller ones.
fn halve<T: Clone>(
    best: &mut (Script, Outcome),
    fails: &mut impl FnMut(&Script) -> (bool, bool, Outcome),
    list: impl Fn(&mut Script) -> &mut Vec<T>,
) {
    let mut piece = list(&mut best.0).len().div_ceil(2);
    while piece > 0 {
        let mut from = 0;
        while from < list(&mut best.0).len() {
            let mut script = best.0.clone();
            let items = list(&mut script);
            items.drain(from..(from + piece).min(items.len()));
            let (same, more, outcome) = fails(&script);
            if same {
                *best = (script, outcome);
            } else {
                from += piece;
            }
            if !more {
                return;
            }
        }
        piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
    }
}

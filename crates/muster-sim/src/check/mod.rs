//! One checker per invariant. A checker reads facts and says what contradicts the invariant; it knows neither the core
//! nor the simulator.
//!
//! Each is linear or n log n. Those that look from outside need calls, attempts and the last scan only; those that
//! look inside say that they did not judge when the history has no server side.

mod clock;
mod findings;
mod i01_nothing_lost;
mod i02_nothing_from_nowhere;
mod i03_no_duplicate;
mod i04_one_state;
mod i05_conservation;
mod i06_one_lease;
mod i07_holder_only;
mod i08_overlap;
mod i09_honest_attempts;
mod i10_terminal;
mod i12_order;
mod i13_priority;
mod i14_concurrency;
mod i15_rate;
mod i16_delay;
mod i18_backoff;
mod i21_cancel;
mod i23_pause;
mod i24_reads;
mod i25_session_order;
mod i26_watch;
mod i27_log;
mod i28_replicas;
mod i31_quota;
mod i32_liveness;
mod i33_progress;
mod i34_expiry;
mod i35_timeout;
mod i36_credits;
mod i37_matching;
mod lifecycle;
mod order;
mod rules;
mod timeline;

#[cfg(test)]
mod by_hand;

pub use crate::check::findings::{Findings, Verdict, Violation};
use crate::facts::Facts;

/// A checker.
#[derive(Clone, Copy)]
pub struct Checker {
    /// Id of the invariant.
    pub id: &'static str,
    /// What holds.
    pub title: &'static str,
    /// Judges.
    pub check: fn(&Facts, &mut Findings),
}

const fn checker(id: &'static str, title: &'static str, check: fn(&Facts, &mut Findings)) -> Checker {
    Checker { id, title, check }
}

/// All of them.
pub const ALL: &[Checker] = &[
    checker("I1", "an acknowledged job is never lost", i01_nothing_lost::check),
    checker("I2", "nothing comes from nowhere", i02_nothing_from_nowhere::check),
    checker("I3", "a repeat makes no second job", i03_no_duplicate::check),
    checker("I4", "one state at a time, legal edges only", i04_one_state::check),
    checker("I5", "accepted = ended + live", i05_conservation::check),
    checker("I6", "one live lease per job, fences grow", i06_one_lease::check),
    checker("I7", "only the holder ends an attempt", i07_holder_only::check),
    checker("I8", "overlap only after a lost lease", i08_overlap::check),
    checker("I9", "attempts are counted honestly", i09_honest_attempts::check),
    checker("I10", "the end is the end", i10_terminal::check),
    checker("I12", "jobs of an ordering key run in order", i12_order::check),
    checker("I13", "more urgent or older, started first", i13_priority::check),
    checker("I14", "concurrency limits hold", i14_concurrency::check),
    checker("I15", "rate limits hold over every window", i15_rate::check),
    checker("I16", "nothing starts early", i16_delay::check),
    checker("I18", "backoff keeps to its policy", i18_backoff::check),
    checker("I21", "what was cancelled does not start", i21_cancel::check),
    checker("I23", "nothing starts that is stopped", i23_pause::check),
    checker("I24", "reads are linearizable", i24_reads::check),
    checker(
        "I25",
        "a client sees its own writes, never back",
        i25_session_order::check,
    ),
    checker("I26", "watches deliver all, once, in order", i26_watch::check),
    checker("I27", "one leader at a time, one log", i27_log::check),
    checker("I28", "replicas agree", i28_replicas::check),
    checker("I31", "quotas hold", i31_quota::check),
    checker("I32", "after the last fault all work is done", i32_liveness::check),
    checker("I33", "the run did something", i33_progress::check),
    checker("I34", "jobs expire in time, not before", i34_expiry::check),
    checker("I35", "attempts time out in time, not before", i35_timeout::check),
    checker("I36", "no session gets more than its room", i36_credits::check),
    checker("I37", "a job goes to a worker that accepts it", i37_matching::check),
];

/// Judges a history by all checkers.
pub fn judge(facts: &Facts) -> Vec<Verdict> {
    ALL.iter()
        .map(|checker| {
            let mut findings = Findings::default();
            (checker.check)(facts, &mut findings);
            findings.verdict(checker)
        })
        .collect()
}

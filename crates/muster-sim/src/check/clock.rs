//! When the log's own time had come so far.

use crate::facts::Facts;

/// The times of all entries, which never go back.
pub(super) struct Clock {
    times: Vec<u64>,
    /// Milliseconds.
    slack: u64,
}

impl Clock {
    pub(super) fn of(facts: &Facts) -> Self {
        let mut times: Vec<u64> = facts.entries.values().map(|entry| entry.now).collect();
        // Where it does go back, others complain.
        times.sort_unstable();
        Self {
            times,
            slack: facts.header.slack_us.div_ceil(1_000),
        }
    }

    /// Whether, at `now`, the log had known for longer than the slack that it was `instant` or later. Timers fire by an entry
    /// of their own, and without a leader there are no entries.
    pub(super) fn long_past(&self, instant: u64, now: u64) -> bool {
        let first = self.times.partition_point(|time| *time < instant);
        self.times
            .get(first)
            .is_some_and(|known| known.saturating_add(self.slack) < now)
    }

    /// The time of the last entry.
    pub(super) fn last(&self) -> u64 {
        self.times.last().copied().unwrap_or(0)
    }
}

//! When the log's own time had come so far.

use crate::facts::{Entry, Facts};

/// The times of all entries, which never go back, with when each was first applied.
pub(super) struct Clock {
    times: Vec<(u64, u64)>,
    /// Microseconds.
    slack: u64,
}

impl Clock {
    pub(super) fn of(facts: &Facts) -> Self {
        let mut times: Vec<_> = facts.entries.values().map(|entry| (entry.now, entry.at)).collect();
        // Where it does go back, others complain.
        times.sort_unstable();
        Self {
            times,
            slack: facts.header.slack_us,
        }
    }

    /// Whether, at an entry, the log had known for longer than the slack that it was `instant` or later. Timers fire by an
    /// entry of their own, and without a leader there are no entries. How long is told by the history's time: the log's own
    /// jumps with the clocks of leaders.
    pub(super) fn long_past(&self, instant: u64, entry: &Entry) -> bool {
        self.known_for(instant, entry.at)
    }

    /// The same at the last entry.
    pub(super) fn over_at_last(&self, instant: u64) -> bool {
        let last = self.times.iter().map(|(_, at)| *at).max();
        last.is_some_and(|last| self.known_for(instant, last))
    }

    fn known_for(&self, instant: u64, at: u64) -> bool {
        let first = self.times.partition_point(|(time, _)| *time < instant);
        let known = self.times.get(first);
        known.is_some_and(|(_, known)| known.saturating_add(self.slack) < at)
    }
}

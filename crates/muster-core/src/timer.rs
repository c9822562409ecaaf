//! Timers: one ordered set of (instant, what).
//!
//! A timer exists exactly while it has something to do, and its order follows from persisted fields, so a restored
//! state fires the same ones in the same order. A job has at most one, given by its state. Gates have timers of their own
//! (`gates.rs`), ordered by their names.

use std::collections::BTreeSet;

use crate::fleet::FleetId;
use crate::ids::Timestamp;

/// What a timer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A scheduled or retrying job becomes available.
    Due,
    /// A job that never started expires.
    Expiry,
    /// An attempt runs out of time.
    Timeout,
    /// A fleet without sessions is forgotten.
    Fleet,
}

/// A timer. `order` is the job's sequence or the fleet's id and unique among timers of its kind; `target` the job's
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) at: Timestamp,
    pub(crate) what: What,
    pub(crate) order: u64,
    pub(crate) target: u32,
}

impl Timer {
    pub(crate) fn fleet(at: Timestamp, fleet: FleetId) -> Self {
        Self {
            at,
            what: What::Fleet,
            order: fleet,
            target: 0,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeSet<Timer>,
}

impl Timers {
    pub(crate) fn insert(&mut self, timer: Timer) {
        self.set.insert(timer);
    }

    pub(crate) fn remove(&mut self, timer: &Timer) {
        self.set.remove(timer);
    }

    pub(crate) fn first(&self) -> Option<Timestamp> {
        self.set.first().map(|timer| timer.at)
    }

    /// Takes the oldest timer if it is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        if self.set.first()?.at > now {
            return None;
        }
        self.set.pop_first()
    }

    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    pub(crate) fn contains(&self, timer: &Timer) -> bool {
        self.set.contains(timer)
    }
}

//! What the apply path leaves for the scheduler, without a message per entry.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use muster_core::Timestamp;

/// No time.
const NEVER: u64 = u64::MAX;

/// Written by the raft thread for each entry, read by the scheduler when it wakes.
#[derive(Debug)]
pub(crate) struct Desk {
    now: AtomicU64,
    next_due: AtomicU64,
    /// The due time for which the scheduler's timer stands; an earlier one is worth a message.
    armed: AtomicU64,
    roster_changed: AtomicBool,
    /// True while the scheduler of this node acts for the leader.
    leads: AtomicBool,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            now: AtomicU64::new(0),
            next_due: AtomicU64::new(NEVER),
            armed: AtomicU64::new(NEVER),
            roster_changed: AtomicBool::new(false),
            leads: AtomicBool::new(false),
        }
    }
}

impl Desk {
    /// Notes an entry. True when the scheduler must be woken for it.
    pub(crate) fn applied(&self, now: Timestamp, next_due: Option<Timestamp>, roster_changed: bool) -> bool {
        let next_due = next_due.unwrap_or(NEVER);
        self.now.store(now, Ordering::SeqCst);
        self.next_due.store(next_due, Ordering::SeqCst);
        let news = roster_changed && !self.roster_changed.swap(true, Ordering::SeqCst);
        // The scheduler writes `armed` before it reads `next_due`, and this does the reverse: one of the two sees.
        let earlier = next_due < self.armed.load(Ordering::SeqCst);
        self.leads() && (news || earlier)
    }

    /// The state was replaced: nothing noted before counts.
    pub(crate) fn restored(&self) {
        self.roster_changed.store(true, Ordering::SeqCst);
    }

    /// Sets the start of a reign from the state itself.
    pub(crate) fn begin(&self, now: Timestamp, next_due: Option<Timestamp>) {
        self.now.fetch_max(now, Ordering::SeqCst);
        self.next_due.store(next_due.unwrap_or(NEVER), Ordering::SeqCst);
        self.armed.store(NEVER, Ordering::SeqCst);
        self.leads.store(true, Ordering::SeqCst);
    }

    pub(crate) fn end(&self) {
        self.leads.store(false, Ordering::SeqCst);
    }

    pub(crate) fn leads(&self) -> bool {
        self.leads.load(Ordering::SeqCst)
    }

    /// Replicated time.
    pub(crate) fn now(&self) -> Timestamp {
        self.now.load(Ordering::SeqCst)
    }

    /// The time to arm the timer for; from here on only an earlier one wakes.
    pub(crate) fn arm(&self) -> Option<Timestamp> {
        loop {
            let next_due = self.next_due.load(Ordering::SeqCst);
            self.armed.store(next_due, Ordering::SeqCst);
            if self.next_due.load(Ordering::SeqCst) >= next_due {
                return (next_due != NEVER).then_some(next_due);
            }
        }
    }

    pub(crate) fn roster_changed(&self) -> bool {
        self.roster_changed.load(Ordering::SeqCst)
    }

    pub(crate) fn take_roster_changed(&self) -> bool {
        self.roster_changed.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_due_time_or_a_change_of_the_roster_wakes() {
        let desk = Desk::default();
        assert!(!desk.applied(1, Some(10), true), "nobody leads here");
        assert!(desk.take_roster_changed());
        desk.begin(1, Some(10));
        assert_eq!(desk.arm(), Some(10));
        assert!(!desk.applied(2, Some(10), false));
        assert!(!desk.applied(3, Some(11), false));
        assert!(!desk.applied(4, None, false));
        assert!(desk.applied(5, Some(9), false));
        assert_eq!(desk.arm(), Some(9));
        assert!(desk.applied(6, None, true));
        assert!(!desk.applied(7, None, true), "it was told already");
        assert!(desk.take_roster_changed());
        desk.end();
        assert!(!desk.applied(8, Some(1), true));
    }
}

//! How old what this node has applied may be.
//!
//! A node asks a leader, which a majority confirms, for the index up to which everything acknowledged so far is committed.
//! Once the node has applied that index, its state contains all that was acknowledged before it asked. That bound holds
//! whatever clocks and networks do: both ends of it are readings of this node's own monotonic clock. A bound from the last
//! heartbeat would not: an old leader that lost its majority sends heartbeats as well.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::LogIndex;
use parking_lot::Mutex;

/// Answers kept: the last ones may be ahead of what is applied.
const KEPT: usize = 16;

/// What was asked and answered lately. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Confirmations(Arc<Mutex<VecDeque<Confirmation>>>);

#[derive(Clone, Copy, Debug)]
struct Confirmation {
    asked_at: Instant,
    index: LogIndex,
}

impl Confirmations {
    /// A leader answered: all that was acknowledged before `asked_at` is contained in the state at `index`.
    pub(crate) fn add(&self, asked_at: Instant, index: LogIndex) {
        let mut kept = self.0.lock();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Confirmation { asked_at, index });
    }

    /// How old the state after `applied` may be at `now`; `None` if that was never confirmed.
    pub(crate) fn age(&self, applied: LogIndex, now: Instant) -> Option<Duration> {
        let kept = self.0.lock();
        let newest = kept
            .iter()
            .filter(|answer| answer.index <= applied)
            .map(|answer| answer.asked_at)
            .max()?;
        Some(now.saturating_duration_since(newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_counts_from_the_newest_question_whose_answer_is_applied() {
        let confirmations = Confirmations::default();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(confirmations.age(100, start), None);
        confirmations.add(start, 10);
        confirmations.add(after(1_000), 20);
        confirmations.add(after(2_000), 30);
        let age = |applied| confirmations.age(applied, after(2_500)).map(|age| age.as_millis());
        assert_eq!(age(9), None);
        assert_eq!(age(10), Some(2_500));
        assert_eq!(age(29), Some(1_500));
        assert_eq!(age(30), Some(500));
        for number in 0..100 {
            confirmations.add(after(3_000 + number), 1_000 + number);
        }
        assert_eq!(confirmations.age(30, after(4_000)), None, "too far behind to say");
        assert!(confirmations.age(1_099, after(4_000)).is_some());
    }
}

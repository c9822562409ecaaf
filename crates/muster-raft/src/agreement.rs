//! Replicas prove that they agree: hashes of the state at the same log index must be the same.
//!
//! Each node notes the hash of its state at every so many entries, tells the others with its other facts, and compares. A
//! node that differs from a majority is wrong, whatever the reason, and ends: what it would answer is not true, and what it
//! leads would spread. Without a majority nobody can say who is wrong: then it is told loudly, and all go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::{LogIndex, NodeId};
use muster_proto::peer as wire;
use muster_store::Store;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::facts::{EVERY, Facts};
use crate::storage::Applied;
use crate::types::OpenRaft;

/// Hashes that a node remembers.
const KEPT: usize = 64;
/// Hashes that it tells: a node that is further behind is compared when it has caught up.
const TOLD: usize = 16;

/// Hashes of this node's state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HashBook {
    every: u64,
    hashes: Arc<Mutex<BTreeMap<LogIndex, u64>>>,
}

impl HashBook {
    /// For a hash at every so many entries.
    pub(crate) fn new(every: u64) -> Self {
        Self {
            every: every.max(1),
            hashes: Arc::default(),
        }
    }

    /// Called with each entry that was applied.
    pub(crate) fn applied(&self, index: LogIndex, hash: u64) {
        if index.is_multiple_of(self.every) {
            let mut hashes = self.hashes.lock();
            hashes.insert(index, hash);
            while hashes.len() > KEPT {
                hashes.pop_first();
            }
        }
    }

    /// What was noted, and the state as it is now.
    fn with_present(&self, state: &Mutex<Applied>) -> BTreeMap<LogIndex, u64> {
        let mut hashes = self.hashes.lock().clone();
        let state = state.lock();
        let meta = state.core.meta();
        // Entries without commands change no hash, so the present one is that of the last entry applied.
        if let Some(last) = state.last {
            hashes.insert(last.index, meta.hash);
        }
        hashes
    }
}

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// No two differ.
    Agree,
    /// They differ, and there is no majority for one of the hashes, or this node is part of it.
    Differ {
        index: LogIndex,
        own: u64,
        other: u64,
        node: NodeId,
    },
    /// A majority has one hash, and this node another.
    Wrong { index: LogIndex, own: u64, majority: u64 },
}

/// Compares hashes of the voters `others` with the own ones.
fn compare(
    own: &BTreeMap<LogIndex, u64>,
    others: &BTreeMap<NodeId, BTreeMap<LogIndex, u64>>,
    voters: &[BTreeSet<NodeId>],
) -> Verdict {
    let mut differ = Verdict::Agree;
    for (index, own) in own {
        let mut camps: BTreeMap<u64, BTreeSet<NodeId>> = BTreeMap::new();
        for (node, hashes) in others {
            if let Some(hash) = hashes.get(index) {
                camps.entry(*hash).or_default().insert(*node);
            }
        }
        for (hash, nodes) in camps.iter().filter(|(hash, _)| *hash != own) {
            let is_majority = |set: &BTreeSet<NodeId>| set.intersection(nodes).count() * 2 > set.len();
            if !voters.is_empty() && voters.iter().all(is_majority) {
                return Verdict::Wrong {
                    index: *index,
                    own: *own,
                    majority: *hash,
                };
            }
            if let (Verdict::Agree, Some(node)) = (differ, nodes.first()) {
                differ = Verdict::Differ {
                    index: *index,
                    own: *own,
                    other: *hash,
                    node: *node,
                };
            }
        }
    }
    differ
}

/// Tells and compares hashes while the node runs.
pub(crate) struct Agreement {
    pub(crate) node: NodeId,
    pub(crate) raft: OpenRaft,
    pub(crate) store: Store,
    pub(crate) state: Arc<Mutex<Applied>>,
    pub(crate) book: HashBook,
    pub(crate) facts: Facts,
}

impl Agreement {
    pub(crate) async fn run(self, fatal: Arc<watch::Sender<Option<Error>>>, stop: CancellationToken) {
        let gauge = metrics::gauge!("muster_state_differs");
        gauge.set(0.0);
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            let own = self.book.with_present(&self.state);
            let newest = own.iter().rev().take(TOLD);
            let newest = newest.map(|(index, hash)| wire::StateHash {
                index: *index,
                hash: *hash,
            });
            self.facts.set_hashes(newest.collect());
            match self.compare(&own) {
                Verdict::Agree => {
                    gauge.set(0.0);
                    told = None;
                }
                Verdict::Differ {
                    index,
                    own,
                    other,
                    node,
                } => {
                    gauge.set(1.0);
                    if told.replace(index).is_none() {
                        tracing::error!(
                            node = self.node,
                            index,
                            own = format!("{own:016x}"),
                            other = format!("{other:016x}"),
                            of = node,
                            "two nodes hold different states at one log index, and no majority says which is right; see \
                             docs/operations.md, Replicas that differ"
                        );
                    }
                }
                Verdict::Wrong { index, own, majority } => {
                    gauge.set(1.0);
                    self.end(index, own, majority, &fatal);
                    return;
                }
            }
        }
    }

    fn compare(&self, own: &BTreeMap<LogIndex, u64>) -> Verdict {
        let membership = self.raft.server_metrics().borrow_watched().membership_config.clone();
        let others = membership.nodes().filter(|(node, _)| **node != self.node);
        let others = others.filter_map(|(node, _)| {
            let hashes = self.facts.of(*node)?.hashes;
            Some((*node, hashes.into_iter().map(|at| (at.index, at.hash)).collect()))
        });
        compare(own, &others.collect(), membership.membership().get_joint_config())
    }

    /// The node must not be started again as it is: a hash that differs once differs for ever.
    fn end(&self, index: LogIndex, own: u64, majority: u64, fatal: &watch::Sender<Option<Error>>) {
        let error = Error::Diverged {
            node: self.node,
            index,
            own,
            majority,
        };
        tracing::error!(%error, "the process must end");
        if let Err(failed) = self.store.note_divergence(&error.to_string()) {
            tracing::error!(error = %failed, "this could not be noted; the next start will find out anew");
        }
        fatal.send_replace(Some(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(pairs: &[(u64, u64)]) -> BTreeMap<u64, u64> {
        pairs.iter().copied().collect()
    }

    #[test]
    fn who_differs_from_a_majority_is_wrong() {
        let three = [BTreeSet::from([1, 2, 3])];
        let check = |own: &[(u64, u64)], second: &[(u64, u64)], third: &[(u64, u64)]| {
            let others = BTreeMap::from([(2, hashes(second)), (3, hashes(third))]);
            compare(&hashes(own), &others, &three)
        };
        assert_eq!(
            check(&[(8, 1), (16, 2)], &[(8, 1)], &[(16, 2), (24, 9)]),
            Verdict::Agree
        );
        assert_eq!(check(&[(8, 1)], &[], &[]), Verdict::Agree);
        let wrong = Verdict::Wrong {
            index: 16,
            own: 2,
            majority: 7,
        };
        assert_eq!(check(&[(8, 1), (16, 2)], &[(8, 1), (16, 7)], &[(16, 7)]), wrong);
        // One other only: perhaps it is the other that is wrong.
        for (second, third) in [
            (&[(16, 7)][..], &[][..]),
            (&[(16, 7)], &[(16, 2)]),
            (&[(16, 7)], &[(16, 8)]),
        ] {
            let verdict = check(&[(16, 2)], second, third);
            assert!(
                matches!(
                    verdict,
                    Verdict::Differ {
                        index: 16,
                        own: 2,
                        other: 7,
                        node: 2
                    }
                ),
                "{verdict:?}"
            );
        }
        // A learner has no voice, and hears the voters.
        let others = BTreeMap::from([(1, hashes(&[(8, 5)])), (2, hashes(&[(8, 5)])), (3, hashes(&[(8, 6)]))]);
        assert!(matches!(
            compare(&hashes(&[(8, 6)]), &others, &three),
            Verdict::Wrong { majority: 5, .. }
        ));
        let two = [BTreeSet::from([1, 2])];
        let others = BTreeMap::from([(2, hashes(&[(8, 5)]))]);
        assert!(matches!(
            compare(&hashes(&[(8, 6)]), &others, &two),
            Verdict::Differ { .. }
        ));
    }

    #[test]
    fn a_book_keeps_the_newest() {
        let book = HashBook::new(4);
        for index in 0..=1_000 {
            book.applied(index, index * 3);
        }
        let kept = book.hashes.lock();
        assert_eq!((kept.len(), kept.last_key_value()), (KEPT, Some((&1_000, &3_000))));
        assert!(kept.keys().all(|index| index % 4 == 0));
    }
}

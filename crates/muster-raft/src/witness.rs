//! What the other nodes know of a node that starts: enough to notice that its whole data directory is an older copy, marks
//! and all, which nothing in the directory itself can tell.
//!
//! Votes never go back, and under one vote a log never gets shorter. So a directory whose vote is below one that another node
//! has seen of it, or whose log under that vote is shorter, is not the one that this node had last. Each node remembers what
//! it has seen as long as it runs; what all others have forgotten, because they were restarted since, is not noticed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_core::NodeId;
use muster_proto::peer as wire;
use muster_store::Store;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::convert;
use crate::error::Error;
use crate::types::{LogId, OpenRaft, Vote};

/// What a node must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Witness {
    pub(crate) vote: Vote,
    /// Under that very vote.
    pub(crate) log: Option<LogId>,
}

/// Between two looks at what others have acknowledged.
const LOOK: Duration = Duration::from_millis(500);

/// What a node has seen of the others since it was started. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Witnesses(Arc<Mutex<BTreeMap<NodeId, Witness>>>);

impl Witnesses {
    /// What is known of a node, also what became known just now.
    pub(crate) fn of(&self, raft: &OpenRaft, node: NodeId) -> Option<Witness> {
        if let Some(witness) = Witness::of(raft, node) {
            self.note(node, witness);
        }
        self.0.lock().get(&node).copied()
    }

    fn note(&self, node: NodeId, witness: Witness) {
        let mut known = self.0.lock();
        let held = known.entry(node).or_insert(witness);
        let (old, new) = (held.vote.leader_id, witness.vote.leader_id);
        if new > old || (new == old && witness.log > held.log) {
            *held = witness;
        }
    }

    /// Remembers what a leader knows: it goes with its lead.
    pub(crate) async fn watch(self, raft: OpenRaft, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = stop.cancelled() => return,
            }
            let members = raft.server_metrics().borrow_watched().membership_config.clone();
            for (node, _) in members.nodes() {
                self.of(&raft, *node);
            }
        }
    }
}

impl Witness {
    /// What this node sees of another: as its leader, what it acknowledged; as its follower, that it led.
    fn of(raft: &OpenRaft, of: NodeId) -> Option<Self> {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let vote = metrics.vote;
        if vote.leader_id.node_id == of {
            return Some(Self { vote, log: None });
        }
        let replicated = metrics.replication.as_ref().filter(|_| vote.committed)?;
        let log = (*replicated.get(&of)?)?;
        Some(Self { vote, log: Some(log) })
    }

    pub(crate) fn from_wire(vote: Option<wire::Vote>, log: Option<wire::LogId>) -> Option<Self> {
        Some(Self {
            vote: convert::vote_in(vote).ok()?,
            log: log.map(convert::log_id_in),
        })
    }

    /// Compares it with what is on disk. A log that is being refilled is short by right.
    pub(crate) fn check(self, node: NodeId, peer: NodeId, store: &Store) -> Result<(), Error> {
        let vote = store.log().vote()?.map(convert::vote_from_bytes).transpose();
        let vote = vote.map_err(|error| Error::Damaged(error.to_string()))?;
        let last = store.log().bounds().last.map(convert::log_id);
        let found_leader = vote.map(|vote| vote.leader_id);
        let shorter = found_leader == Some(self.vote.leader_id) && last < self.log && !store.refilling();
        if found_leader >= Some(self.vote.leader_id) && !shorter {
            return Ok(());
        }
        let shown = |vote: Option<Vote>, log: Option<LogId>| {
            let vote = vote.map_or_else(
                || "no vote".to_owned(),
                |vote| {
                    format!(
                        "a vote for node {} in term {}",
                        vote.leader_id.node_id, vote.leader_id.term
                    )
                },
            );
            log.map_or_else(|| vote.clone(), |log| format!("{vote} and a log up to {}", log.index))
        };
        Err(Error::RolledBack {
            node,
            peer,
            seen: shown(Some(self.vote), self.log),
            found: shown(vote, last),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use muster_store::{EntryKind, LogEntry, StoreOptions};

    use super::*;
    use crate::types::LeaderId;

    fn leader(term: u64, node_id: u64) -> LeaderId {
        LeaderId { term, node_id }
    }

    #[test]
    fn the_highest_vote_is_remembered_and_the_longest_log_under_it() {
        let witnesses = Witnesses::default();
        let seen = |term, log: Option<u64>| Witness {
            vote: Vote {
                leader_id: leader(term, 1),
                committed: true,
            },
            log: log.map(|index| LogId::new(leader(term, 1), index)),
        };
        for (witness, kept) in [
            (seen(4, Some(9)), seen(4, Some(9))),
            (seen(4, Some(7)), seen(4, Some(9))),
            (seen(6, None), seen(6, None)),
            (seen(5, Some(20)), seen(6, None)),
            (seen(6, Some(3)), seen(6, Some(3))),
        ] {
            witnesses.note(2, witness);
            assert_eq!(witnesses.0.lock().get(&2), Some(&kept));
        }
    }

    #[test]
    fn only_what_goes_back_is_an_older_copy() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(dir.path())).unwrap();
        let own = leader(5, 2);
        let entry = |index| LogEntry {
            position: convert::position(LogId::new(own, index)),
            kind: EntryKind::Blank,
            data: bytes::Bytes::new(),
        };
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        let entries = (0..9).map(entry).collect();
        store
            .log()
            .append(entries, Box::new(move |result| done.send(result).unwrap()));
        wait.recv().unwrap().unwrap();
        let vote = |leader_id| Vote {
            leader_id,
            committed: true,
        };
        store.log().save_vote(convert::vote_bytes(vote(own))).unwrap();
        for (seen, log, good) in [
            (leader(4, 3), Some(LogId::new(leader(4, 3), 90)), true),
            (own, None, true),
            (own, Some(LogId::new(own, 8)), true),
            (own, Some(LogId::new(own, 9)), false),
            (leader(5, 3), None, false),
            (leader(6, 1), Some(LogId::new(own, 8)), false),
        ] {
            let witness = Witness { vote: vote(seen), log };
            let checked = witness.check(1, 3, &store);
            assert_eq!(checked.is_ok(), good, "{witness:?}: {checked:?}");
        }
        store.close().unwrap();
    }
}

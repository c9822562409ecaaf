//! The state of a node that is stopped, or of an unpacked backup: brought forward entry by entry, and made the beginning of
//! a new cluster.

use muster_core::{Core, LEVEL_MAX, LEVEL_MIN, LogIndex, NodeId};
use muster_store::{Identity, LogEntry, LogPosition, Store};

use crate::convert;
use crate::error::Error;
use crate::options::MemberConfig;
use crate::storage::{Applied, Decoded, StateFacts};
use crate::types::{LeaderId, LogId, Vote};

/// Rows that changed, or jobs that ended, until they are written back: bounds the memory of a long replay.
const WRITE_AFTER: usize = 50_000;
/// Bytes of log read in one step.
const READ_BYTES: usize = 4 << 20;

/// A new cluster reaches at most so far back behind what the old one may have reached: its log begins so many entries
/// above the last one that is known. At 10,000 entries a second that is 29 hours of log that nobody has.
///
/// Fencing tokens carry the log index, so what the old cluster gave out in entries that are lost is never given out again.
pub const INDEX_GAP: LogIndex = 1 << 30;

/// A new cluster to be begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Its id.
    pub cluster: u128,
    /// The cluster whose nodes are to be told that this one took its place.
    pub predecessor: Option<u128>,
    /// The node whose directory this is.
    pub node: NodeId,
    /// The nodes of the new cluster; all of them vote.
    pub members: Vec<MemberConfig>,
    /// Log index at which it begins: the same for all its nodes.
    pub index: LogIndex,
}

/// The applied state of an open data directory that no node runs on.
pub struct OfflineState {
    store: Store,
    applied: Applied,
}

impl OfflineState {
    /// Loads the state as it was saved.
    pub fn open(store: Store) -> Result<Self, Error> {
        let applied = Applied::restore(store.state().load()?)?;
        understood(applied.core.level(), applied.core.meta().applied)?;
        Ok(Self { store, applied })
    }

    /// The queue.
    pub fn core(&self) -> &Core {
        &self.applied.core
    }

    /// What the state contains; `None`: nothing yet.
    pub fn facts(&self) -> Option<StateFacts> {
        self.applied.facts()
    }

    /// The last entry applied.
    pub fn applied(&self) -> Option<LogPosition> {
        self.applied.last.map(convert::position)
    }

    /// The data directory.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Applies the next entry. After an error the directory must not be used any more.
    pub fn apply(&mut self, entry: LogEntry) -> Result<(), Error> {
        let next = self.applied.last.map_or(0, |last| last.index + 1);
        if entry.position.index != next {
            return Err(Error::Storage(format!(
                "log entry {} cannot follow entry {}",
                entry.position.index,
                next.saturating_sub(1)
            )));
        }
        let damaged = |error: String| Error::Storage(format!("log entry {next}: {error}"));
        let entry = convert::entry_from_store(entry).map_err(|error| damaged(error.to_string()))?;
        let entry = Decoded::new(entry).map_err(|error| damaged(error.to_string()))?;
        understood(entry.sets_level().unwrap_or(LEVEL_MIN), next)?;
        self.applied.apply(entry).map_err(|error| damaged(error.to_string()))?;
        if self.applied.ended.len() + self.applied.core.changes_len() >= WRITE_AFTER {
            self.write()?;
        }
        Ok(())
    }

    /// Applies all entries of the directory's own log that are not in the state yet, also those of which it is not known
    /// whether they were committed. Returns how many there were.
    pub fn replay(&mut self) -> Result<u64, Error> {
        let mut replayed = 0;
        loop {
            let from = self.applied.last.map_or(0, |last| last.index + 1);
            let entries = self.store.log().read(from, LogIndex::MAX, READ_BYTES)?;
            if entries.is_empty() {
                return Ok(replayed);
            }
            replayed += entries.len() as u64;
            for entry in entries {
                self.apply(entry)?;
            }
        }
    }

    /// Writes the state back.
    pub fn write(&mut self) -> Result<(), Error> {
        let checkpoint = self.applied.take_checkpoint(Vec::new());
        self.store.state().write(checkpoint)?;
        Ok(())
    }

    /// Makes the state that of the first entry of a new cluster: its sessions are closed and its jobs wait again. Closes
    /// the directory, in which the node then can start.
    pub fn refound(mut self, beginning: &Beginning) -> Result<(), Error> {
        let last = self
            .applied
            .last
            .ok_or_else(|| Error::Storage("the state is empty: there is nothing to begin a cluster with".to_owned()))?;
        if beginning.index <= last.index {
            return Err(Error::Options(format!(
                "a new cluster cannot begin at log index {}, the state is of {}",
                beginning.index, last.index
            )));
        }
        // Also above a term in which this node voted and nothing was logged.
        let voted = self.store.log().vote()?.map(convert::vote_from_bytes).transpose();
        let voted = voted.map_err(|error| Error::Storage(error.to_string()))?;
        let term = last.leader_id.term.max(voted.map_or(0, |vote| vote.leader_id.term)) + 1;
        let leader_id = LeaderId { term, node_id: 0 };
        let begin = LogId::new(leader_id, beginning.index);
        let membership =
            convert::voting_members(&beginning.members, begin).map_err(|error| Error::Options(error.to_string()))?;
        let members = convert::core_members(membership.membership());
        let core = &mut self.applied.core;
        let events = core.refound(beginning.index, beginning.cluster, &members).events;
        self.applied.note_ended(&events);
        self.applied.last = Some(begin);
        self.applied.membership = membership;
        self.write()?;
        let identity = Identity {
            predecessor: beginning.predecessor,
            ..Identity::new(beginning.cluster, beginning.node)
        };
        // The first election of the new cluster is in a term above all of the old one.
        let vote = convert::vote_bytes(Vote {
            leader_id,
            committed: false,
        });
        self.store.raise_level(self.applied.core.level())?;
        self.store.refound(identity, convert::position(begin), vote)?;
        self.store.close()?;
        Ok(())
    }
}

/// Refuses a feature level that this program does not understand.
fn understood(needed: u32, index: LogIndex) -> Result<(), Error> {
    if needed > LEVEL_MAX {
        return Err(Error::Options(format!(
            "log index {index} needs a program that understands feature level {needed}, this one understands levels up to \
             {LEVEL_MAX}; use a newer program"
        )));
    }
    Ok(())
}

/// Whether a log that ends at `a` is further than one that ends at `b`, as an election judges it.
pub fn further(a: Option<LogPosition>, b: Option<LogPosition>) -> bool {
    let rank = |position: Option<LogPosition>| position.map(|position| (position.term, position.node, position.index));
    rank(a) > rank(b)
}

//! The applied state of this node.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use muster_core::{Batch, Command, Core, Event, JobRow, LiveCounts, NodeId, Row, Timestamp};
use muster_store::{Checkpoint, Loaded, LogPosition};
use openraft::EntryPayload;

use crate::convert;
use crate::error::Error;
use crate::membership;
use crate::options::MemberConfig;
use crate::types::{Entry, LogId, Membership, StoredMembership};

/// What a state contains, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFacts {
    /// The cluster it belongs to.
    pub cluster: u128,
    /// The last log entry contained.
    pub position: LogPosition,
    /// Replicated time.
    pub now: Timestamp,
    /// Rolling hash of applied effects.
    pub state_hash: u64,
    /// Live jobs.
    pub live: LiveCounts,
    /// Members of the cluster as of there, by id.
    pub members: Vec<MemberConfig>,
    /// Those of them that vote.
    pub voters: Vec<NodeId>,
}

/// An entry with its batch decoded, which takes time and needs no state.
pub(crate) struct Decoded {
    pub(crate) id: LogId,
    work: Work,
}

enum Work {
    Nothing,
    Commands(Batch),
    Members(Membership),
}

impl Decoded {
    pub(crate) fn new(entry: Entry) -> io::Result<Self> {
        let work = match entry.payload {
            EntryPayload::Blank => Work::Nothing,
            EntryPayload::Normal(data) => {
                Work::Commands(muster_store::codec::decode_batch(&data.0).map_err(io::Error::other)?)
            }
            EntryPayload::Membership(members) => Work::Members(members),
        };
        Ok(Self { id: entry.log_id, work })
    }

    /// The commands of the batch; none in an entry of Raft itself.
    pub(crate) fn commands(&self) -> &[Command] {
        match &self.work {
            Work::Commands(batch) => &batch.commands,
            Work::Nothing | Work::Members(_) => &[],
        }
    }

    /// The feature level that it brings into force, if it does.
    pub(crate) fn sets_level(&self) -> Option<u32> {
        self.commands().iter().filter_map(Command::sets_level).max()
    }
}

/// The core with its place in the log and what the next checkpoint must write beside its changes.
#[derive(Default)]
pub(crate) struct Applied {
    pub(crate) core: Core,
    /// The last entry applied.
    pub(crate) last: Option<LogId>,
    /// The membership applied last.
    pub(crate) membership: StoredMembership,
    /// Jobs that ended since the last checkpoint.
    pub(crate) ended: Vec<Arc<JobRow>>,
}

impl Applied {
    /// The state as it was saved.
    pub(crate) fn restore(loaded: Loaded) -> Result<Self, Error> {
        let damaged = |text: String| Error::Storage(format!("the saved state cannot be restored: {text}"));
        let mut core = if loaded.applied.is_some() {
            Core::restore(loaded.rows).map_err(|err| damaged(err.to_string()))?
        } else {
            Core::new()
        };
        let membership =
            convert::stored_membership_from_bytes(loaded.membership).map_err(|err| damaged(err.to_string()))?;
        core.adopt_members(&convert::core_members(membership.membership()));
        Ok(Self {
            core,
            last: loaded.applied.map(convert::log_id),
            membership,
            ended: Vec::new(),
        })
    }

    /// Applies the next entry. After an error the state is half-changed and must not be used any more.
    pub(crate) fn apply(&mut self, entry: Decoded) -> io::Result<muster_core::Applied> {
        let index = entry.id.index;
        let core = &mut self.core;
        let (batch, members) = match entry.work {
            Work::Nothing => (None, None),
            Work::Commands(batch) => (Some(batch), None),
            Work::Members(members) => (None, Some(members)),
        };
        let roll = members.as_ref().map(convert::core_members);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if let Some(batch) = batch {
                core.apply(index, batch)
            } else if let Some(roll) = roll {
                core.set_members(index, &roll)
            } else {
                core.skip(index);
                Default::default()
            }
        }));
        // A broken invariant: the same entry would break every replica, so none may go on with a half-changed state.
        let outcome = outcome.map_err(|_| io::Error::other(format!("applying log entry {index} panicked")))?;
        self.last = Some(entry.id);
        if let Some(members) = members {
            self.membership = StoredMembership::new(Some(entry.id), members);
        }
        self.note_ended(&outcome.events);
        Ok(outcome)
    }

    /// Remembers the jobs that ended for the next checkpoint.
    pub(crate) fn note_ended(&mut self, events: &[Event]) {
        let ended = events.iter().filter_map(|event| match event {
            Event::JobEnded(row) => Some(row.clone()),
            _ => None,
        });
        self.ended.extend(ended);
    }

    /// What it contains; `None` before the first entry.
    pub(crate) fn facts(&self) -> Option<StateFacts> {
        let meta = self.core.meta();
        Some(StateFacts {
            cluster: meta.cluster,
            position: convert::position(self.last?),
            now: meta.now,
            state_hash: meta.hash,
            live: self.core.live(),
            members: self.members(),
            voters: self.membership.voter_ids().collect(),
        })
    }

    /// The members by the membership applied last.
    pub(crate) fn members(&self) -> Vec<MemberConfig> {
        membership::Membership::from(&self.membership).members
    }

    /// Takes what changed since it was last called, beside rows that were taken ahead of it.
    pub(crate) fn take_checkpoint(&mut self, ahead: Vec<Row>) -> Checkpoint {
        Checkpoint {
            ahead,
            changes: self.core.take_changes(),
            ended: std::mem::take(&mut self.ended),
            applied: self.last.map(convert::position),
            membership: convert::stored_membership_bytes(&self.membership),
        }
    }
}

//! What the shell of a node hears of the log.

use bytes::Bytes;
use muster_core::{Command, Core, Event, LogIndex, NodeId, SessionId, Timestamp};

/// One applied log entry.
#[derive(Debug)]
pub struct AppliedEntry {
    /// Its index.
    pub index: LogIndex,
    /// Replicated time after it.
    pub now: Timestamp,
    /// What it brought about.
    pub events: Vec<Event>,
    /// The earliest replicated time at which a `Tick` would do something.
    pub next_due: Option<Timestamp>,
}

/// Implemented by the shell. Called on the raft thread, in log order; must not block.
pub trait ApplySink: Send + Sync + 'static {
    /// An entry was applied on this node. Entries replayed at start are announced as well.
    fn applied(&self, applied: &AppliedEntry);
    /// The whole state was replaced by a snapshot: what was derived from events must be derived anew.
    fn restored(&self);
    /// On the leader: a node vouches for sessions it holds.
    fn vouched(&self, from: NodeId, sessions: &[SessionId]);
    /// Who is to see every entry whole. Default: nobody, and entries cost nothing more.
    fn witness(&self) -> Option<&dyn ApplyWitness> {
        None
    }
}

/// One applied log entry with all that went in and came out.
pub struct WitnessedEntry<'a> {
    /// Its index.
    pub index: LogIndex,
    /// Term of the leader that made it.
    pub term: u64,
    /// Its bytes as they stand in the log; empty for entries of Raft itself.
    pub data: Bytes,
    /// The commands in it.
    pub commands: &'a [Command],
    /// Replies and events.
    pub applied: &'a muster_core::Applied,
    /// The state after it.
    pub core: &'a Core,
}

/// Sees every entry whole: for records that tests judge. Slows the node down.
pub trait ApplyWitness: Send + Sync {
    /// An entry was applied; nobody has been told of it yet. Called under the lock of the state.
    fn applied(&self, entry: &WitnessedEntry<'_>);
}

//! What the shell of a node hears of the log.

use muster_core::{Event, LogIndex, NodeId, SessionId, Timestamp};

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
}

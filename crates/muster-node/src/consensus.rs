//! What the actors need of Raft, and no more: tests put another in its place to cut it off, lose answers and so on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use muster_core::{Command, Core, Reply, SessionId, Timestamp};
use muster_raft::{ProposeError, Raft, Role};
use tokio::sync::watch;

/// Cost of one checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checkpointed {
    /// Time for which the state was locked.
    pub lock: Duration,
}

pub(crate) trait Consensus: Send + Sync + 'static {
    fn propose(&self, command: Command, deadline: Instant) -> BoxFuture<'_, Result<Reply, ProposeError>>;
    fn vouch(&self, sessions: Vec<SessionId>) -> BoxFuture<'_, Result<(), ProposeError>>;
    fn checkpoint(&self) -> BoxFuture<'_, Result<Checkpointed, String>>;
    fn role(&self) -> watch::Receiver<Role>;
    /// The time with which an entry would be stamped now, about.
    fn clock(&self) -> Timestamp;
    /// Calls `look` once with this node's applied state.
    fn look(&self, look: &mut dyn FnMut(&Core));
}

/// This node's applied state.
pub(crate) fn read<R>(consensus: &dyn Consensus, f: impl FnOnce(&Core) -> R) -> Option<R> {
    let mut f = Some(f);
    let mut result = None;
    consensus.look(&mut |core| result = f.take().map(|f| f(core)));
    result
}

impl Consensus for Raft {
    fn propose(&self, command: Command, deadline: Instant) -> BoxFuture<'_, Result<Reply, ProposeError>> {
        Box::pin(Raft::propose(self, command, deadline.into()))
    }

    fn vouch(&self, sessions: Vec<SessionId>) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(Raft::vouch(self, sessions))
    }

    fn checkpoint(&self) -> BoxFuture<'_, Result<Checkpointed, String>> {
        Box::pin(async move {
            let stats = Raft::checkpoint(self).await.map_err(|error| error.to_string())?;
            Ok(Checkpointed { lock: stats.locked })
        })
    }

    fn role(&self) -> watch::Receiver<Role> {
        Raft::role(self)
    }

    fn clock(&self) -> Timestamp {
        Raft::clock(self)
    }

    fn look(&self, look: &mut dyn FnMut(&Core)) {
        Raft::read(self, look);
    }
}

/// The term in which this node leads, if it does.
pub(crate) fn leading(role: &Role) -> Option<u64> {
    match role {
        Role::Leader { term } => Some(*term),
        Role::Follower { .. } | Role::BecomingLeader { .. } => None,
    }
}

/// Shared handle.
pub(crate) type SharedConsensus = Arc<dyn Consensus>;

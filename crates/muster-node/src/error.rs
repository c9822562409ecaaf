//! What can go wrong between the node and its callers.

use muster_core::Refusal;
use muster_raft::ProposeError;

/// Errors of the node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option does not make sense.
    #[error("node option {field} is {value}: {reason}")]
    Option {
        /// Name of the option.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The node stops or has stopped.
    #[error("the node is stopping")]
    Stopping,
    /// The node is drained: it takes no new sessions.
    #[error("the node is drained")]
    Drained,
    /// The node holds as many worker sessions as it may.
    #[error("the node holds {limit} worker sessions already")]
    TooManySessions {
        /// The bound.
        limit: usize,
    },
    /// A rule of the core refused the session.
    #[error("the worker session was refused: {0}")]
    Refused(Refusal),
    /// The session could not be proposed.
    #[error("opening a worker session: {0}")]
    Propose(#[from] ProposeError),
    /// An actor could not be started.
    #[error("starting {actor}: {reason}")]
    Spawn {
        /// Which one.
        actor: &'static str,
        /// Why.
        reason: String,
    },
}

//! The replicated log: openraft over the store, the transport between nodes, and the way of a command into the log.
//!
//! The only crate that knows openraft. Others see the [`Raft`] handle, which is not generic, so they do not compile
//! openraft's code again.

mod agreement;
mod bootstrap;
mod clock;
mod contact;
mod convert;
mod error;
mod facts;
mod figures;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fixtures;
mod freshness;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod handle;
mod join;
mod leadership;
mod level;
mod membership;
mod memory;
mod node;
pub mod offline;
mod options;
mod peer;
mod proposer;
mod purge;
mod reads;
mod refill;
mod role;
mod room;
mod silence;
mod sink;
mod storage;
mod succession;
mod survey;
mod types;
mod witness;

pub use crate::error::{Error, ProposeError, ReadError, Waits};
pub use crate::handle::{CheckpointStats, Freshness, Progress, Raft};
pub use crate::join::{BadToken, JoinToken};
pub use crate::level::MemberLevel;
pub use crate::membership::{HandOver, Membership};
pub use crate::memory::MemoryUse;
pub use crate::options::{MemberConfig, RaftOptions};
pub use crate::refill::wait_for_leader;
pub use crate::role::{RaftStatus, Role};
pub use crate::sink::{AppliedEntry, ApplySink, ApplyWitness, WitnessedEntry};
pub use crate::storage::{PinnedState, StateFacts};
pub use crate::survey::{PeerAnswer, survey};

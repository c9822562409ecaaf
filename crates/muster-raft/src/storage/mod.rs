//! openraft's storage traits over the store, and the applied state.

mod checkpoint;
mod log;
mod machine;
mod snapshot;
mod state;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod suite;

pub(crate) use checkpoint::Checkpointer;
pub use checkpoint::PinnedState;
pub(crate) use log::LogAdapter;
pub(crate) use machine::{Machine, MachineParts, Watches};
pub(crate) use snapshot::{SnapshotData, StateSnapshot};
pub use state::StateFacts;
pub(crate) use state::{Applied, Decoded};

//! Everything that outlives the process: the Raft log, the state as of a checkpoint, the history of ended jobs,
//! snapshots and the identity of a node.
//!
//! The only crate that knows RocksDB and bincode. `log` is the only write-ahead log; `state` is written without one and
//! recovered by replaying the log after its applied position. See `docs/adr` for the reasons.
//!
//! Layout of a data directory:
//!
//! | Path | Content |
//! |---|---|
//! | `lock` | held while the directory is open |
//! | `identity.json` | cluster, node, format |
//! | `mark-a`, `mark-b` | two copies of the high-water mark: node, end of the log, vote, refill |
//! | `members.json` | where the members were when the node last knew, for one that is damaged |
//! | `damage.json` | asks the next start for a refill, and says why |
//! | `damaged/` | what was damaged, until a refill is complete |
//! | `log/` | RocksDB: entries, vote, purge position; every write synced |
//! | `state-N/` | RocksDB: rows, history and their indexes; no write-ahead log |
//! | `state.current` | names the state directory in force |
//! | `snapshots/` | snapshots being sent, as hard links, and being received |

mod alarm;
pub mod codec;
mod database;
mod error;
mod files;
mod identity;
mod inspect;
mod log;
mod members;
pub mod offline;
mod options;
mod probe;
mod refill;
mod space;
mod state;
mod store;

#[cfg(test)]
mod cluster_samples;
#[cfg(test)]
mod fixtures;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod samples;

pub use crate::alarm::Failure;
pub use crate::error::{Error, Result};
pub use crate::identity::{FORMAT, Identity};
pub use crate::inspect::{Finding, Inspection, Part, Progress, dump_log, inspect};
pub use crate::log::inspect::LogSummary;
pub use crate::log::{AppendDone, EntryKind, LogBounds, LogEntry, LogPosition, LogStore};
pub use crate::options::StoreOptions;
pub use crate::probe::disk_sync_rate;
pub use crate::refill::DamagedStore;
pub use crate::space::{Room, Space};
pub use crate::state::{
    Checkpoint, CheckpointStats, HistoryCursor, KeyHolder, Loaded, PinnedSnapshot, SnapshotFile, SnapshotInfo,
    StateCounts, StateStore,
};
pub use crate::store::Store;

//! Writing the applied state back to the store.

use std::sync::Arc;
use std::time::Instant;

use muster_store::{SnapshotFile, SnapshotInfo, Store};
use parking_lot::Mutex;

use crate::error::Error;
use crate::handle::CheckpointStats;
use crate::storage::state::Applied;

/// Everything that writes the state store goes through here, one at a time: a checkpoint taken before a snapshot was
/// installed must not be written after it.
#[derive(Clone)]
pub(crate) struct Checkpointer {
    store: Store,
    state: Arc<Mutex<Applied>>,
    turn: Arc<Mutex<()>>,
}

impl Checkpointer {
    pub(crate) fn new(store: Store, state: Arc<Mutex<Applied>>) -> Self {
        Self {
            store,
            state,
            turn: Arc::default(),
        }
    }

    /// Writes what changed since the last time. Blocks on the disk. After an error the changes are lost to this
    /// process: it must end and replay the log.
    pub(crate) fn write(&self) -> Result<CheckpointStats, Error> {
        let _turn = self.turn.lock();
        self.write_in_turn()
    }

    fn write_in_turn(&self) -> Result<CheckpointStats, Error> {
        let begun = Instant::now();
        let checkpoint = self.state.lock().take_checkpoint();
        let locked = begun.elapsed();
        let Some(applied) = checkpoint.applied else {
            return Ok(CheckpointStats::default());
        };
        let written = self.store.state().write(checkpoint)?;
        metrics::histogram!("muster_checkpoint_locked_seconds").record(locked);
        metrics::histogram!("muster_checkpoint_seconds").record(begun.elapsed());
        Ok(CheckpointStats {
            applied: applied.index,
            locked,
            took: begun.elapsed(),
            written,
        })
    }

    /// Packs the state as it is now into one file. Blocks on the disk.
    pub(crate) fn snapshot(&self) -> Result<SnapshotFile, Error> {
        let _turn = self.turn.lock();
        self.write_in_turn()?;
        Ok(self.store.state().build_snapshot()?)
    }

    /// Replaces everything by a received snapshot. Blocks on the disk. Readers see the old state until the new one is
    /// complete.
    pub(crate) fn install(&self, path: &std::path::Path) -> Result<SnapshotInfo, Error> {
        let _turn = self.turn.lock();
        let info = self.store.state().install_snapshot(path)?;
        let restored = Applied::restore(self.store.state().load()?)?;
        *self.state.lock() = restored;
        Ok(info)
    }
}

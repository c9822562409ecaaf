//! Writing the applied state back to the store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::NodeId;
use muster_failpoint::failpoint;
use muster_store::{PinnedSnapshot, SnapshotInfo, Store};
use parking_lot::{Mutex, MutexGuard};

use crate::error::Error;
use crate::handle::CheckpointStats;
use crate::storage::snapshot::SnapshotData;
use crate::storage::state::{Applied, StateFacts};

/// Rows of jobs that are taken under one lock of the state: about a millisecond.
const PART: usize = 2_000;
/// Parts of one checkpoint, after which it takes the rest at once however fast jobs change meanwhile.
const PARTS_MAX: usize = 2_000;

/// The whole state as of one log entry, and what it contains.
#[derive(Clone, Debug)]
pub struct PinnedState {
    /// The files.
    pub snapshot: Arc<PinnedSnapshot>,
    /// What they contain.
    pub facts: StateFacts,
}

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
        self.write_in_turn(|_| ()).map(|(stats, ())| stats)
    }

    /// Writes a checkpoint and looks at the very state that it holds.
    fn write_in_turn<R>(&self, look: impl FnOnce(&Applied) -> R) -> Result<(CheckpointStats, R), Error> {
        failpoint!("checkpoint.take.before", Error::injected);
        let begun = Instant::now();
        let mut ahead = Vec::new();
        let (mut locked, mut longest) = (Duration::ZERO, Duration::ZERO);
        let mut held = |since: Instant| {
            locked += since.elapsed();
            longest = longest.max(since.elapsed());
        };
        let mut parts = 0;
        let (checkpoint, applied, seen) = loop {
            let mut state = self.state.lock();
            let since = Instant::now();
            // Before the first entry there is no position to write rows at. They are not even taken: what is taken and
            // not written is lost, and these are rows that nothing may ever change again.
            let Some(applied) = state.last else {
                return Ok((CheckpointStats::default(), look(&state)));
            };
            let part = (parts < PARTS_MAX).then(|| state.core.take_some(PART)).flatten();
            if let Some(rows) = part {
                // To the thread that applies, if it waits: else it would wait for all parts.
                MutexGuard::unlock_fair(state);
                held(since);
                ahead.extend(rows);
                parts += 1;
                failpoint!("checkpoint.take.between_parts", Error::injected);
                continue;
            }
            let seen = look(&state);
            let checkpoint = state.take_checkpoint(ahead);
            drop(state);
            held(since);
            break (checkpoint, applied, seen);
        };
        failpoint!("checkpoint.take.after", Error::injected);
        let written = self.store.state().write(checkpoint)?;
        metrics::histogram!("muster_checkpoint_locked_seconds").record(longest);
        metrics::histogram!("muster_checkpoint_seconds").record(begun.elapsed());
        let stats = CheckpointStats {
            applied: applied.index,
            locked,
            took: begun.elapsed(),
            written,
        };
        Ok((stats, seen))
    }

    /// Pins the state as it is now. Blocks on the disk.
    pub(crate) fn snapshot(&self) -> Result<Arc<PinnedSnapshot>, Error> {
        let _turn = self.turn.lock();
        self.write_in_turn(|_| ())?;
        Ok(self.store.state().pin_snapshot()?)
    }

    /// The same, with what a backup says of it. `None` before the first entry.
    pub(crate) fn pin(&self) -> Result<Option<PinnedState>, Error> {
        let _turn = self.turn.lock();
        let (_, facts) = self.write_in_turn(Applied::facts)?;
        let Some(facts) = facts else { return Ok(None) };
        let snapshot = self.store.state().pin_snapshot()?;
        Ok(Some(PinnedState { snapshot, facts }))
    }

    /// Replaces everything by a received snapshot, if node `node` understands its feature level. Blocks on the disk. Readers
    /// see the old state until the new one is complete.
    pub(crate) fn install(&self, snapshot: &SnapshotData, node: NodeId, level_max: u32) -> Result<SnapshotInfo, Error> {
        let _turn = self.turn.lock();
        let path = match snapshot {
            SnapshotData::Received(path) => path.clone(),
            SnapshotData::Own(pinned) => self.packed(pinned)?,
        };
        let prepared = self.store.state().prepare_snapshot(&path)?;
        if prepared.level > level_max {
            return Err(Error::LevelTooHigh {
                node,
                index: prepared.applied.map_or(0, |applied| applied.index),
                needed: prepared.level,
                newest: level_max,
            });
        }
        let begun = Instant::now();
        failpoint!("snapshot.install.before_restore", Error::injected);
        let restored = Applied::restore(self.store.state().load_prepared(&path)?)?;
        // An older program must not open what comes now.
        self.store.raise_level(prepared.level)?;
        let info = self.store.state().install_snapshot(&path)?;
        failpoint!("snapshot.install.before_swap", Error::injected);
        let old = std::mem::replace(&mut *self.state.lock(), restored);
        // Freed when nobody waits for the lock: a state has millions of parts.
        drop(old);
        tracing::info!(node, applied = info.applied.map(|applied| applied.index), took = ?begun.elapsed(), "snapshot installed");
        Ok(info)
    }

    /// A snapshot that comes from a node of this process.
    fn packed(&self, pinned: &PinnedSnapshot) -> Result<PathBuf, Error> {
        let path = self.store.state().receiving_path(0, pinned.id)?;
        let failed = |error: std::io::Error| Error::Storage(format!("writing {}: {error}", path.display()));
        let mut file = std::fs::File::create(&path).map_err(failed)?;
        pinned.pack(&mut file)?;
        Ok(path)
    }
}

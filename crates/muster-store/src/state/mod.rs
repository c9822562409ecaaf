//! The state as of a checkpoint, and the history of ended jobs.
//!
//! A RocksDB instance of its own without a write-ahead log: what a crash takes is replayed from the Raft log, which is
//! purged only below [`StateStore::durable_applied`]. Every checkpoint is one batch over all column families and carries
//! its applied position; families are flushed together, so what is on disk is always exactly one checkpoint.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod generation;
mod history;
mod load;
mod overlay;
mod pack;
mod scan;
mod snapshot;
mod types;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use muster_core::{JobFilter, JobId, JobRow, LogIndex, TenantId};
use parking_lot::{Mutex, RwLock};
use rocksdb::WriteBatch;

use self::generation::Generation;
use self::overlay::Overlay;
pub use self::scan::Scanned;
use self::snapshot::Snapshots;
pub use self::snapshot::{PinnedSnapshot, SnapshotFile};
pub use self::types::{Checkpoint, CheckpointStats, HistoryCursor, KeyHolder, Loaded, SnapshotInfo};
use crate::codec::{Meta, encode_key, encode_meta, encode_row};
use crate::log::LogPosition;
use crate::{Error, Result, StoreOptions};

/// Rows of the state as of a checkpoint, and the history of ended jobs. Cheap to clone.
#[derive(Clone)]
pub struct StateStore {
    shared: Arc<Shared>,
}

struct Shared {
    options: StoreOptions,
    state: RwLock<Arc<Generation>>,
    overlay: Mutex<Overlay>,
    durable: Mutex<Option<LogPosition>>,
    /// Held over every change of the database, so that a flush or snapshot is of one position.
    writing: Mutex<Writing>,
    snapshots: Mutex<Snapshots>,
}

struct Writing {
    /// Of the last checkpoint written.
    meta: Meta,
    /// Number of the database directory.
    number: u64,
    unflushed_bytes: usize,
    flushed_at: Instant,
    failed: Option<Arc<str>>,
}

impl Writing {
    fn usable(&self) -> Result<()> {
        match &self.failed {
            Some(reason) => Err(Error::Failed { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Remembers a failure: a database that failed once is not written again.
    fn note<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.failed = Some(error.to_string().into());
        }
        result
    }
}

impl fmt::Debug for StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateStore")
            .field("durable", &self.durable_applied())
            .finish_non_exhaustive()
    }
}

impl StateStore {
    /// Opens or makes the state of a data directory.
    pub(crate) fn open(options: &StoreOptions) -> Result<Self> {
        let number = generation::current(&options.dir)?;
        let state = Generation::open(&options.dir.join(generation::name(number)), options.cache_bytes)?;
        let meta = state.meta()?;
        let snapshots = Snapshots::open(options.dir.join("snapshots"))?;
        let shared = Shared {
            options: options.clone(),
            state: RwLock::new(Arc::new(state)),
            overlay: Mutex::default(),
            durable: Mutex::new(meta.applied),
            writing: Mutex::new(Writing {
                meta,
                number,
                unflushed_bytes: 0,
                flushed_at: Instant::now(),
                failed: None,
            }),
            snapshots: Mutex::new(snapshots),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    fn state(&self) -> Arc<Generation> {
        self.shared.state.read().clone()
    }

    /// Everything saved.
    pub fn load(&self) -> Result<Loaded> {
        let state = self.state();
        let Meta { applied, membership } = state.meta()?;
        let rows = load::rows(&state)?;
        Ok(Loaded {
            rows,
            applied,
            membership,
        })
    }

    /// Writes a checkpoint as one atomic batch, flushes if it is time, and drops its ended jobs from the overlay.
    /// Blocks on the disk; call it off the apply loop.
    pub fn write(&self, checkpoint: Checkpoint) -> Result<CheckpointStats> {
        let start = Instant::now();
        let mut writing = self.shared.writing.lock();
        writing.usable()?;
        let state = self.state();
        let meta = Meta {
            applied: checkpoint.applied,
            membership: checkpoint.membership,
        };
        let mut batch = WriteBatch::default();
        let rows = state.rows()?;
        for key in &checkpoint.changes.delete {
            batch.delete_cf(rows, encode_key(key));
        }
        for row in &checkpoint.changes.put {
            batch.put_cf(rows, encode_key(&row.key()), encode_row(row)?);
        }
        for row in &checkpoint.ended {
            history::put(&state, &mut batch, row)?;
        }
        batch.put(generation::META_KEY, encode_meta(&meta)?);
        let bytes = batch.size_in_bytes();
        let written = state
            .db
            .write_without_wal(batch)
            .map_err(Error::database("writing a checkpoint"));
        writing.note(written)?;
        writing.meta = meta;
        writing.unflushed_bytes += bytes;
        {
            let mut overlay = self.shared.overlay.lock();
            for row in &checkpoint.ended {
                overlay.remove(row);
            }
        }
        let options = &self.shared.options;
        let flushed =
            writing.unflushed_bytes >= options.flush_bytes || writing.flushed_at.elapsed() >= options.flush_interval;
        if flushed {
            self.flush_locked(&mut writing, &state)?;
        }
        Ok(CheckpointStats {
            put: checkpoint.changes.put.len(),
            deleted: checkpoint.changes.delete.len(),
            ended: checkpoint.ended.len(),
            bytes,
            flushed,
            took: start.elapsed(),
        })
    }

    /// Makes everything written so far durable.
    pub fn flush(&self) -> Result<()> {
        let mut writing = self.shared.writing.lock();
        writing.usable()?;
        let state = self.state();
        self.flush_locked(&mut writing, &state)
    }

    fn flush_locked(&self, writing: &mut Writing, state: &Generation) -> Result<()> {
        let flushed = state.flush();
        writing.note(flushed)?;
        writing.unflushed_bytes = 0;
        writing.flushed_at = Instant::now();
        *self.shared.durable.lock() = writing.meta.applied;
        Ok(())
    }

    /// Position up to which the state survives a power cut: the log may be purged up to here.
    pub fn durable_applied(&self) -> Option<LogPosition> {
        *self.shared.durable.lock()
    }

    /// Makes an ended job readable in the history at once; a later checkpoint with it in `ended` writes it.
    pub fn note_ended(&self, row: Arc<JobRow>) {
        self.shared.overlay.lock().add(row);
    }

    /// An ended job.
    pub fn history_job(&self, id: JobId) -> Result<Option<Arc<JobRow>>> {
        if let Some(row) = self.shared.overlay.lock().job(id) {
            return Ok(Some(row));
        }
        history::job(&self.state(), id)
    }

    /// The ended job that held an idempotency key last.
    pub fn history_key(&self, tenant: TenantId, key: &str) -> Result<Option<JobId>> {
        Ok(self.history_key_holder(tenant, key)?.map(|holder| holder.job))
    }

    /// The same, with the time from which the key binds.
    pub fn history_key_holder(&self, tenant: TenantId, key: &str) -> Result<Option<KeyHolder>> {
        let in_overlay = self.shared.overlay.lock().holder(tenant, key);
        let on_disk = history::holder(&self.state(), tenant, key)?;
        Ok([in_overlay, on_disk]
            .into_iter()
            .flatten()
            .max_by_key(|holder| holder.enqueued_at))
    }

    /// Ended jobs of a tenant that match, newest first, from after `page`: at most `limit`, looking at no more than
    /// `budget`. Returns the jobs and, if there is more to look at, where to go on.
    pub fn history_list(
        &self,
        tenant: TenantId,
        filter: &JobFilter,
        page: Option<HistoryCursor>,
        limit: usize,
        budget: usize,
    ) -> Result<(Vec<Arc<JobRow>>, Option<HistoryCursor>)> {
        let (limit, budget) = (limit.max(1), budget.max(1));
        let (from, to) = history::page_range(tenant, page);
        // One more than can be looked at, to know whether there is more.
        let overlay = self.shared.overlay.lock().range(from, to, budget.saturating_add(1));
        history::list(&self.state(), overlay, (from, to), filter, limit, budget)
    }

    /// Reads everything: each row and each ended job decodes, lies under its own key, and is found by its id.
    pub fn scan(&self) -> Result<Scanned> {
        scan::scan(&self.state())
    }

    /// Pins what the last checkpoint wrote, flushed.
    pub fn pin_snapshot(&self) -> Result<Arc<PinnedSnapshot>> {
        let dir = self.shared.snapshots.lock().next_pin();
        let mut writing = self.shared.writing.lock();
        writing.usable()?;
        let state = self.state();
        self.flush_locked(&mut writing, &state)?;
        let linked = rocksdb::checkpoint::Checkpoint::new(&state.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(&dir))
            .map_err(Error::database("pinning a snapshot"));
        let meta = writing.meta.clone();
        drop(writing);
        let pinned = linked.and_then(|()| PinnedSnapshot::new(dir.clone(), meta));
        if pinned.is_err() {
            snapshot::remove(&dir);
        }
        Ok(Arc::new(pinned?))
    }

    /// A snapshot that contains the entry at `least`: the one kept for transfers, or a new one that is kept from now
    /// on. `None` when nothing was ever written.
    pub fn snapshot_with(&self, least: LogIndex) -> Result<Option<Arc<PinnedSnapshot>>> {
        if let Some(kept) = self.shared.snapshots.lock().kept(least) {
            return Ok(Some(kept));
        }
        if self.shared.writing.lock().meta.applied.is_none() {
            return Ok(None);
        }
        let pinned = self.pin_snapshot()?;
        self.shared.snapshots.lock().keep(&pinned);
        Ok(Some(pinned))
    }

    /// Lets go of a kept snapshot that has become old. Call it now and then.
    pub fn expire_snapshot(&self) {
        self.shared.snapshots.lock().expire();
    }

    /// Where the packed form of the snapshot `id` of node `from` is received before [`StateStore::install_snapshot`]. A
    /// transfer that broke goes on at the end of that file. It is removed when another snapshot is received, and on
    /// the next open.
    pub fn receiving_path(&self, from: u64, id: u64) -> Result<PathBuf> {
        self.shared.snapshots.lock().receiving(from, id)
    }

    /// Verifies a received snapshot file and swaps the whole state, history and overlay for it. A crash in the middle
    /// leaves either the old state or the new. The file is removed.
    pub fn install_snapshot(&self, path: &Path) -> Result<SnapshotInfo> {
        let options = &self.shared.options;
        let mut writing = self.shared.writing.lock();
        writing.usable()?;
        let number = writing.number + 1;
        let dir = options.dir.join(generation::name(number));
        snapshot::remove(&dir);
        let opened = pack::unpack(path, &dir).and_then(|meta| {
            let state = Generation::open(&dir, options.cache_bytes)?;
            if state.meta()? != meta {
                return Err(Error::damaged("snapshot", "its position is not that of its state"));
            }
            Ok((state, meta))
        });
        let (state, meta) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                snapshot::remove(&dir);
                snapshot::remove(path);
                return Err(error);
            }
        };
        let pointed = generation::point(&options.dir, number);
        writing.note(pointed)?;
        let old = std::mem::replace(&mut *self.shared.state.write(), Arc::new(state));
        old.retire();
        self.shared.overlay.lock().clear();
        writing.number = number;
        writing.meta = meta.clone();
        writing.unflushed_bytes = 0;
        writing.flushed_at = Instant::now();
        *self.shared.durable.lock() = meta.applied;
        drop(writing);
        snapshot::remove(path);
        Ok(snapshot::info(meta))
    }
}

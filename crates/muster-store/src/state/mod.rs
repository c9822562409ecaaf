//! The state as of a checkpoint, and the history of ended jobs.
//!
//! A RocksDB instance of its own without a write-ahead log: what a crash takes is replayed from the Raft log, which is
//! purged only below [`StateStore::durable_applied`]. Every checkpoint is one batch over all column families and carries
//! its applied position; families are flushed together, so what is on disk is always exactly one checkpoint.

mod check;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod generation;
mod history;
mod load;
mod overlay;
pub(crate) mod pack;
mod snapshot;
mod types;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use muster_core::{JobFilter, JobId, JobRow, LogIndex, Row, TenantId};
use muster_failpoint::failpoint;
use parking_lot::{Mutex, RwLock};
use rocksdb::WriteBatch;

pub use self::check::StateCounts;
use self::generation::Generation;
use self::overlay::Overlay;
use self::snapshot::Snapshots;
pub use self::snapshot::{PinnedSnapshot, SnapshotFile};
pub use self::types::{Checkpoint, CheckpointStats, HistoryCursor, KeyHolder, Loaded, SnapshotInfo};
use crate::alarm::Alarm;
use crate::codec::{Meta, encode_key, encode_meta, encode_row};
use crate::log::LogPosition;
use crate::space::{Room, SpaceGuard};
use crate::{Error, Result, StoreOptions};

/// Directory of snapshots in the data directory.
pub(crate) const SNAPSHOTS: &str = "snapshots";

/// Number of a new directory's first state.
pub(crate) const FIRST: u64 = 1;

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
    /// A received snapshot that was verified and waits for its install.
    prepared: Mutex<Option<Prepared>>,
    alarm: Arc<Alarm>,
    space: Arc<SpaceGuard>,
}

struct Prepared {
    from: PathBuf,
    number: u64,
    state: Generation,
    meta: Meta,
    level: u32,
    /// All rows, until they are asked for or `since` is long ago: they can be read again.
    rows: Option<Vec<Row>>,
    since: Instant,
}

impl Prepared {
    fn info(&self) -> SnapshotInfo {
        SnapshotInfo {
            level: self.level,
            ..snapshot::info(self.meta.clone())
        }
    }
}

impl Shared {
    /// Damage met while reading ends the node.
    fn read<T>(&self, result: Result<T>) -> Result<T> {
        self.alarm.read(result)
    }
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
    fn note<T>(&mut self, alarm: &Alarm, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.failed = Some(error.to_string().into());
        }
        alarm.write(result)
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
    /// Opens the state of a data directory; makes one in a new directory.
    pub(crate) fn open(options: &StoreOptions, new: bool, alarm: Arc<Alarm>, space: Arc<SpaceGuard>) -> Result<Self> {
        let number = match generation::current(&options.dir)? {
            Some(number) => number,
            None if new => {
                Self::make_empty(&options.dir)?;
                FIRST
            }
            None => {
                return Err(Error::damaged(
                    "pointer to the state in force",
                    format!("{} is missing", generation::POINTER),
                ));
            }
        };
        failpoint!("state.open.before_open", Error::injected);
        let state = Generation::open(&options.dir.join(generation::name(number)), options.cache_bytes, false)?;
        let meta = state.meta()?;
        failpoint!("state.open.before_remove", Error::injected);
        generation::remove_others(&options.dir, number)?;
        let snapshots = Snapshots::open(options.dir.join(SNAPSHOTS))?;
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
            prepared: Mutex::default(),
            alarm,
            space,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Makes an empty state and puts it in force, synced on return. A half-made one is replaced.
    pub(crate) fn make_empty(dir: &Path) -> Result<()> {
        let path = dir.join(generation::name(FIRST));
        snapshot::remove(&path);
        drop(Generation::open(&path, 0, true)?);
        failpoint!("state.make.before_pointer", Error::injected);
        generation::point(dir, FIRST)
    }

    /// Reads everything of the database at `path` without changing it: records, and where the indexes lead. `read` is called
    /// with how many records were read, of about how many.
    pub(crate) fn inspect(
        path: &Path,
        scratch: &Path,
        report: check::Report<'_>,
        read: &mut dyn FnMut(u64, u64),
    ) -> Result<(StateCounts, Loaded)> {
        let state = Generation::open_read_only(path, scratch)?;
        let of = state.records();
        let counts = check::records(&state, report, &mut |records| read(records, of))?;
        check::indexes(&state, report)?;
        // Rows that cannot be read are reported by now.
        let loaded = load::all(&state).unwrap_or_default();
        Ok((counts, loaded))
    }

    fn state(&self) -> Arc<Generation> {
        self.shared.state.read().clone()
    }

    /// Everything saved.
    pub fn load(&self) -> Result<Loaded> {
        self.shared.read(load::all(&self.state()))
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
        for row in &checkpoint.ahead {
            batch.put_cf(rows, encode_key(&row.key()), encode_row(row)?);
        }
        for key in &checkpoint.changes.delete {
            batch.delete_cf(rows, encode_key(key));
        }
        for row in &checkpoint.changes.put {
            batch.put_cf(rows, encode_key(&row.key()), encode_row(row)?);
        }
        for row in &checkpoint.ended {
            self.shared.read(history::put(&state, &mut batch, row))?;
        }
        batch.put(generation::META_KEY, encode_meta(&meta)?);
        let bytes = batch.size_in_bytes();
        failpoint!("checkpoint.write.before", Error::injected);
        let written = state
            .db
            .write_without_wal(batch)
            .map_err(Error::database("writing a checkpoint"));
        writing.note(&self.shared.alarm, written)?;
        failpoint!("checkpoint.write.after", Error::injected);
        writing.meta = meta;
        writing.unflushed_bytes += bytes;
        {
            let mut overlay = self.shared.overlay.lock();
            for row in &checkpoint.ended {
                overlay.remove(row);
            }
        }
        let options = &self.shared.options;
        let due =
            writing.unflushed_bytes >= options.flush_bytes || writing.flushed_at.elapsed() >= options.flush_interval;
        // The log has it all; a flush that finds no room would end the node.
        let room = |space: &SpaceGuard| space.look().map_or(true, |space| space.room != Room::Out);
        let flushed = due && room(&self.shared.space);
        if flushed {
            self.flush_locked(&mut writing, &state)?;
        }
        Ok(CheckpointStats {
            put: checkpoint.ahead.len() + checkpoint.changes.put.len(),
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
        writing.note(&self.shared.alarm, flushed)?;
        failpoint!("state.flush.after", Error::injected);
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
        self.shared.read(history::job(&self.state(), id))
    }

    /// The ended job that held an idempotency key last.
    pub fn history_key(&self, tenant: TenantId, key: &str) -> Result<Option<JobId>> {
        Ok(self.history_key_holder(tenant, key)?.map(|holder| holder.job))
    }

    /// The same, with the time from which the key binds.
    pub fn history_key_holder(&self, tenant: TenantId, key: &str) -> Result<Option<KeyHolder>> {
        let in_overlay = self.shared.overlay.lock().holder(tenant, key);
        let on_disk = self.shared.read(history::holder(&self.state(), tenant, key))?;
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
        self.shared
            .read(history::list(&self.state(), overlay, (from, to), filter, limit, budget))
    }

    /// Pins what the last checkpoint wrote, flushed.
    pub fn pin_snapshot(&self) -> Result<Arc<PinnedSnapshot>> {
        let dir = self.shared.snapshots.lock().next_pin();
        let mut writing = self.shared.writing.lock();
        writing.usable()?;
        let state = self.state();
        failpoint!("snapshot.pin.before_flush", Error::injected);
        self.flush_locked(&mut writing, &state)?;
        failpoint!("snapshot.pin.before_link", Error::injected);
        let linked = rocksdb::checkpoint::Checkpoint::new(&state.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(&dir))
            .map_err(Error::database("pinning a snapshot"));
        let meta = writing.meta.clone();
        drop(writing);
        failpoint!("snapshot.pin.after_link", Error::injected);
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

    /// Lets go of what was kept for a transfer or an install that has not come for ten minutes. Call it now and then.
    pub fn expire_snapshot(&self) {
        self.shared.snapshots.lock().expire();
        // Held for seconds while a snapshot is read; this caller must not wait, and what is held is not old.
        let Some(mut prepared) = self.shared.prepared.try_lock() else {
            return;
        };
        if let Some(unused) = prepared
            .as_mut()
            .filter(|prepared| prepared.since.elapsed() >= snapshot::KEPT)
        {
            unused.rows = None;
        }
    }

    /// Reads the whole state in force: each record decodes, lies under its own key, and is found by the indexes. Damage that is
    /// found ends the node, as any that is met.
    pub fn verify(&self) -> Result<StateCounts> {
        let mut fault = None;
        let mut first = |error| {
            fault = Some(error);
            ControlFlow::Break(())
        };
        let state = self.state();
        let counts = check::records(&state, &mut first, &mut |_| {})
            .and_then(|counts| check::indexes(&state, &mut first).map(|()| counts));
        self.shared.read(fault.map_or(counts, Err))
    }

    /// Where the packed form of the snapshot `id` of node `from` is received before [`StateStore::install_snapshot`]. A
    /// transfer that broke goes on at the end of that file. It is removed when another snapshot is received, and on
    /// the next open.
    pub fn receiving_path(&self, from: u64, id: u64) -> Result<PathBuf> {
        self.shared.snapshots.lock().receiving(from, id)
    }

    /// Unpacks a received snapshot beside the state in force and reads all of it: every checksum, every record. One
    /// that is damaged is removed, and nothing has changed. Blocks on the disk for as long as that takes; one that was
    /// prepared before is not read again.
    pub fn prepare_snapshot(&self, path: &Path) -> Result<SnapshotInfo> {
        let options = &self.shared.options;
        let mut prepared = self.shared.prepared.lock();
        if let Some(ready) = prepared.as_ref().filter(|prepared| prepared.from == path) {
            return Ok(ready.info());
        }
        // Dropped first: one that was never installed has the same directory.
        if let Some(unused) = prepared.take() {
            unused.state.retire();
        }
        let number = self.shared.writing.lock().number + 1;
        let dir = options.dir.join(generation::name(number));
        snapshot::remove(&dir);
        failpoint!("snapshot.prepare.before_unpack", Error::injected);
        let opened = pack::unpack(path, &dir).and_then(|meta| {
            failpoint!("snapshot.prepare.before_check", Error::injected);
            let state = Generation::open(&dir, options.cache_bytes, false)?;
            if state.meta()? != meta {
                return Err(Error::damaged("snapshot", "its position is not that of its state"));
            }
            let rows = load::rows(&state)?;
            let mut fault = None;
            let mut first = |error| {
                fault = Some(error);
                ControlFlow::Break(())
            };
            check::ended(&state, &mut first)?;
            fault.map_or(Ok((state, meta, rows)), Err)
        });
        match opened {
            Ok((state, meta, rows)) => {
                let level = rows.iter().find_map(|row| match row {
                    Row::Meta(meta) => Some(meta.level),
                    _ => None,
                });
                let ready = prepared.insert(Prepared {
                    from: path.to_owned(),
                    number,
                    state,
                    meta,
                    level: level.unwrap_or_default(),
                    rows: Some(rows),
                    since: Instant::now(),
                });
                Ok(ready.info())
            }
            Err(error) => {
                snapshot::remove(&dir);
                snapshot::remove(path);
                Err(error)
            }
        }
    }

    /// What a prepared snapshot contains, as [`StateStore::load`] will return it once it is installed.
    pub fn load_prepared(&self, path: &Path) -> Result<Loaded> {
        let mut prepared = self.shared.prepared.lock();
        let Some(ready) = prepared.as_mut().filter(|prepared| prepared.from == path) else {
            return Err(Error::damaged("snapshot", "another one took its place"));
        };
        match ready.rows.take() {
            Some(rows) => Ok(Loaded {
                rows,
                applied: ready.meta.applied,
                membership: ready.meta.membership.clone(),
            }),
            None => load::all(&ready.state),
        }
    }

    /// Swaps the whole state, history and overlay for a received snapshot, which is prepared first if it was not. A crash
    /// in the middle leaves either the old state or the new. The file is removed.
    pub fn install_snapshot(&self, path: &Path) -> Result<SnapshotInfo> {
        let options = &self.shared.options;
        let ready = |prepared: &mut Option<Prepared>| prepared.take_if(|prepared| prepared.from == path);
        let mut prepared = ready(&mut self.shared.prepared.lock());
        if prepared.is_none() {
            self.prepare_snapshot(path)?;
            prepared = ready(&mut self.shared.prepared.lock());
        }
        let Some(Prepared {
            number, state, meta, ..
        }) = prepared
        else {
            return Err(Error::damaged("snapshot", "another one took its place"));
        };
        let mut writing = self.shared.writing.lock();
        writing.usable()?;
        failpoint!("snapshot.install.before_pointer", Error::injected);
        let pointed = generation::point(&options.dir, number);
        writing.note(&self.shared.alarm, pointed)?;
        failpoint!("snapshot.install.after_pointer", Error::injected);
        let old = std::mem::replace(&mut *self.shared.state.write(), Arc::new(state));
        old.retire();
        self.shared.overlay.lock().clear();
        writing.number = number;
        writing.meta = meta.clone();
        writing.unflushed_bytes = 0;
        writing.flushed_at = Instant::now();
        *self.shared.durable.lock() = meta.applied;
        drop(writing);
        failpoint!("snapshot.install.before_remove", Error::injected);
        snapshot::remove(path);
        Ok(snapshot::info(meta))
    }
}

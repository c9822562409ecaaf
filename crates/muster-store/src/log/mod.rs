//! The Raft log.
//!
//! An own RocksDB instance, written by one thread. Callers add entries to an index in memory and to a queue under one
//! lock, so both agree on the order; the thread turns all that waits into one synced batch. Entries form a hash chain
//! (`record`), and a high-water mark beside the database (`mark`) shows when its end is missing.
//!
//! **A failed write or sync is fatal.** What is on disk then is unknown, and a repeated sync may report success for
//! pages the kernel has dropped. The callers get the error, everything later fails with [`Error::Failed`], and the
//! node must exit; on the next start it reads what is there.

mod disk;
mod extent;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod index;
pub(crate) mod inspect;
pub(crate) mod mark;
mod queue;
pub(crate) mod record;
mod types;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_failpoint::failpoint;
use parking_lot::Mutex;
use rocksdb::DB;

use self::index::Index;
use self::mark::{Mark, MarkFiles, Owner};
use self::queue::{MarkChange, Op, Queue};
use self::record::{Link, Record, VOTE_BYTES_MAX, Vote, entry_key};
pub use self::types::{AppendDone, EntryKind, LogBounds, LogEntry, LogPosition};
use self::writer::Writer;
use crate::alarm::Alarm;
use crate::codec::BATCH_BYTES_MAX;
use crate::{Error, Result, StoreOptions};

/// The log's directory in the data directory.
pub(crate) const DIR: &str = "log";

/// The Raft log, the vote and their high-water mark. Cheap to clone.
#[derive(Clone)]
pub struct LogStore {
    handle: Arc<Handle>,
}

/// What callers and the writer thread share.
struct Shared {
    options: StoreOptions,
    db: DB,
    index: Mutex<Index>,
    queue: Queue,
    failed: OnceLock<Arc<str>>,
    alarm: Arc<Alarm>,
    /// Up to here this process purged, and it is synced; 0: it did not.
    purged_on_disk: AtomicU64,
    /// Up to here files were removed.
    reclaimed: AtomicU64,
    /// Makes the next sync fail; set by tests only.
    fail_next_sync: AtomicBool,
}

/// Owns the writer thread.
struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore")
            .field("bounds", &self.bounds())
            .finish_non_exhaustive()
    }
}

impl LogStore {
    /// Opens the log of a data directory, verifies its newest entries and compares it with its mark. Without a mark the
    /// directory is new: log and mark are made.
    pub(crate) fn open(
        options: &StoreOptions,
        files: MarkFiles,
        mark: Option<Mark>,
        alarm: Arc<Alarm>,
    ) -> Result<Self> {
        let path = options.dir.join(DIR);
        failpoint!("log.open.before_open", Error::injected);
        let db = disk::open(&path, options.log_buffer_bytes, mark.is_none())?;
        failpoint!("log.open.before_recover", Error::injected);
        let recovered = disk::recover(&db, options.verify_bytes, options.tail_bytes_max)?;
        failpoint!("log.open.before_check", Error::injected);
        let mark = check_mark(&db, &recovered, mark, &files)?;
        let index = Index::new(recovered, disk::bytes(&db)?);
        let shared = Arc::new(Shared {
            options: options.clone(),
            db,
            index: Mutex::new(index),
            queue: Queue::default(),
            failed: OnceLock::new(),
            alarm,
            purged_on_disk: AtomicU64::new(0),
            reclaimed: AtomicU64::new(0),
            fail_next_sync: AtomicBool::new(false),
        });
        let thread = start(shared.clone(), files, mark, &path)?;
        let thread = Mutex::new(Some(thread));
        Ok(Self {
            handle: Arc::new(Handle { shared, thread }),
        })
    }

    /// Makes an empty log that remembers a vote, synced on return.
    pub(crate) fn make_empty(dir: &Path, vote: Option<&Vote>) -> Result<()> {
        // One row goes in.
        let db = disk::open(&dir.join(DIR), 1 << 20, true)?;
        failpoint!("log.make.before_vote", Error::injected);
        disk::put_vote(&db, vote)
    }

    /// Adds entries that follow the last one. They are readable when this returns; `done` is called by the writer
    /// thread once they are synced. Everything that waits shares one sync. Blocks while more than
    /// [`crate::StoreOptions::queue_bytes_max`] wait.
    ///
    /// An error given to `done` is fatal, except [`Error::NotContiguous`] and [`Error::TooLarge`], which say that
    /// nothing was added.
    pub fn append(&self, entries: Vec<LogEntry>, done: AppendDone) {
        let shared = &self.handle.shared;
        shared.queue.wait_for_room(shared.options.queue_bytes_max);
        let mut index = shared.index.lock();
        let records = match chain(&index, entries) {
            Ok(records) => records,
            Err(error) => {
                drop(index);
                return done(Err(error));
            }
        };
        if let Err(error) = shared.usable() {
            drop(index);
            return done(Err(error));
        }
        let number = index.push(&records);
        failpoint!("log.append.before_queue");
        let refused = shared.queue.push(Op::Append { records, number, done });
        drop(index);
        failpoint!("log.append.after_queue");
        if let Err(op) = refused {
            op.refuse(&shared.closed());
        }
    }

    /// Entries with `from <= index < to`, contiguous from `from`, as many as fit in `bytes_max` but at least one if
    /// there is one. Those that come from disk are verified. Empty when `from` is above the last entry.
    pub fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<LogEntry>> {
        let shared = &self.handle.shared;
        shared.usable()?;
        shared.alarm.read(shared.read(from, to, bytes_max))
    }

    /// Position of the entry at an index. `None` when it was purged or is above the last one.
    pub fn position_at(&self, index: u64) -> Result<Option<LogPosition>> {
        let entry = match self.read(index, index.saturating_add(1), 0) {
            Err(Error::Purged { .. }) => return Ok(None),
            other => other?.pop(),
        };
        Ok(entry.map(|entry| entry.position))
    }

    /// Where the log begins and ends.
    pub fn bounds(&self) -> LogBounds {
        self.handle.shared.index.lock().bounds()
    }

    /// Bytes of all entries, about.
    pub fn bytes(&self) -> u64 {
        self.handle.shared.index.lock().extent.bytes()
    }

    /// How far the log can be purged so that at least `keep_bytes` stay, or, if it is further, everything that is younger
    /// than `keep_for`. `None`: nothing need go. In steps of about 1 MiB or 10 s; what an earlier process left goes
    /// all at once.
    pub fn purge_point(&self, keep_bytes: u64, keep_for: Duration) -> Option<LogPosition> {
        let index = self.handle.shared.index.lock();
        index.extent.purge_point(keep_bytes, keep_for, Instant::now())
    }

    /// Removes all entries above a position (`None`: all entries). Durable on return.
    pub fn truncate_after(&self, position: Option<LogPosition>) -> Result<()> {
        let shared = &self.handle.shared;
        shared.usable()?;
        let mut index = shared.index.lock();
        let Some(last) = index.end.map(|end| end.position.index) else {
            return Ok(());
        };
        let purged = index.purged;
        let end = match (position, purged) {
            (Some(position), Some(purged)) if position.index < purged.position.index => {
                return Err(Error::Purged {
                    index: position.index,
                    purged: purged.position.index,
                });
            }
            (Some(position), _) if position.index >= last => return Ok(()),
            (Some(position), Some(purged)) if position.index == purged.position.index => Some(purged),
            (Some(position), _) => Some(shared.alarm.read(shared.link_at(&index, position.index))?),
            (None, purged) => purged,
        };
        let from = match (end, index.tail_first()) {
            (Some(end), _) => end.position.index + 1,
            (None, _) => 0,
        };
        let (done, wait) = sync_channel(1);
        let op = Op::Truncate {
            from: from.max(shared.first_on_disk(&index, from)?),
            to: last,
            end,
            done,
        };
        failpoint!("log.truncate.before_queue", Error::injected);
        index.truncate(from, end);
        let refused = shared.queue.push(op);
        drop(index);
        if let Err(op) = refused {
            op.refuse(&shared.closed());
        }
        let truncated = wait.recv().unwrap_or_else(|_| Err(shared.closed()));
        failpoint!("log.truncate.after_sync", Error::injected);
        truncated
    }

    /// Removes all entries up to a position, which may lie above the last entry (after a snapshot was installed).
    /// Effective at once, durable with the next sync.
    pub fn purge(&self, position: LogPosition) -> Result<()> {
        let shared = &self.handle.shared;
        shared.usable()?;
        let mut index = shared.index.lock();
        if index
            .purged
            .is_some_and(|purged| position.index <= purged.position.index)
        {
            return Ok(());
        }
        let from = index.purged.map_or(0, |purged| purged.position.index + 1);
        let inside = index.end.is_some_and(|end| position.index <= end.position.index);
        let purged = if inside {
            shared.alarm.read(shared.link_at(&index, position.index))?
        } else {
            record::begin_at(position)
        };
        if purged.position != position {
            return shared.alarm.read(Err(Error::LogDamaged {
                index: position.index,
                detail: format!("it is {}, not {position} as the snapshot has it", purged.position),
            }));
        }
        failpoint!("log.purge.before_queue", Error::injected);
        index.purge(purged);
        let op = Op::Purge {
            from,
            to: position.index,
            purged,
        };
        shared.queue.push(op).map_err(|_| shared.closed())
    }

    /// Whether [`Self::reclaim`] has something to do.
    pub fn is_reclaimable(&self) -> bool {
        let shared = &self.handle.shared;
        shared.reclaimed.load(Ordering::Acquire) < shared.purged_on_disk.load(Ordering::Acquire)
    }

    /// Removes the files that hold purged entries alone, at once instead of by compaction. Apart from [`Self::purge`], so that no
    /// append waits for it: it syncs the database's list of files and frees megabytes. Blocks on the disk.
    pub fn reclaim(&self) -> Result<()> {
        let shared = &self.handle.shared;
        shared.usable()?;
        let purged = shared.purged_on_disk.load(Ordering::Acquire);
        failpoint!("log.reclaim.before", Error::injected);
        let removed = shared.db.delete_file_in_range(entry_key(0), entry_key(purged));
        shared
            .alarm
            .write(removed.map_err(Error::database("removing purged files of the log")))?;
        failpoint!("log.reclaim.after", Error::injected);
        shared.reclaimed.fetch_max(purged, Ordering::AcqRel);
        Ok(())
    }

    /// Stores the vote, at most 64 bytes: durable on return, in the log and in the mark, and ordered with appends.
    pub fn save_vote(&self, vote: Bytes) -> Result<()> {
        let shared = &self.handle.shared;
        shared.usable()?;
        if vote.len() > VOTE_BYTES_MAX {
            return Err(Error::TooLarge {
                what: "vote",
                size: vote.len(),
                max: VOTE_BYTES_MAX,
            });
        }
        let (done, wait) = sync_channel(1);
        let mut index = shared.index.lock();
        failpoint!("log.vote.before_queue", Error::injected);
        let number = index.vote.as_ref().map_or(0, |vote| vote.number) + 1;
        let vote = Vote { number, data: vote };
        index.vote = Some(vote.clone());
        let refused = shared.queue.push(Op::Vote { vote, done });
        drop(index);
        if let Err(op) = refused {
            op.refuse(&shared.closed());
        }
        wait.recv().unwrap_or_else(|_| Err(shared.closed()))
    }

    /// Notes in the mark whom the directory belongs to.
    pub(crate) fn bind(&self, owner: Owner) -> Result<()> {
        self.change_mark(MarkChange::Owner(owner))
    }

    /// Notes in the mark that the log holds again what the node had, after all that was appended is synced.
    pub(crate) fn end_refill(&self) -> Result<()> {
        self.change_mark(MarkChange::Refilled)
    }

    /// Notes in the mark that data of a feature level is about to come.
    pub(crate) fn raise_level(&self, level: u32) -> Result<()> {
        self.change_mark(MarkChange::Level(level))
    }

    fn change_mark(&self, change: MarkChange) -> Result<()> {
        let shared = &self.handle.shared;
        shared.usable()?;
        let (done, wait) = sync_channel(1);
        if let Err(op) = shared.queue.push(Op::Mark { change, done }) {
            op.refuse(&shared.closed());
        }
        wait.recv().unwrap_or_else(|_| Err(shared.closed()))
    }

    /// The vote stored last.
    pub fn vote(&self) -> Result<Option<Bytes>> {
        self.handle.shared.usable()?;
        let index = self.handle.shared.index.lock();
        Ok(index.vote.as_ref().map(|vote| vote.data.clone()))
    }

    /// Ends the writer thread after all that waits was done.
    pub(crate) fn close(&self) -> Result<()> {
        self.handle.stop();
        match self.handle.shared.failed.get() {
            Some(_) => Err(self.handle.shared.closed()),
            None => Ok(()),
        }
    }
}

impl Shared {
    fn usable(&self) -> Result<()> {
        match self.failed.get() {
            Some(_) => Err(self.closed()),
            None => Ok(()),
        }
    }

    /// Why nothing is done any more.
    fn closed(&self) -> Error {
        self.failed
            .get()
            .map_or(Error::Closed, |reason| Error::Failed { reason: reason.clone() })
    }

    /// Makes everything that waits, and everything later, fail.
    fn fail(&self, error: &Error) {
        // A second failure changes nothing: the first is the one to report.
        drop(self.failed.set(error.to_string().into()));
        drop(self.alarm.write::<()>(Err(error.clone())));
        for op in self.queue.drain() {
            op.refuse(&self.closed());
        }
    }

    fn note_synced(&self, number: u64) {
        self.index.lock().note_synced(number, self.options.tail_bytes_max);
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        let (disk_to, above) = {
            let index = self.index.lock();
            if !readable(&index, from)? {
                return Ok(entries);
            }
            match index.tail_first() {
                Some(first) if from >= first => {
                    from_tail(&index, from, to, bytes_max, &mut entries);
                    return Ok(entries);
                }
                Some(first) => (first.min(to), (first <= to).then(|| index.tail_previous()).flatten()),
                None => (to, None),
            }
        };
        failpoint!("log.read.before_disk", Error::injected);
        let records = disk::read(&self.db, from, disk_to, bytes_max)?;
        let index = self.index.lock();
        let Some(last) = records.last() else {
            // It may have been purged or truncated meanwhile; if not, it is missing.
            return if readable(&index, from)? && from < to {
                Err(Error::LogDamaged {
                    index: from,
                    detail: "it is missing".into(),
                })
            } else {
                Ok(entries)
            };
        };
        let next = last.entry.position.index + 1;
        let joins = above.is_none_or(|previous| next != disk_to || previous == last.hash);
        let unchanged = index.tail_previous() == above && index.tail_first() == Some(next);
        if !joins && unchanged {
            return Err(Error::LogDamaged {
                index: next,
                detail: "it does not follow the entry before it".into(),
            });
        }
        entries.extend(records.into_iter().map(|record| record.entry));
        if unchanged {
            let used: usize = entries.iter().map(|entry| entry.data.len()).sum();
            if used < bytes_max {
                from_tail(&index, next, to, bytes_max - used, &mut entries);
            }
        }
        Ok(entries)
    }

    /// Place of an existing entry in the chain. What is not in memory is on disk and synced.
    fn link_at(&self, index: &Index, at: u64) -> Result<Link> {
        if let Some(record) = index.get(at) {
            return Ok(record.link());
        }
        let record = disk::read_one(&self.db, at)?;
        record.map(|record| record.link()).ok_or_else(|| Error::LogDamaged {
            index: at,
            detail: "it is missing".into(),
        })
    }

    /// The first entry at or above `from`, so that a truncation of everything does not walk from 0.
    fn first_on_disk(&self, index: &Index, from: u64) -> Result<u64> {
        let tail = index.tail_first().unwrap_or(u64::MAX);
        let disk = disk::first(&self.db, from)?.unwrap_or(u64::MAX);
        Ok(tail.min(disk))
    }
}

impl Handle {
    fn stop(&self) {
        self.shared.queue.close();
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        // A callback that holds the last clone drops it on the writer thread, which cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the log's writer thread panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start(shared: Arc<Shared>, files: MarkFiles, mark: Mark, path: &Path) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("log-writer".into())
        .spawn(move || {
            let mut writer = Writer::new(shared.clone(), files, mark);
            if catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
                shared.fail(&Error::io("writing the log")(std::io::Error::other(
                    "the writer thread panicked",
                )));
            }
        })
        .map_err(Error::io(format!("starting the writer thread of {}", path.display())))
}

/// Compares what was found with the mark; makes the mark of a new log.
fn check_mark(db: &DB, recovered: &disk::Recovered, mark: Option<Mark>, files: &MarkFiles) -> Result<Mark> {
    let Some(mark) = mark else {
        if recovered.end.is_some() || recovered.vote.is_some() {
            return Err(Error::MarkLost {
                detail: "they are missing beside a log that is not empty".into(),
            });
        }
        let mark = Mark {
            sequence: 1,
            ..Mark::default()
        };
        files.sync(&mark)?;
        return Ok(mark);
    };
    mark.check_vote(recovered.vote.as_ref())?;
    let Some(expected) = mark.end else {
        return Ok(mark);
    };
    let below = |found: Option<LogPosition>| Error::LogBelowMark {
        found,
        expected: expected.position,
    };
    let found = recovered.end.map(|end| end.position);
    if found.is_none_or(|found| found.index < expected.position.index) {
        return Err(below(found));
    }
    if recovered
        .purged
        .is_some_and(|purged| expected.position.index <= purged.position.index)
    {
        return Ok(mark);
    }
    let record = disk::read_one(db, expected.position.index)?;
    if record.as_ref().is_none_or(|record| record.link() != expected) {
        return Err(below(record.map(|record| record.entry.position)));
    }
    Ok(mark)
}

/// Chains entries to the end of the log.
fn chain(index: &Index, entries: Vec<LogEntry>) -> Result<Vec<Record>> {
    let mut next = index.next();
    let mut previous = index.end.map_or(0, |end| end.hash);
    let mut records = Vec::with_capacity(entries.len());
    for entry in entries {
        let found = entry.position.index;
        if let Some(expected) = next
            && expected != found
        {
            return Err(Error::NotContiguous { expected, found });
        }
        if entry.data.len() > BATCH_BYTES_MAX {
            return Err(Error::TooLarge {
                what: "log entry",
                size: entry.data.len(),
                max: BATCH_BYTES_MAX,
            });
        }
        next = Some(found + 1);
        let record = Record::new(entry, previous);
        previous = record.hash;
        records.push(record);
    }
    Ok(records)
}

/// Whether there is an entry at or above `from`.
fn readable(index: &Index, from: u64) -> Result<bool> {
    if let Some(purged) = index.purged
        && from <= purged.position.index
    {
        return Err(Error::Purged {
            index: from,
            purged: purged.position.index,
        });
    }
    Ok(index.end.is_some_and(|end| from <= end.position.index))
}

/// Adds entries of memory from `from` on.
fn from_tail(index: &Index, from: u64, to: u64, bytes_max: usize, entries: &mut Vec<LogEntry>) {
    let mut bytes = 0;
    for at in from..to {
        let Some(record) = index.get(at) else {
            return;
        };
        bytes += record.entry.data.len();
        if bytes > bytes_max && !entries.is_empty() {
            return;
        }
        entries.push(record.entry.clone());
    }
}

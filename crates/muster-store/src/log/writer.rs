//! The one thread that writes the log: everything that waits becomes one write batch and one sync.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use muster_failpoint::failpoint;
use rocksdb::{WriteBatch, WriteOptions};

use super::Shared;
use super::mark::{Mark, MarkFiles, Refill};
use super::queue::{MarkChange, Op, Taken};
use super::record::{Link, PURGED_KEY, VOTE_KEY, encode_link, entry_key};
use crate::{Error, Result};

/// What a group came to.
#[derive(Default)]
struct Written {
    /// It was synced.
    synced: bool,
    /// The mark must be synced before anything of it is answered.
    mark: bool,
    /// The new end of the log.
    end: Option<Link>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    files: MarkFiles,
    mark: Mark,
    /// The mark changed since it was synced last.
    mark_due: bool,
    mark_synced: Instant,
    buffer: Vec<u8>,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, files: MarkFiles, mark: Mark) -> Self {
        Self {
            shared,
            files,
            mark,
            mark_due: false,
            mark_synced: Instant::now(),
            buffer: Vec::new(),
        }
    }

    /// Works until the queue is closed and empty, or something failed.
    pub fn run(&mut self) {
        loop {
            let idle = self.mark_due.then(|| self.mark_wait());
            let result = match self.shared.queue.take(self.shared.options.group_bytes_max, idle) {
                Taken::Group(group) => self.group(group),
                Taken::Idle => self.sync_mark(),
                Taken::Closed => break,
            };
            if let Err(error) = result {
                tracing::error!(%error, "the log cannot be written any more");
                self.shared.fail(&error);
                return;
            }
        }
        if self.mark_due
            && let Err(error) = self.sync_mark()
        {
            tracing::error!(%error, "the mark cannot be written on close");
            self.shared.fail(&error);
        }
    }

    fn mark_wait(&self) -> Duration {
        self.shared
            .options
            .mark_interval
            .saturating_sub(self.mark_synced.elapsed())
    }

    /// Writes a group and answers it. An error says that the disk is not to be trusted any more.
    fn group(&mut self, group: Vec<Op>) -> Result<()> {
        let written = self.write(&group).and_then(|written| {
            // A vote counts once it is in the mark, and so does what was appended under it.
            if written.mark {
                failpoint!("log.vote.before_mark", Error::injected);
                self.raise_mark(&written)?;
                failpoint!("log.vote.after_mark", Error::injected);
            }
            failpoint!("log.group.before_answer", Error::injected);
            Ok(written)
        });
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                // The callers hear of it only after every later operation is sure to fail.
                self.shared.fail(&error);
                for op in group {
                    op.refuse(&error);
                }
                return Err(error);
            }
        };
        for op in group {
            match op {
                Op::Append { number, done, .. } => {
                    self.shared.note_synced(number);
                    done(Ok(()));
                }
                // Nobody waits any more only if the waiting thread is gone.
                Op::Truncate { done, .. } | Op::Vote { done, .. } | Op::Mark { done, .. } => drop(done.send(Ok(()))),
                Op::Purge { .. } => {}
            }
        }
        failpoint!("log.group.after_answer", Error::injected);
        if written.mark {
            Ok(())
        } else {
            self.raise_mark(&written)
        }
    }

    /// Writes a group as one batch.
    fn write(&mut self, group: &[Op]) -> Result<Written> {
        let mut batch = WriteBatch::default();
        let mut written = Written::default();
        let mut purged = None;
        for op in group {
            match op {
                Op::Append { records, .. } => {
                    failpoint!("log.append.before_write", Error::injected);
                    for record in records {
                        record.encode_into(&mut self.buffer);
                        batch.put(entry_key(record.entry.position.index), &self.buffer);
                        written.end = Some(record.link());
                        written.synced = true;
                    }
                }
                Op::Truncate { from, to, end, .. } => {
                    failpoint!("log.truncate.before_mark", Error::injected);
                    self.lower_mark(*end)?;
                    failpoint!("log.truncate.before_write", Error::injected);
                    for index in *from..=*to {
                        batch.delete(entry_key(index));
                    }
                    written.synced = true;
                }
                Op::Purge { from, to, purged: link } => {
                    failpoint!("log.purge.before_write", Error::injected);
                    batch.delete_range(entry_key(*from), entry_key(to.saturating_add(1)));
                    batch.put(PURGED_KEY, encode_link(link));
                    purged = Some(*link);
                    let end = written.end.or(self.mark.end).map(|end| end.position.index);
                    if end.is_none_or(|end| end < link.position.index) {
                        // After a snapshot: the log ends there, and what lies below is in the state.
                        written.end = Some(*link);
                    }
                    // Files go after this: a power cut must not leave a log without them and without the position.
                    written.synced = true;
                }
                Op::Vote { vote, .. } => {
                    failpoint!("log.vote.before_write", Error::injected);
                    batch.put(VOTE_KEY, vote.encode());
                    self.mark.vote = Some(vote.clone());
                    (written.synced, written.mark) = (true, true);
                }
                Op::Mark { change, .. } => {
                    match change {
                        MarkChange::Owner(owner) => self.mark.owner = Some(*owner),
                        MarkChange::Refilled => self.mark.refill = Refill::No,
                        MarkChange::Level(level) => self.mark.level = self.mark.level.max(*level),
                    }
                    (written.synced, written.mark) = (true, true);
                }
            }
        }
        if self.shared.fail_next_sync.swap(false, Ordering::Relaxed) {
            return Err(Error::io("syncing the log")(std::io::Error::other(
                "a failure asked for by a test",
            )));
        }
        failpoint!("log.group.before_sync", Error::injected);
        let mut options = WriteOptions::default();
        options.set_sync(written.synced);
        let db = &self.shared.db;
        db.write_opt(batch, &options)
            .map_err(Error::database("writing the log"))?;
        failpoint!("log.group.after_sync", Error::injected);
        if let Some(purged) = purged {
            self.shared
                .purged_on_disk
                .store(purged.position.index, Ordering::Release);
        }
        Ok(written)
    }

    fn raise_mark(&mut self, written: &Written) -> Result<()> {
        if written.end.is_some() {
            self.mark.end = written.end;
        }
        if written.mark || (written.synced && self.mark_wait().is_zero()) {
            return self.sync_mark();
        }
        if written.end.is_some() {
            self.mark.sequence += 1;
            self.mark_due = true;
            self.files.note(&self.mark)?;
        }
        Ok(())
    }

    /// Before entries below the mark are removed for good, the mark says so.
    fn lower_mark(&mut self, end: Option<Link>) -> Result<()> {
        self.mark.end = end;
        self.sync_mark()
    }

    fn sync_mark(&mut self) -> Result<()> {
        self.mark.sequence += 1;
        self.files.sync(&self.mark)?;
        self.mark_due = false;
        self.mark_synced = Instant::now();
        Ok(())
    }
}

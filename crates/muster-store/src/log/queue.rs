//! What waits for the writer thread, in order and bounded by bytes.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::mark::Owner;
use super::record::{Link, Record, Vote};
use super::types::AppendDone;
use crate::{Error, Result};

/// One thing for the writer thread to do.
pub(super) enum Op {
    /// Write entries; `number` as given by the index.
    Append {
        records: Vec<Record>,
        number: u64,
        done: AppendDone,
    },
    /// Remove entries `from..=to`; the log then ends at `end`.
    Truncate {
        from: u64,
        to: u64,
        end: Option<Link>,
        done: SyncSender<Result<()>>,
    },
    /// Remove entries `from..=to` and note the purge position.
    Purge { from: u64, to: u64, purged: Link },
    /// Store a vote.
    Vote { vote: Vote, done: SyncSender<Result<()>> },
    /// Change what the mark says beside end and vote, after all that came before is synced.
    Mark {
        change: MarkChange,
        done: SyncSender<Result<()>>,
    },
}

/// A change of the mark that no change of the log brings along.
#[derive(Clone, Copy, Debug)]
pub(super) enum MarkChange {
    /// The directory belongs to a node.
    Owner(Owner),
    /// What the node had is here again.
    Refilled,
    /// Data of this feature level is about to come.
    Level(u32),
}

impl Op {
    pub fn size(&self) -> usize {
        match self {
            Self::Append { records, .. } => records.iter().map(Record::size).sum(),
            _ => 64,
        }
    }

    /// Answers an operation that was not done.
    pub fn refuse(self, error: &Error) {
        match self {
            Self::Append { done, .. } => done(Err(error.clone())),
            Self::Truncate { done, .. } | Self::Vote { done, .. } | Self::Mark { done, .. } => {
                drop(done.send(Err(error.clone())));
            }
            Self::Purge { .. } => {}
        }
    }
}

#[derive(Default)]
struct Waiting {
    ops: VecDeque<Op>,
    bytes: usize,
    closed: bool,
}

/// What the writer thread got.
pub(super) enum Taken {
    /// Work.
    Group(Vec<Op>),
    /// Nothing came for the given time.
    Idle,
    /// Nothing will ever come.
    Closed,
}

#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    work: Condvar,
    room: Condvar,
}

impl Queue {
    /// Blocks while more than `bytes_max` wait.
    pub fn wait_for_room(&self, bytes_max: usize) {
        let mut waiting = self.waiting.lock();
        while waiting.bytes > bytes_max && !waiting.closed {
            self.room.wait(&mut waiting);
        }
    }

    /// Adds an operation; gives it back when the queue is closed.
    pub fn push(&self, op: Op) -> std::result::Result<(), Op> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(op);
        }
        waiting.bytes += op.size();
        waiting.ops.push_back(op);
        drop(waiting);
        self.work.notify_one();
        Ok(())
    }

    /// Takes what waits, up to `bytes_max` but at least one; waits for it, at most `idle` if given.
    /// A truncation comes alone, since the mark must be lowered before it is written.
    pub fn take(&self, bytes_max: usize, idle: Option<Duration>) -> Taken {
        let mut waiting = self.waiting.lock();
        while waiting.ops.is_empty() {
            if waiting.closed {
                return Taken::Closed;
            }
            match idle {
                None => self.work.wait(&mut waiting),
                Some(idle) => {
                    if self.work.wait_for(&mut waiting, idle).timed_out() && waiting.ops.is_empty() {
                        return Taken::Idle;
                    }
                }
            }
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(op) = waiting.ops.front() {
            let alone = matches!(op, Op::Truncate { .. });
            if !group.is_empty() && (alone || bytes + op.size() > bytes_max) {
                break;
            }
            bytes += op.size();
            group.extend(waiting.ops.pop_front());
            if alone {
                break;
            }
        }
        waiting.bytes -= bytes;
        drop(waiting);
        self.room.notify_all();
        Taken::Group(group)
    }

    /// Lets nothing more in; what waits is still done.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Closes and empties the queue.
    pub fn drain(&self) -> VecDeque<Op> {
        self.close();
        let mut waiting = self.waiting.lock();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.ops)
    }
}

//! The log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::time::Instant;

use futures::Stream;
use metrics::Histogram;
use muster_failpoint::failpoint;
use muster_store::{LogEntry, Store};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use crate::convert;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Bytes of entries read from the log in one step: for one message to a peer, and for one step of a replay.
const READ_BYTES: usize = 2 << 20;

/// The store's log as openraft wants it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogAdapter {
    store: Store,
    synced: Histogram,
}

impl LogAdapter {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            synced: metrics::histogram!("muster_raft_fsync_seconds"),
        }
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let entries = self.store.log().read(from, to, bytes_max).map_err(io::Error::other)?;
        entries
            .into_iter()
            .map(|entry| convert::entry_from_store(entry).map_err(io::Error::other))
            .collect()
    }

    /// Vote changes and truncations wait for a sync; they must not hold up heartbeats, which share this thread.
    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> muster_store::Result<R> + Send + 'static,
    ) -> io::Result<R> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.map_err(io::Error::other)?.map_err(io::Error::other)
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogAdapter {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        // Entries that are gone are left out, as openraft wants it here.
        let first = self.store.log().bounds().purged.map_or(0, |purged| purged.index + 1);
        let from = from.max(first);
        self.read(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        failpoint!("raft.replicate.before_read", io::Error::from);
        self.read(start, end, READ_BYTES)
    }

    /// Read step by step: after a restart the range to apply may be larger than memory.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let reader = self.clone();
        let steps = futures::stream::try_unfold((reader, from), move |(reader, from)| async move {
            if from >= to {
                return Ok::<_, io::Error>(None);
            }
            failpoint!("apply.read.before", io::Error::from);
            let entries = reader.read(from, to, READ_BYTES)?;
            if entries.is_empty() {
                let last = reader.store.log().bounds().last.map(|last| last.index);
                return if last < Some(from) {
                    Ok(None)
                } else {
                    Err(io::Error::other(format!("log entry {from} cannot be read")))
                };
            }
            let next = from + entries.len() as u64;
            Ok(Some((
                futures::stream::iter(entries.into_iter().map(Ok)),
                (reader, next),
            )))
        });
        Box::pin(futures::TryStreamExt::try_flatten(steps))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let bytes = self.store.log().vote().map_err(io::Error::other)?;
        bytes
            .map(|bytes| convert::vote_from_bytes(bytes).map_err(io::Error::other))
            .transpose()
    }
}

impl RaftLogStorage<TypeConfig> for LogAdapter {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let bounds = self.store.log().bounds();
        Ok(LogState {
            last_purged_log_id: bounds.purged.map(convert::log_id),
            last_log_id: bounds.last.map(convert::log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        failpoint!("raft.vote.before_save", io::Error::from);
        let vote = convert::vote_bytes(*vote);
        let saved = self.blocking(move |store| store.log().save_vote(vote)).await;
        failpoint!("raft.vote.after_save", io::Error::from);
        saved
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        failpoint!("raft.append.before", io::Error::from);
        let entries: Vec<LogEntry> = entries.into_iter().map(convert::entry_to_store).collect();
        let (begun, synced) = (Instant::now(), self.synced.clone());
        self.store.log().append(
            entries,
            Box::new(move |result| {
                synced.record(begun.elapsed());
                failpoint!("raft.append.before_completed");
                callback.io_completed(result.map_err(io::Error::other));
                failpoint!("raft.append.after_completed");
            }),
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        failpoint!("raft.truncate.before", io::Error::from);
        let last = last.map(convert::position);
        let truncated = self.blocking(move |store| store.log().truncate_after(last)).await;
        failpoint!("raft.truncate.after", io::Error::from);
        truncated
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        failpoint!("raft.purge.before", io::Error::from);
        // Raft waits for this, and it waits for no sync: to hand it to another thread would take longer than to do it.
        let purged = self
            .store
            .log()
            .purge(convert::position(upto))
            .map_err(io::Error::other);
        failpoint!("raft.purge.after", io::Error::from);
        purged
    }
}

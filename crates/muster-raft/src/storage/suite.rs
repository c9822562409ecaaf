//! openraft's own tests of storage, over the real store.
//!
//! The suite lets some logs begin at index 1 and reads them from 0, or purges below their beginning. A real log begins at 0, with the membership that
//! `initialize` writes, or after what was purged; the store calls anything else damage. [`FromFirst`] keeps the suite's
//! reads and purges above what it appended first and changes nothing else.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::Stream;
use muster_core::{NodeId, SessionId};
use muster_store::{Store, StoreOptions};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, RaftLogReader, StorageError};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::agreement::HashBook;
use crate::clock::ReplicatedClock;
use crate::memory::Memory;
use crate::sink::{AppliedEntry, ApplySink};
use crate::storage::{Applied, Checkpointer, LogAdapter, Machine, MachineParts, Watches};
use crate::types::{Entry, LogId, TypeConfig, Vote};

struct Deaf;

impl ApplySink for Deaf {
    fn applied(&self, _applied: &AppliedEntry) {}
    fn restored(&self) {}
    fn vouched(&self, _from: NodeId, _sessions: &[SessionId]) {}
}

/// The adapter with reads that begin no lower than the log.
#[derive(Clone)]
struct FromFirst {
    log: LogAdapter,
    first: Arc<AtomicU64>,
}

impl RaftLogReader<TypeConfig> for FromFirst {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let from = Bound::Included(from.max(self.first.load(Ordering::Relaxed)));
        self.log.try_get_log_entries((from, range.end_bound().cloned())).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.log
            .limited_get_log_entries(start.max(self.first.load(Ordering::Relaxed)), end)
            .await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.log.entries_stream(range).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.log.read_vote().await
    }
}

impl RaftLogStorage<TypeConfig> for FromFirst {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        self.log.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log.save_vote(vote).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let empty = self.log.get_log_state().await?.last_log_id.is_none();
        if let Some(first) = entries.first().filter(|_| empty) {
            self.first.store(first.log_id.index, Ordering::Relaxed);
        }
        self.log.append(entries, callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(last).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        if upto.index < self.first.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.log.purge(upto).await
    }
}

struct Builder;

/// Closes the store before its directory goes.
struct Guard(Option<(Store, TempDir)>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((store, dir)) = self.0.take() {
            let _closed = store.close();
            drop(dir);
        }
    }
}

impl StoreBuilder<TypeConfig, FromFirst, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, FromFirst, Machine), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let store = Store::open(StoreOptions::new(dir.path())).unwrap();
        let state = Arc::new(Mutex::new(Applied::restore(store.state().load().unwrap()).unwrap()));
        let checkpointer = Checkpointer::new(store.clone(), state.clone());
        let machine = Machine::new(MachineParts {
            state,
            store: store.clone(),
            checkpointer,
            sink: Arc::new(Deaf),
            watches: Watches {
                applied: watch::Sender::new(0),
                lead: watch::Sender::new(None),
                changed: watch::Sender::new(0),
            },
            clock: Arc::new(ReplicatedClock::new()),
            memory: Memory::default(),
            book: HashBook::new(1),
            node: 0,
            level_max: muster_core::LEVEL_MAX,
            fatal: Arc::new(watch::Sender::new(None)),
        });
        let log = FromFirst {
            log: LogAdapter::new(store.clone()),
            first: Arc::default(),
        };
        Ok((Guard(Some((store, dir))), log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).await.unwrap();
}

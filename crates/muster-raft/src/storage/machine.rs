//! Applying committed entries.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use metrics::Histogram;
use muster_core::{Event, LogIndex, NodeId, Reply};
use muster_failpoint::failpoint;
use muster_store::Store;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::agreement::HashBook;
use crate::clock::ReplicatedClock;
use crate::error::Error;
use crate::memory::Memory;
use crate::sink::{AppliedEntry, ApplySink, WitnessedEntry};
use crate::storage::checkpoint::Checkpointer;
use crate::storage::snapshot::{Builder, SnapshotData, StateSnapshot, own};
use crate::storage::state::{Applied, Decoded};
use crate::types::{LeaderId, LogId, Replies, SnapshotMeta, StoredMembership, TypeConfig};

/// A long replay gives way to heartbeats after this long.
const TURN: Duration = Duration::from_millis(2);

/// Where those who wait for it hear what was applied.
pub(crate) struct Watches {
    /// The last applied index.
    pub(crate) applied: watch::Sender<LogIndex>,
    /// Term and node of the leader that proposed the last applied entry.
    pub(crate) lead: watch::Sender<Option<LeaderId>>,
    /// Counts changes of what is replicated about nodes.
    pub(crate) changed: watch::Sender<u64>,
}

/// Applies entries to the core and tells everyone who waits for it.
pub(crate) struct Machine {
    state: Arc<Mutex<Applied>>,
    store: Store,
    checkpointer: Checkpointer,
    sink: Arc<dyn ApplySink>,
    watches: Watches,
    clock: Arc<ReplicatedClock>,
    memory: Memory,
    book: HashBook,
    /// This node, and the highest feature level it understands.
    node: NodeId,
    level_max: u32,
    fatal: Arc<watch::Sender<Option<Error>>>,
    /// How long an entry waited for the state, and how long until it was applied.
    waited: Histogram,
    applied: Histogram,
}

/// What a machine is made of.
pub(crate) struct MachineParts {
    pub(crate) state: Arc<Mutex<Applied>>,
    pub(crate) store: Store,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) sink: Arc<dyn ApplySink>,
    pub(crate) watches: Watches,
    pub(crate) clock: Arc<ReplicatedClock>,
    pub(crate) memory: Memory,
    pub(crate) book: HashBook,
    pub(crate) node: NodeId,
    pub(crate) level_max: u32,
    pub(crate) fatal: Arc<watch::Sender<Option<Error>>>,
}

impl Machine {
    pub(crate) fn new(parts: MachineParts) -> Self {
        let MachineParts {
            state,
            store,
            checkpointer,
            sink,
            watches,
            clock,
            memory,
            book,
            node,
            level_max,
            fatal,
        } = parts;
        let machine = Self {
            state,
            store,
            checkpointer,
            sink,
            watches,
            clock,
            memory,
            book,
            node,
            level_max,
            fatal,
            waited: metrics::histogram!("muster_apply_wait_seconds"),
            applied: metrics::histogram!("muster_apply_seconds"),
        };
        machine.publish();
        machine
    }

    fn publish(&self) {
        let (last, now) = {
            let state = self.state.lock();
            self.memory.set_used(state.core.memory());
            (state.last, state.core.meta().now)
        };
        if let Some(last) = last {
            self.clock.saw(now);
            self.announce(last);
        }
    }

    fn announce(&self, last: LogId) {
        self.watches.lead.send_if_modified(|lead| {
            let changed = *lead != Some(last.leader_id);
            *lead = Some(last.leader_id);
            changed
        });
        self.watches.applied.send_replace(last.index);
    }

    /// An entry that this program does not understand ends it before anything of it is applied.
    fn refuse(&self, error: Error) -> io::Error {
        tracing::error!(node = self.node, %error, "the process must end");
        let reason = error.to_string();
        self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            fatal.get_or_insert(error);
            first
        });
        io::Error::other(reason)
    }

    /// Before a level comes into force here, the directory says so: an older program must not open it any more.
    async fn prepare_level(&self, index: LogIndex, level: u32) -> io::Result<()> {
        if level > self.level_max {
            return Err(self.refuse(Error::LevelTooHigh {
                node: self.node,
                index,
                needed: level,
                newest: self.level_max,
            }));
        }
        let store = self.store.clone();
        let raised = tokio::task::spawn_blocking(move || store.raise_level(level)).await;
        raised.map_err(io::Error::other)?.map_err(io::Error::other)?;
        tracing::info!(node = self.node, index, level, "a feature level comes into force");
        Ok(())
    }

    /// Applies an entry that was decoded before: readers need not wait for that. `data` is what it was decoded from.
    fn apply_entry(&self, entry: Decoded, data: Bytes) -> io::Result<Vec<Reply>> {
        let id = entry.id;
        // The commands are gone once applied.
        let witnessed = self
            .sink
            .witness()
            .map(|witness| (witness, data, entry.commands().to_vec()));
        let begun = Instant::now();
        let mut state = self.state.lock();
        self.waited.record(begun.elapsed());
        let ended = state.ended.len();
        let outcome = state.apply(entry)?;
        if let Some((witness, data, commands)) = witnessed {
            witness.applied(&WitnessedEntry {
                index: id.index,
                term: id.leader_id.term,
                data,
                commands: &commands,
                applied: &outcome,
                core: &state.core,
            });
        }
        for row in &state.ended[ended..] {
            // Under the lock: a reader finds the job in the core or in the history, never in neither.
            self.store.state().note_ended(row.clone());
        }
        self.book.applied(id.index, state.core.meta().hash);
        self.memory.set_used(state.core.memory());
        let applied = AppliedEntry {
            index: id.index,
            now: state.core.meta().now,
            events: outcome.events,
            next_due: state.core.next_due(),
        };
        drop(state);
        self.applied.record(begun.elapsed());
        self.clock.saw(applied.now);
        failpoint!("apply.entry.before_announce");
        self.announce(id);
        let about_nodes = |event: &Event| matches!(event, Event::NodeChanged { .. } | Event::MembershipChange);
        if applied.events.iter().any(about_nodes) {
            self.watches.changed.send_modify(|count| *count += 1);
        }
        self.sink.applied(&applied);
        Ok(outcome.replies)
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.state.lock();
        Ok((state.last, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut turn = Instant::now();
        while let Some((entry, responder)) = entries.try_next().await? {
            let index = entry.log_id.index;
            let data = match &entry.payload {
                EntryPayload::Normal(data) => data.0.clone(),
                EntryPayload::Blank | EntryPayload::Membership(_) => Bytes::new(),
            };
            let entry = Decoded::new(entry).map_err(|error| {
                self.refuse(Error::NotUnderstood {
                    node: self.node,
                    index,
                    detail: error.to_string(),
                })
            })?;
            if let Some(level) = entry.sets_level() {
                self.prepare_level(index, level).await?;
            }
            failpoint!("apply.entry.before", io::Error::from);
            let replies = self.apply_entry(entry, data)?;
            failpoint!("apply.entry.after", io::Error::from);
            if let Some(responder) = responder {
                responder.send(Replies(replies));
                failpoint!("apply.entry.after_answer", io::Error::from);
            }
            if turn.elapsed() > TURN {
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(self.checkpointer.clone())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        let current = self.state.lock().last;
        if current.is_some() && current >= meta.last_log_id {
            return Ok(());
        }
        failpoint!("snapshot.install.before", io::Error::from);
        let (checkpointer, node, level_max) = (self.checkpointer.clone(), self.node, self.level_max);
        let installed = tokio::task::spawn_blocking(move || checkpointer.install(&snapshot, node, level_max)).await;
        installed.map_err(io::Error::other)?.map_err(|error| match error {
            Error::LevelTooHigh { .. } => self.refuse(error),
            other => io::Error::other(other),
        })?;
        failpoint!("snapshot.install.before_announce", io::Error::from);
        self.publish();
        self.watches.changed.send_modify(|count| *count += 1);
        self.sink.restored();
        Ok(())
    }

    /// Asked for at the start and for each transfer. A member that lags needs what was purged, and no more.
    async fn get_current_snapshot(&mut self) -> Result<Option<StateSnapshot>, io::Error> {
        failpoint!("snapshot.current.before", io::Error::from);
        let store = self.store.clone();
        let found = tokio::task::spawn_blocking(move || {
            let purged = store.log().bounds().purged.map_or(0, |purged| purged.index);
            store.state().snapshot_with(purged)
        });
        let pinned = found.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        pinned.map(own).transpose().map_err(io::Error::other)
    }
}

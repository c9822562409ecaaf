//! The handle through which the rest of the node uses the replicated log.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_core::{Command, Core, LogIndex, NodeId, Reply, SessionId, Timestamp};
use muster_store::{Room, Store};
use openraft::async_runtime::WatchReceiver;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{Error, ProposeError, ReadError};
use crate::leadership::Lead;
use crate::level::{MemberLevel, member_levels};
use crate::membership::{HandOver, Membership, hand_over, leave_lead};
use crate::memory::MemoryUse;
use crate::node::{self, Seed, Started, VouchCall};
use crate::options::{MemberConfig, RaftOptions};
use crate::peer::{ask_hand_over, ask_progress, own_progress};
use crate::reads::ReadCall;
use crate::role::{RaftStatus, Role};
use crate::silence::answered;
use crate::sink::ApplySink;
use crate::storage::PinnedState;
use crate::types::LogId;

/// What a node that accepts no entries waits for those it has accepted already to be applied.
const CATCH_UP_FULL: Duration = Duration::from_millis(200);

/// The replicated log on this node. Cheap to clone; its methods may be called from any tokio runtime.
#[derive(Clone)]
pub struct Raft(Arc<Inner>);

struct Inner {
    options: RaftOptions,
    store: Store,
    sink: Arc<dyn ApplySink>,
    parts: Started,
    stop: CancellationToken,
    /// Of the raft thread.
    runtime: tokio::runtime::Handle,
    /// Closes when the raft thread has ended.
    ended: watch::Receiver<()>,
    _stop_with_last_handle: DropGuard,
}

/// What a checkpoint came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointStats {
    /// Applied index that it covers.
    pub applied: LogIndex,
    /// How long the state was locked, all parts together.
    pub locked: Duration,
    /// How long the write took.
    pub took: Duration,
    /// What was written.
    pub written: muster_store::CheckpointStats,
}

/// How old what a node has applied may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The last applied index.
    pub applied: LogIndex,
    /// All that was acknowledged before so long ago is contained in the state at `applied`. `None`: that was never
    /// confirmed since this node started, or it lags too far behind.
    pub age: Option<Duration>,
}

/// How far the members are, as the leader sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Last entry of the leader.
    pub last_log_index: LogIndex,
    /// Last entry known to be on each member.
    pub matched: BTreeMap<NodeId, LogIndex>,
    /// Each other member, and whether it answered within the last election timeout.
    pub answered: BTreeMap<NodeId, bool>,
    /// What the leader does about the change of the membership under way.
    pub stage: Option<String>,
}

impl Raft {
    /// Starts the raft thread; returns when this node has an identity and takes part in the cluster. A new cluster
    /// waits here for all configured members. Dropping the future stops the thread.
    pub async fn start(
        options: RaftOptions,
        store: Store,
        sink: Arc<dyn ApplySink>,
        peer_listener: TcpListener,
    ) -> Result<Self, Error> {
        options.validate()?;
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let (started, parts) = oneshot::channel();
        let (alive, ended) = watch::channel(());
        let seed = Seed {
            options: options.clone(),
            store: store.clone(),
            sink: sink.clone(),
            listener: peer_listener,
            stop: stop.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name(format!("raft-{}-blocking", options.node))
            .build()
            .map_err(|err| Error::Start(err.to_string()))?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name(format!("raft-{}", options.node))
            .spawn(move || {
                runtime.block_on(node::run(seed, started));
                runtime.shutdown_timeout(Duration::from_secs(1));
                drop(alive);
            })
            .map_err(|err| Error::Start(err.to_string()))?;
        let parts = match parts.await {
            Ok(Ok(parts)) => parts,
            failed => {
                // The caller may close the store or remove its directory next.
                wait_for_end(ended).await;
                return Err(match failed {
                    Ok(Err(error)) => error,
                    _ => Error::Start("the raft thread ended".to_owned()),
                });
            }
        };
        Ok(Self(Arc::new(Inner {
            options,
            store,
            sink,
            parts,
            stop,
            runtime: handle,
            ended,
            _stop_with_last_handle: guard,
        })))
    }

    /// Proposes a command wherever the leader is and waits for its reply. Repeats by itself until `deadline`.
    pub async fn propose(&self, command: Command, deadline: Instant) -> Result<Reply, ProposeError> {
        let mut replies = self.propose_many(vec![command], deadline).await?;
        replies.pop().ok_or(ProposeError::Stopped)
    }

    /// Proposes commands, in order but not necessarily in one entry; one reply each. An error means that none, some or
    /// all may have taken effect, except those errors that say so: none.
    pub async fn propose_many(&self, commands: Vec<Command>, deadline: Instant) -> Result<Vec<Reply>, ProposeError> {
        self.0.parts.submitter.submit(commands, deadline).await
    }

    /// Looks at this node's applied state. Blocks apply while `f` runs: keep it short.
    pub fn read<R>(&self, f: impl FnOnce(&Core) -> R) -> R {
        f(&self.0.parts.state.lock().core)
    }

    /// After this, [`Raft::read`] on this node sees all that was acknowledged anywhere before the call.
    pub async fn linearize(&self, deadline: Instant) -> Result<(), ReadError> {
        let (reply, answer) = oneshot::channel();
        let call = ReadCall {
            deadline,
            forwarded: false,
            reply,
        };
        self.0.parts.reads.send(call).map_err(|_| ReadError::Stopped)?;
        let needed = match tokio::time::timeout_at(deadline, answer).await {
            Ok(answer) => answer.map_err(|_| ReadError::Stopped)??,
            Err(_) => {
                return Err(ReadError::Unconfirmed {
                    reason: "the deadline passed".to_owned(),
                });
            }
        };
        let mut applied = self.0.parts.applied.clone();
        // A node whose disk is full gets nothing new: another one must answer.
        let longest = if self.0.store.room() == Room::Out {
            deadline.min(Instant::now() + CATCH_UP_FULL)
        } else {
            deadline
        };
        match tokio::time::timeout_at(longest, applied.wait_for(|applied| *applied >= needed)).await {
            Ok(reached) => reached.map(drop).map_err(|_| ReadError::Stopped),
            Err(_) => Err(ReadError::Behind {
                applied: *self.0.parts.applied.borrow(),
                needed,
            }),
        }
    }

    /// About the time, in milliseconds since the Unix epoch, with which an entry would be stamped if this node led. Never
    /// before the time of what was applied here; after a clock was set back it goes at half speed until the clock has
    /// caught up.
    pub fn clock(&self) -> Timestamp {
        self.0.parts.clock.now()
    }

    /// This node's role, as it changes. Closes when raft has stopped.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.0.parts.role.clone()
    }

    /// The last applied index, as it changes.
    pub fn applied(&self) -> watch::Receiver<LogIndex> {
        self.0.parts.applied.clone()
    }

    /// The leader known to this node, which may be this node.
    pub fn leader(&self) -> Option<MemberConfig> {
        let node = match *self.0.parts.lead.borrow() {
            Lead::Nobody { .. } => return None,
            Lead::Me { .. } => self.0.options.node,
            Lead::Other { node, .. } => node,
        };
        let member = self.members().into_iter().find(|member| member.id == node);
        member.or_else(|| self.0.options.member(node).cloned())
    }

    /// False: no leader was heard for so long that others may have elected one by now, and this node would not know.
    pub fn hears_leader(&self) -> bool {
        self.0.parts.membership.contact.silence() <= self.0.options.election_max * 2
    }

    /// The members of the cluster as this node knows them, by id.
    pub fn members(&self) -> Vec<MemberConfig> {
        self.membership().members
    }

    /// The membership in force, as this node knows it.
    pub fn membership(&self) -> Membership {
        let metrics = self.0.parts.raft.server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        Membership::from(&*membership)
    }

    /// How old what this node has applied may be.
    pub fn freshness(&self) -> Freshness {
        // Applied first: the answer to a question must not count for a state from before it was applied.
        let applied = *self.0.parts.applied.borrow();
        Freshness {
            applied,
            age: self.0.parts.confirmations.age(applied, std::time::Instant::now()),
        }
    }

    /// What this node does about the change of the membership under way; `None` unless it leads.
    pub fn stage(&self) -> Option<String> {
        self.0.parts.membership.stage.borrow().clone()
    }

    /// How far the members are, as the leader sees them: asked for there.
    pub async fn progress(&self, deadline: Instant) -> Result<Progress, ReadError> {
        let unconfirmed = |reason: String| ReadError::Unconfirmed { reason };
        let parts = self.0.parts.membership.clone();
        let lead = *self.0.parts.lead.borrow();
        match lead {
            Lead::Me { .. } => Ok(own_progress(&parts)),
            Lead::Nobody { .. } => Err(unconfirmed("no leader is known".to_owned())),
            Lead::Other { node, .. } => {
                let limit = deadline.saturating_duration_since(Instant::now());
                self.on_raft_thread(async move { ask_progress(&parts.channels, node, limit).await })
                    .await?
                    .map_err(unconfirmed)
            }
        }
    }

    /// Has another voter take the lead. `Err`: nothing is known of it, no leader could be asked.
    pub async fn hand_over(&self, to: NodeId, deadline: Instant) -> Result<HandOver, ReadError> {
        let unconfirmed = |reason: String| ReadError::Unconfirmed { reason };
        let parts = self.0.parts.membership.clone();
        let lead = *self.0.parts.lead.borrow();
        let limit = deadline.saturating_duration_since(Instant::now());
        match lead {
            Lead::Me { .. } => self.on_raft_thread(async move { hand_over(&parts, to).await }).await,
            Lead::Nobody { .. } => Err(unconfirmed("no leader is known".to_owned())),
            Lead::Other { node, .. } => self
                .on_raft_thread(async move { ask_hand_over(&parts.channels, node, to, limit).await })
                .await?
                .map_err(unconfirmed),
        }
    }

    /// Hands the lead to another voter, if this node leads and there is one: before a stop that can wait for it. Takes
    /// milliseconds, at most three times `election_max`. Without it the others notice the stop only by its silence.
    pub async fn leave_lead(&self) {
        let parts = self.0.parts.membership.clone();
        let left = self.on_raft_thread(async move { leave_lead(&parts).await }).await;
        if let Ok(Some(outcome)) = left
            && outcome != HandOver::Done
        {
            tracing::warn!(
                node = self.node(),
                ?outcome,
                "no other node took the lead; this one stops all the same, and the rest elect a leader in about a second if they are a majority"
            );
        }
    }

    /// Connections to other nodes belong to the raft thread's runtime.
    async fn on_raft_thread<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, ReadError> {
        self.0.runtime.spawn(work).await.map_err(|_| ReadError::Stopped)
    }

    /// This node as it is configured.
    pub fn node(&self) -> NodeId {
        self.0.options.node
    }

    /// Figures of the log.
    pub fn status(&self) -> RaftStatus {
        let answered = answered(&self.0.parts.raft, self.0.options.node, self.0.options.election_max);
        let metrics = self.0.parts.raft.metrics();
        let metrics = metrics.borrow_watched();
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        let matched = metrics
            .replication
            .iter()
            .flatten()
            .map(|(node, id)| (*node, index(*id)))
            .collect();
        RaftStatus {
            node: self.0.options.node,
            cluster: self.0.parts.cluster,
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_log_index: metrics.last_log_index.unwrap_or_default(),
            commit_index: index(metrics.local_committed),
            applied_index: *self.0.parts.applied.borrow(),
            snapshot_index: index(metrics.snapshot),
            purged_index: index(metrics.purged),
            voters: metrics.membership_config.voter_ids().collect(),
            matched,
            answered,
            refilling: self.0.store.refilling(),
            space: self.0.store.space(),
            memory: self.memory(),
        }
    }

    /// What live jobs take of memory, and what they may.
    pub fn memory(&self) -> MemoryUse {
        self.0.parts.memory.now()
    }

    /// What the programs of all members understand, as this node has heard from them lately.
    pub fn member_levels(&self) -> Vec<MemberLevel> {
        member_levels(&self.0.parts.raft, &self.0.parts.facts, self.0.options.node)
    }

    /// The store beneath.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Tells the leader that these sessions of this node are alive. Not logged; a lost call does no harm when it is
    /// repeated in time.
    pub async fn vouch(&self, sessions: Vec<SessionId>) -> Result<(), ProposeError> {
        if self.0.parts.role.borrow().is_leader() {
            self.0.sink.vouched(self.0.options.node, &sessions);
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.0
            .parts
            .vouches
            .send(VouchCall { sessions, reply })
            .await
            .map_err(|_| ProposeError::Stopped)?;
        answer.await.unwrap_or(Err(ProposeError::Stopped))
    }

    /// Writes what changed since the last checkpoint to the state store. One at a time. A failure stops the node:
    /// the changes are lost for this process and come back by replay.
    pub async fn checkpoint(&self) -> Result<CheckpointStats, Error> {
        let (checkpointer, fatal) = (self.0.parts.checkpointer.clone(), self.0.parts.fatal.clone());
        // Once taken the changes must be written, also when the caller goes away: the closure always runs to its end.
        let written = tokio::task::spawn_blocking(move || {
            checkpointer.write().inspect_err(|error| {
                fatal.send_replace(Some(error.clone()));
            })
        });
        written
            .await
            .map_err(|err| Error::Storage(format!("the checkpoint did not end: {err}")))?
    }

    /// Writes a checkpoint and pins it for a backup, with what it contains. `None` before the first entry.
    pub async fn pin_state(&self) -> Result<Option<PinnedState>, Error> {
        let (checkpointer, fatal) = (self.0.parts.checkpointer.clone(), self.0.parts.fatal.clone());
        let pinned = tokio::task::spawn_blocking(move || {
            checkpointer.pin().inspect_err(|error| {
                fatal.send_replace(Some(error.clone()));
            })
        });
        pinned
            .await
            .map_err(|err| Error::Storage(format!("pinning the state did not end: {err}")))?
    }

    /// With [`RaftOptions::log_hold_bytes`] set: the log is archived up to here, so that it may be purged up to here.
    pub fn archived(&self, upto: LogIndex) {
        self.0.parts.archived.fetch_max(upto, Ordering::Relaxed);
    }

    /// Builds a snapshot of the whole state in the background; [`RaftStatus::snapshot_index`] tells when it is there.
    pub async fn snapshot(&self) -> Result<(), Error> {
        self.0
            .parts
            .raft
            .trigger()
            .snapshot()
            .await
            .map_err(|err| Error::Raft(err.to_string()))
    }

    /// Drops log entries up to an index that a snapshot covers. A member that lacks them gets the snapshot.
    pub async fn purge_log(&self, upto: LogIndex) -> Result<(), Error> {
        self.0
            .parts
            .raft
            .trigger()
            .purge_log(upto)
            .await
            .map_err(|err| Error::Raft(err.to_string()))
    }

    /// Waits until raft stops by a failure that must end the process. Pending for ever after an orderly shutdown.
    pub async fn fatal(&self) -> Error {
        let mut fatal = self.0.parts.fatal.subscribe();
        match fatal.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Stops taking part at once, after a failure: nothing is written any more.
    pub async fn abandon(&self) {
        self.0.parts.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            fatal.get_or_insert(Error::Stopped);
            first
        });
        self.shutdown().await;
    }

    /// Stops taking part, closes the peer server, writes a last checkpoint. The caller closes the store afterwards.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        wait_for_end(self.0.ended.clone()).await;
    }
}

async fn wait_for_end(mut ended: watch::Receiver<()>) {
    // Ends with an error when the thread drops its side.
    while ended.changed().await.is_ok() {}
}

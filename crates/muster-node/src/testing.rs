//! A stand-in for Raft over the real core: one node, no disk, and cut off or made forgetful at will.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use muster_core::{
    Batch, Command, Core, DEFAULT_TENANT, Enqueued, JobId, JobOptions, JobRow, JobSpec, KindVersions, Origin, Payload,
    Priority, Reply, SessionId, Timestamp, WorkerClass,
};
use muster_raft::{AppliedEntry, ApplySink, ProposeError, Role};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::wall_clock;
use crate::consensus::{Checkpointed, Consensus};
use crate::options::{NodeOptions, RestartOptions};
use crate::session::{SessionHandle, SessionHello, SessionInput, SessionOutput};
use crate::{HandlerRegistry, Node, NodeHub};

/// Longest wait for anything in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn spec(id: u128, kind: &str) -> JobSpec {
    JobSpec {
        id: JobId(id),
        tenant: DEFAULT_TENANT.into(),
        queue: "q".into(),
        kind: kind.into(),
        schema_version: 1,
        payload: Payload::default(),
        priority: Priority::default(),
        available_at: 0,
        idempotency_key: None,
        options: JobOptions {
            backoff: muster_core::Backoff::Fixed { delay: 1 },
            ..JobOptions::default()
        },
        ordering: None,
        metadata: Vec::new(),
        seed: 0,
        origin: Origin::Api,
        history_searched: u64::MAX,
    }
}

/// One node's Raft without Raft.
pub(crate) struct Stand {
    core: Mutex<(u64, Core)>,
    hub: Arc<NodeHub>,
    role: watch::Sender<Role>,
    /// Proposals, vouches: nothing gets through.
    pub cut: AtomicBool,
    /// So many proposals take effect and are not answered.
    pub forget: AtomicUsize,
    /// Vouches do not get through.
    pub mute: AtomicBool,
    /// Entries are applied, but the node hears nothing of it, as if it came by a snapshot.
    pub deaf: AtomicBool,
    pub checkpoints: AtomicU64,
    pub checkpoint_fails: AtomicBool,
}

impl Stand {
    pub(crate) fn new(hub: Arc<NodeHub>) -> Arc<Self> {
        Arc::new(Self {
            core: Mutex::new((0, Core::new())),
            hub,
            role: watch::Sender::new(Role::Leader { term: 1 }),
            cut: AtomicBool::new(false),
            forget: AtomicUsize::new(0),
            mute: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            checkpoints: AtomicU64::new(0),
            checkpoint_fails: AtomicBool::new(false),
        })
    }

    pub(crate) fn set_role(&self, role: Role) {
        self.role.send_replace(role);
    }

    pub(crate) fn apply(&self, command: Command) -> Reply {
        let mut guard = self.core.lock();
        let (index, core) = &mut *guard;
        *index += 1;
        let batch = Batch {
            stamped_at: wall_clock(),
            commands: vec![command],
        };
        let mut applied = core.apply(*index, batch);
        core.check_invariants().unwrap();
        let entry = AppliedEntry {
            index: *index,
            now: core.meta().now,
            events: applied.events,
            next_due: core.next_due(),
        };
        // Under the lock, as entries are announced in order.
        if !self.deaf.load(Ordering::SeqCst) {
            self.hub.applied(&entry);
        }
        applied.replies.pop().unwrap()
    }

    /// Makes this node and another one the members, and drains this one or ends that.
    pub(crate) fn drain(&self, drained: bool) {
        let member = |node: u64| muster_core::Member {
            node,
            peer: format!("peer-{node}").into(),
            api: format!("api-{node}").into(),
            voter: true,
        };
        {
            let mut guard = self.core.lock();
            let (index, core) = &mut *guard;
            *index += 1;
            core.set_members(*index, &[member(1), member(2)]);
        }
        let command = muster_core::ClusterCommand::Drain {
            node: 1,
            drained,
            note: "".into(),
        };
        assert_eq!(self.apply(Command::Cluster(Box::new(command))), Reply::Done);
    }

    pub(crate) fn enqueue(&self, spec: JobSpec) -> JobId {
        match self.apply(Command::Enqueue(Box::new(spec))) {
            Reply::Enqueued(Enqueued { job, .. }) => job,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&Core) -> R) -> R {
        f(&self.core.lock().1)
    }

    pub(crate) fn job(&self, job: JobId) -> Option<Arc<JobRow>> {
        self.with(|core| core.job(job))
    }

    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        self.with(|core| core.sessions().into_iter().map(|view| view.row.spec.session).collect())
    }
}

impl Consensus for Stand {
    fn propose(&self, command: Command, deadline: Instant) -> BoxFuture<'_, Result<Reply, ProposeError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if self.cut.load(Ordering::SeqCst) {
                let wait = Duration::from_millis(20).min(deadline - Instant::now());
                tokio::time::sleep(wait).await;
                let reason = "cut off".to_owned();
                return Err(ProposeError::NotDone { reason });
            }
            let reply = self.apply(command);
            let forget = self
                .forget
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if forget.is_ok() {
                let reason = "forgotten".to_owned();
                return Err(ProposeError::Unknown { reason });
            }
            Ok(reply)
        })
    }

    fn vouch(&self, sessions: Vec<SessionId>) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(async move {
            if self.cut.load(Ordering::SeqCst) || self.mute.load(Ordering::SeqCst) {
                let reason = "cut off".to_owned();
                return Err(ProposeError::NotDone { reason });
            }
            self.hub.vouched(1, &sessions);
            Ok(())
        })
    }

    fn checkpoint(&self) -> BoxFuture<'_, Result<Checkpointed, String>> {
        Box::pin(async move {
            if self.checkpoint_fails.load(Ordering::SeqCst) {
                return Err("disk full".to_owned());
            }
            self.core.lock().1.take_changes();
            self.checkpoints.fetch_add(1, Ordering::SeqCst);
            Ok(Checkpointed::default())
        })
    }

    fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    fn clock(&self) -> Timestamp {
        wall_clock()
    }

    fn look(&self, look: &mut dyn FnMut(&Core)) {
        look(&self.core.lock().1);
    }
}

/// Options for impatient tests.
pub(crate) fn options() -> NodeOptions {
    NodeOptions {
        node: 1,
        restart: RestartOptions {
            max: 3,
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(5),
            ..RestartOptions::default()
        },
        checkpoint: crate::CheckpointOptions {
            pause_min: Duration::from_millis(5),
            pause_max: Duration::from_millis(20),
            ..crate::CheckpointOptions::default()
        },
        ..NodeOptions::default()
    }
}

pub(crate) async fn start_with(options: NodeOptions, handlers: HandlerRegistry) -> (Node, Arc<Stand>) {
    let hub = NodeHub::new();
    let stand = Stand::new(Arc::clone(&hub));
    let consensus = Arc::clone(&stand);
    let node = Node::start_over(options, consensus, None, hub, handlers).await.unwrap();
    (node, stand)
}

pub(crate) async fn start() -> (Node, Arc<Stand>) {
    start_with(options(), HandlerRegistry::default()).await
}

pub(crate) fn class(kind: &str) -> WorkerClass {
    WorkerClass {
        tenants: Vec::new(),
        queues: Vec::new(),
        kinds: vec![KindVersions {
            kind: kind.into(),
            min_version: 1,
            max_version: u32::MAX,
        }],
        labels: Vec::new(),
        slots: 16,
    }
}

/// A session for jobs of kind `work`.
pub(crate) async fn open(node: &Node, ttl: u64, credits: u32) -> SessionHandle {
    let hello = SessionHello {
        name: "test".into(),
        class: class("work"),
        ttl,
    };
    let session = node.open_session(hello).await.unwrap();
    if credits > 0 {
        let input = SessionInput {
            credits,
            ..SessionInput::default()
        };
        session.send(input).await.unwrap();
    }
    session
}

/// The next output, which must come.
pub(crate) async fn output(session: &mut SessionHandle) -> SessionOutput {
    let next = tokio::time::timeout(PATIENCE, session.next()).await;
    next.expect("an output in time").expect("the session lives")
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

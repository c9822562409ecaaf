//! One node that is a cluster, and a place for its backups.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_backup::{
    At, BackupOptions, Backups, Created, Location, Repository, RestoreNode, RestoreRequest, Restored, Result,
    SigningKey, Trust, restore, silent,
};
use muster_core::{
    AttemptOutcome, AttemptReport, Command, JobId, JobOptions, JobSpec, KindVersions, Payload, Reply, SessionId,
    SessionSpec, WorkerClass,
};
use muster_raft::{AppliedEntry, ApplySink, MemberConfig, Raft, RaftOptions};
use muster_store::{Store, StoreOptions};
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(30);

struct Deaf;

impl ApplySink for Deaf {
    fn applied(&self, _: &AppliedEntry) {}
    fn restored(&self) {}
    fn vouched(&self, _: u64, _: &[SessionId]) {}
}

/// A state that was there.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub index: u64,
    pub hash: u64,
    pub time_ms: u64,
}

pub struct Node {
    pub raft: Raft,
    store: Store,
}

impl Node {
    pub async fn start(dir: &Path, change: impl FnOnce(&mut RaftOptions)) -> Self {
        let (listener, members) = member();
        let mut options = RaftOptions::new(1, members);
        // Each start has a port of its own.
        options.moved = true;
        change(&mut options);
        let store = Store::open(StoreOptions::new(dir)).unwrap();
        let raft = Raft::start(options, store.clone(), Arc::new(Deaf), listener)
            .await
            .unwrap();
        let node = Self { raft, store };
        eventually("the node leads", || node.raft.role().borrow().is_leader()).await;
        node
    }

    pub async fn propose(&self, command: Command) -> Reply {
        self.raft.propose(command, Instant::now() + PATIENCE).await.unwrap()
    }

    pub async fn enqueue(&self, ids: std::ops::Range<u128>) {
        let jobs = ids.map(|id| Command::Enqueue(Box::new(job(id, 64)))).collect();
        let replies = self.raft.propose_many(jobs, Instant::now() + PATIENCE).await.unwrap();
        assert!(
            replies.iter().all(|reply| matches!(reply, Reply::Enqueued(_))),
            "{replies:?}"
        );
    }

    /// Incompressible bytes in the log.
    pub async fn fill(&self, from: u128, mib: u128) {
        for id in from..from + mib {
            self.propose(Command::Enqueue(Box::new(job(id, 1 << 20)))).await;
        }
    }

    /// A session that takes so many jobs.
    pub async fn work(&self, session: u128, credits: u64) {
        let spec = SessionSpec {
            session: SessionId(session),
            node: 1,
            worker: "worker".into(),
            class: WorkerClass {
                tenants: Vec::new(),
                queues: Vec::new(),
                kinds: vec![KindVersions {
                    kind: "k".into(),
                    min_version: 1,
                    max_version: 1,
                }],
                labels: Vec::new(),
                slots: 16,
            },
            ttl: 60_000,
            proposed_after: self.point().index,
        };
        assert_eq!(self.propose(Command::OpenSession(Box::new(spec))).await, Reply::Done);
        self.report(session, Vec::new(), credits).await;
    }

    async fn report(&self, session: u128, results: Vec<AttemptReport>, credit_total: u64) {
        let session = SessionId(session);
        let command = Command::Report {
            session,
            results,
            credit_total,
        };
        assert!(matches!(self.propose(command).await, Reply::Reported(_)));
    }

    /// Ends what a session runs, well.
    pub async fn finish(&self, session: u128, jobs: std::ops::Range<u128>) {
        let lease = |id| self.raft.read(|core| core.job(JobId(id)).and_then(|row| row.lease));
        let report = |id| {
            Some(AttemptReport {
                job: JobId(id),
                lease: lease(id)?.id,
                outcome: AttemptOutcome::Succeeded {
                    result: bytes::Bytes::from_static(b"done"),
                },
            })
        };
        let results: Vec<_> = jobs.filter_map(report).collect();
        assert!(!results.is_empty());
        self.report(session, results, 0).await;
    }

    pub fn point(&self) -> Point {
        self.raft.read(|core| {
            let meta = core.meta();
            Point {
                index: meta.applied,
                hash: meta.hash,
                time_ms: meta.now,
            }
        })
    }

    pub fn stop(self) {
        drop(self);
    }
}

/// Ends with the threads of the node: one that still used RocksDB while the process ends would meet statics that
/// are gone, and abort.
impl Drop for Node {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(self.raft.shutdown()));
        let closed = self.store.clone().close();
        assert!(closed.is_ok() || std::thread::panicking(), "{closed:?}");
    }
}

/// A free address, and a cluster of the one node that has it.
pub fn member() -> (TcpListener, Vec<MemberConfig>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let member = MemberConfig {
        id: 1,
        peer: listener.local_addr().unwrap().to_string(),
        api: String::new(),
    };
    (listener, vec![member])
}

fn job(id: u128, bytes: usize) -> JobSpec {
    let mut noise = id as u64 | 1;
    let next = || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise as u8
    };
    JobSpec {
        id: JobId(id),
        tenant: "default".into(),
        queue: "q".into(),
        kind: "k".into(),
        schema_version: 1,
        payload: Payload {
            data: std::iter::repeat_with(next).take(bytes).collect::<Vec<_>>().into(),
            ..Payload::default()
        },
        priority: Default::default(),
        available_at: 0,
        idempotency_key: None,
        options: JobOptions::default(),
        ordering: None,
        metadata: Vec::new(),
        seed: 7,
        origin: Default::default(),
        history_searched: u64::MAX,
    }
}

/// A node, a directory for its backups, and a key.
pub struct Bed {
    pub backups: Backups,
    pub node: Node,
    pub location: Location,
    pub key: SigningKey,
    pub dir: TempDir,
}

pub fn options() -> BackupOptions {
    BackupOptions {
        interval: Duration::ZERO,
        archive_interval: Duration::from_millis(100),
        ..BackupOptions::default()
    }
}

impl Bed {
    pub async fn start(options: BackupOptions, change: impl FnOnce(&mut RaftOptions)) -> Self {
        let dir = TempDir::new().unwrap();
        let node = Node::start(&dir.path().join("node"), change).await;
        let location = Location::create(&dir.path().join("backups").display().to_string()).unwrap();
        let key = SigningKey::create(&dir.path().join("key")).unwrap();
        let backups = Backups::start_at(options, location.clone(), Some(key.clone()), node.raft.clone());
        Self {
            backups,
            node,
            location,
            key,
            dir,
        }
    }

    pub fn trust(&self) -> Trust {
        Trust::Keys(vec![self.key.verify_key()])
    }

    pub fn repository(&self) -> Repository {
        self.location.repository(self.node.raft.status().cluster)
    }

    /// Where the objects of the cluster lie.
    pub fn objects(&self, folder: &str) -> PathBuf {
        let cluster = format!("cluster-{:032x}", self.node.raft.status().cluster);
        self.dir.path().join("backups").join(cluster).join(folder)
    }

    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.objects(folder)) else {
            return Vec::new();
        };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    pub async fn create(&self) -> Created {
        self.backups.create(&silent(), &CancellationToken::new()).await.unwrap()
    }

    /// Waits until all that is applied is archived.
    pub async fn archived(&self) -> u64 {
        let applied = self.node.point().index;
        eventually("the log is archived", || {
            let status = self.backups.status().archive.unwrap();
            status.archived_index >= applied
        })
        .await;
        applied
    }

    /// A directory for a restored node, which is not there yet.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn request(&self, name: &str, at: Option<At>) -> RestoreRequest {
        RestoreRequest {
            location: self.location.clone(),
            from_cluster: None,
            backup: None,
            at,
            trust: self.trust(),
            nodes: vec![RestoreNode {
                node: 1,
                data: self.data(name),
            }],
            members: member().1,
            cluster: None,
            begin_index: None,
        }
    }

    pub async fn restore(&self, name: &str, at: Option<At>) -> Result<Restored> {
        restore(&self.request(name, at), &silent()).await
    }
}

/// Waits for a condition, with a deadline.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

//! Clusters of nodes in this process, over loopback, with real stores in a temporary directory.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_core::{Command, Core, JobId, JobOptions, JobSpec, NodeId, Payload, Reply, SessionId};
use muster_raft::{AppliedEntry, ApplySink, Error, JoinToken, MemberConfig, ProposeError, Raft, RaftOptions, Role};
use muster_store::{Store, StoreOptions};
use tempfile::TempDir;
use tokio::time::Instant;

pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
pub struct Sink {
    pub vouched: Mutex<Vec<(NodeId, Vec<SessionId>)>>,
    pub restored: Mutex<u32>,
    pub applied: Mutex<Vec<u64>>,
}

impl ApplySink for Sink {
    fn applied(&self, applied: &AppliedEntry) {
        self.applied.lock().unwrap().push(applied.index);
    }

    fn restored(&self) {
        *self.restored.lock().unwrap() += 1;
    }

    fn vouched(&self, from: NodeId, sessions: &[SessionId]) {
        self.vouched.lock().unwrap().push((from, sessions.to_vec()));
    }
}

pub struct Node {
    pub raft: Raft,
    pub store: Store,
    pub sink: Arc<Sink>,
}

pub struct Cluster {
    dir: TempDir,
    pub members: Vec<MemberConfig>,
    listeners: BTreeMap<NodeId, TcpListener>,
    pub nodes: BTreeMap<NodeId, Node>,
    /// Changes the options of nodes that are started from now on.
    pub change: fn(&mut RaftOptions),
}

impl Cluster {
    /// Addresses for `size` nodes; none is started.
    pub fn new(size: u64) -> Self {
        let mut listeners = BTreeMap::new();
        let mut members = Vec::new();
        for id in 1..=size {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            members.push(MemberConfig {
                id,
                peer: listener.local_addr().unwrap().to_string(),
                api: String::new(),
            });
            listeners.insert(id, listener);
        }
        Self {
            dir: TempDir::new().unwrap(),
            members,
            listeners,
            nodes: BTreeMap::new(),
            change: |_| (),
        }
    }

    pub async fn started(size: u64) -> Self {
        let mut cluster = Self::new(size);
        cluster.start_all().await;
        cluster
    }

    pub fn data_dir(&self, id: NodeId) -> PathBuf {
        self.dir.path().join(format!("node-{id}"))
    }

    pub async fn start_all(&mut self) {
        let ids: Vec<_> = self.members.iter().map(|member| member.id).collect();
        let mut starting = Vec::new();
        for id in ids {
            if !self.nodes.contains_key(&id) {
                let (options, listener, dir) = (self.options(id), self.listener(id), self.data_dir(id));
                starting.push(async move { (id, start(options, listener, dir).await) });
            }
        }
        for (id, node) in futures::future::join_all(starting).await {
            self.nodes.insert(id, node.unwrap());
        }
    }

    pub fn options(&self, id: NodeId) -> RaftOptions {
        let mut options = RaftOptions::new(id, self.members.clone());
        (self.change)(&mut options);
        options
    }

    pub fn listener(&mut self, id: NodeId) -> TcpListener {
        let address = self.members.iter().find(|member| member.id == id).unwrap().peer.clone();
        self.listeners
            .remove(&id)
            .unwrap_or_else(|| TcpListener::bind(address).unwrap())
    }

    /// A place for a node that is not among the first ones; its address.
    pub fn place(&mut self, id: NodeId) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        self.listeners.insert(id, listener);
        self.members.retain(|member| member.id != id);
        self.members.push(MemberConfig {
            id,
            peer: address.clone(),
            api: address.clone(),
        });
        address
    }

    /// Starts a node with a token.
    pub async fn start_with(&mut self, id: NodeId, token: JoinToken) -> Result<(), Error> {
        let options = RaftOptions {
            join: Some(token),
            ..self.options(id)
        };
        let node = start(options, self.listener(id), self.data_dir(id)).await?;
        self.nodes.insert(id, node);
        Ok(())
    }

    pub async fn start_one(&mut self, id: NodeId) -> Result<(), Error> {
        let (options, listener, dir) = (self.options(id), self.listener(id), self.data_dir(id));
        let node = start(options, listener, dir).await?;
        self.nodes.insert(id, node);
        Ok(())
    }

    /// Stops a node in order and closes its store.
    pub async fn stop(&mut self, id: NodeId) {
        let node = self.nodes.remove(&id).unwrap();
        node.raft.shutdown().await;
        drop(node.raft);
        node.store.close().unwrap();
    }

    pub async fn stop_all(&mut self) {
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        for id in ids {
            self.stop(id).await;
        }
    }

    pub fn raft(&self, id: NodeId) -> &Raft {
        &self.nodes[&id].raft
    }

    /// The node that leads with a full state.
    pub async fn leader(&self) -> NodeId {
        let mut found = 0;
        eventually("a leader", || {
            let leads = |node: &Node| matches!(*node.raft.role().borrow(), Role::Leader { .. });
            found = self.nodes.iter().find(|(_, node)| leads(node)).map_or(0, |(id, _)| *id);
            found != 0
        })
        .await;
        found
    }

    pub async fn follower(&self) -> NodeId {
        let leader = self.leader().await;
        *self.nodes.keys().find(|id| **id != leader).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The writer threads end before the directory goes.
        for (_, node) in std::mem::take(&mut self.nodes) {
            drop(node.raft);
            let _closed = node.store.close();
        }
    }
}

pub async fn start(options: RaftOptions, listener: TcpListener, dir: PathBuf) -> Result<Node, Error> {
    start_store(options, listener, Store::open(StoreOptions::new(dir)).unwrap()).await
}

pub async fn start_store(options: RaftOptions, listener: TcpListener, store: Store) -> Result<Node, Error> {
    let sink = Arc::new(Sink::default());
    match Raft::start(options, store.clone(), sink.clone(), listener).await {
        Ok(raft) => Ok(Node { raft, store, sink }),
        Err(error) => {
            let _closed = store.close();
            Err(error)
        }
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

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

pub fn job(id: u128) -> JobSpec {
    JobSpec {
        id: JobId(id),
        tenant: "default".into(),
        queue: "q".into(),
        kind: "k".into(),
        schema_version: 1,
        payload: Payload {
            data: vec![b'x'; 100].into(),
            ..Payload::default()
        },
        priority: Default::default(),
        available_at: 0,
        idempotency_key: None,
        ordering: None,
        options: JobOptions::default(),
        metadata: Vec::new(),
        seed: 7,
        origin: Default::default(),
        history_searched: u64::MAX,
    }
}

pub fn enqueue_command(id: u128) -> Command {
    Command::Enqueue(job(id).into())
}

pub async fn enqueue(raft: &Raft, id: u128) -> Result<(), ProposeError> {
    match raft.propose(enqueue_command(id), soon()).await? {
        Reply::Enqueued(enqueued) if enqueued.job == JobId(id) => Ok(()),
        other => panic!("unexpected reply {other:?}"),
    }
}

pub fn has(core: &Core, id: u128) -> bool {
    core.job(JobId(id)).is_some()
}

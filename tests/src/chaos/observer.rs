//! Looks at all nodes all the time: who leads, and whether nodes at one index are in one state.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_client::{Client, ClusterStatus};
use muster_sim::history::{Leader, Record, Recorder};
use tokio::task::JoinHandle;

use crate::chaos::world::{Complaints, World};

/// Between two looks at a node.
const EVERY: Duration = Duration::from_millis(150);
/// Longest wait for a look's answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Looks at all nodes. Clones share what was seen.
#[derive(Clone)]
pub(crate) struct Observer {
    addresses: BTreeMap<u64, String>,
    recorder: Recorder,
    complaints: Complaints,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Term to leader, by the leader's own word.
    leaders: BTreeMap<u64, u64>,
    /// Index to hash and the node that showed it first.
    hashes: HashMap<u64, (u64, u64)>,
    compared: u64,
}

impl Observer {
    /// For nodes with these ids, in the order of the world's addresses.
    pub(crate) fn new(world: &World, ids: &[u64]) -> Self {
        Self {
            addresses: ids.iter().copied().zip(world.addresses.iter().cloned()).collect(),
            recorder: world.recorder.clone(),
            complaints: world.complaints.clone(),
            seen: Arc::default(),
        }
    }

    /// Looks until the tasks are aborted.
    pub(crate) fn start(&self) -> Vec<JoinHandle<()>> {
        let look = |id: u64| {
            let observer = self.clone();
            tokio::spawn(async move {
                let client = observer.client(id);
                loop {
                    if let Ok(status) = client.cluster_status().await {
                        observer.take(id, &status);
                    }
                    tokio::time::sleep(EVERY).await;
                }
            })
        };
        self.addresses.keys().copied().map(look).collect()
    }

    fn client(&self, id: u64) -> Client {
        let client = Client::builder()
            .addresses([self.addresses[&id].as_str()])
            .connect_timeout(ANSWER)
            .attempt_timeout(ANSWER)
            .deadline(ANSWER);
        client.connect_lazy().expect("a good address")
    }

    /// What a node says of itself now, on a new connection.
    pub(crate) async fn ask(&self, id: u64) -> Option<ClusterStatus> {
        let status = self.client(id).cluster_status().await.ok()?;
        self.take(id, &status);
        Some(status)
    }

    fn take(&self, id: u64, status: &ClusterStatus) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if status.leader_id == Some(id) && !seen.leaders.contains_key(&status.term) {
            seen.leaders.insert(status.term, id);
            self.recorder.record(&Record::Leader(Leader {
                at: self.recorder.now(),
                node: id,
                term: status.term,
            }));
        } else if status.leader_id == Some(id) && seen.leaders.get(&status.term) != Some(&id) {
            self.complaints
                .add(format!("node {id} leads term {}, as another did", status.term));
        }
        let (index, hash) = (status.applied_index, status.state_hash);
        match seen.hashes.insert(index, (hash, id)) {
            Some((other, node)) if node != id => {
                seen.compared += 1;
                if other != hash {
                    self.complaints.add(format!(
                        "at index {index} node {node} has hash {other:016x}, node {id} has {hash:016x}"
                    ));
                }
            }
            _ => {}
        }
    }

    /// The leader last seen.
    pub(crate) fn leader(&self) -> Option<u64> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.leaders.last_key_value().map(|(_, id)| *id)
    }

    /// Leaders seen.
    pub(crate) fn leaders(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).leaders.len()
    }

    /// Times that two nodes were seen at one index.
    pub(crate) fn compared(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).compared
    }
}

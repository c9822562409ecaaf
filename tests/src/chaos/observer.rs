//! Looks at all nodes all the time: who leads, and whether nodes at one index are in one state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_client::{Client, ClusterStatus};
use muster_sim::history::{Leader, Record, Recorder};
use tokio::task::JoinHandle;

use crate::chaos::world::Complaints;

/// Between two looks at a node.
const EVERY: Duration = Duration::from_millis(150);
/// Longest wait for a look's answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Looks at all nodes. Clones share what was seen.
#[derive(Clone)]
pub(crate) struct Observer {
    watched: Arc<Mutex<BTreeMap<u64, Watched>>>,
    recorder: Recorder,
    complaints: Complaints,
    seen: Arc<Mutex<Seen>>,
}

struct Watched {
    address: String,
    looks: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// Term and node of each leader, by its own word. Leaders are ordered so: in one term a second one may follow with a greater
    /// id.
    leaders: BTreeSet<(u64, u64)>,
    /// Index to hash and the node that showed it first.
    hashes: HashMap<u64, (u64, u64)>,
    compared: u64,
}

impl Observer {
    pub(crate) fn new(recorder: &Recorder, complaints: &Complaints) -> Self {
        Self {
            watched: Arc::default(),
            recorder: recorder.clone(),
            complaints: complaints.clone(),
            seen: Arc::default(),
        }
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<u64, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a node until told otherwise.
    pub(crate) fn watch(&self, id: u64, address: String) {
        let (observer, client, own) = (self.clone(), client(&address), address.clone());
        let looks = tokio::spawn(async move {
            loop {
                if let Ok(status) = client.node_status(&own).await {
                    observer.take(id, &status);
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        self.watched().insert(id, Watched { address, looks });
    }

    /// A node is gone.
    pub(crate) fn unwatch(&self, id: u64) {
        if let Some(watched) = self.watched().remove(&id) {
            watched.looks.abort();
        }
    }

    /// No node is looked at any more.
    pub(crate) fn end(&self) {
        self.watched().values().for_each(|watched| watched.looks.abort());
    }

    /// What a node says of itself now, on a new connection.
    pub(crate) async fn ask(&self, id: u64) -> Option<ClusterStatus> {
        let address = self.watched().get(&id)?.address.clone();
        let status = client(&address).node_status(&address).await.ok()?;
        self.take(id, &status);
        Some(status)
    }

    fn take(&self, id: u64, status: &ClusterStatus) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if status.leader_id == Some(id) && seen.leaders.insert((status.term, id)) {
            self.recorder.record(&Record::Leader(Leader {
                at: self.recorder.now(),
                node: id,
                term: status.term,
            }));
        }
        let (index, hash) = (status.applied_index, status.state_hash);
        if index == 0 {
            // The first entry, or nothing at all yet: a node that joins or is refilled begins there.
            return;
        }
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
        seen.leaders.last().map(|(_, id)| *id)
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

fn client(address: &str) -> Client {
    let client = Client::builder()
        .addresses([address])
        .connect_timeout(ANSWER)
        .attempt_timeout(ANSWER)
        .deadline(ANSWER);
    client.connect_lazy().expect("a good address")
}

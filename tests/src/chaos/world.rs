//! What all parts of a run share.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use muster_client::{Client, Error};
use muster_sim::history::{Answer, CallLog, Id, OperationKind, Recorder};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;

/// What all parts of a run share.
pub(crate) struct World {
    pub(crate) recorder: Recorder,
    pub(crate) seed: u64,
    /// Public addresses of the nodes that are there now, by id.
    pub(crate) addresses: Addresses,
    pub(crate) resource: Resource,
    pub(crate) calls: Calls,
    pub(crate) complaints: Complaints,
    /// True: no new calls.
    pub(crate) over: watch::Sender<bool>,
}

impl World {
    /// A source of randomness of one's own, the same in each run with this seed.
    pub(crate) fn rng(&self, part: &str, number: u64) -> StdRng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&number.to_le_bytes());
        for (to, from) in seed[16..].iter_mut().zip(part.bytes()) {
            *to = from;
        }
        StdRng::from_seed(seed)
    }

    /// A client that begins at one of the nodes and gives up after a few seconds, so that unknown outcomes happen.
    pub(crate) fn client(&self, number: usize) -> Client {
        let mut addresses = self.addresses.all();
        let count = addresses.len().max(1);
        addresses.rotate_left(number % count);
        let client = Client::builder()
            .addresses(addresses)
            .deadline(Duration::from_secs(5))
            .attempt_timeout(Duration::from_secs(2));
        client.connect_lazy().expect("good addresses")
    }

    /// Nobody is to make new calls.
    pub(crate) fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// Ends when nobody is to make new calls.
    pub(crate) async fn over(&self) {
        let mut over = self.over.subscribe();
        let _ = over.wait_for(|over| *over).await;
    }

    /// Writes down how a call ended. True: known, no need to repeat it.
    pub(crate) fn settle(
        &self,
        kind: OperationKind,
        call: CallLog,
        index: Option<u64>,
        result: Result<Answer, Error>,
    ) -> bool {
        match result {
            Ok(answer) => {
                call.ok(answer, index);
                self.calls.count(kind, 0);
                true
            }
            Err(error) if error.is_unknown() => {
                call.info(error.to_string());
                self.calls.count(kind, 2);
                false
            }
            Err(error) => {
                call.fail(error.to_string());
                self.calls.count(kind, 1);
                true
            }
        }
    }
}

/// Public addresses of nodes, by id.
pub(crate) struct Addresses(RwLock<BTreeMap<u64, String>>);

impl Addresses {
    pub(crate) fn new(known: impl IntoIterator<Item = (u64, String)>) -> Self {
        Self(RwLock::new(known.into_iter().collect()))
    }

    pub(crate) fn add(&self, id: u64, address: String) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, address);
    }

    pub(crate) fn remove(&self, id: u64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// In the order of ids.
    pub(crate) fn all(&self) -> Vec<String> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.values().cloned().collect()
    }
}

/// Something outside the cluster that jobs write to. It refuses a fence lower than the highest it has seen for the job.
#[derive(Default)]
pub(crate) struct Resource(Mutex<HashMap<Id, u64>>);

impl Resource {
    /// Uses it under a fence; `note` is told whether it was taken, before anybody else can use it.
    pub(crate) fn write(&self, job: Id, fence: u64, note: impl FnOnce(bool)) {
        let mut fences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = fences.entry(job).or_default();
        note(fence >= *highest);
        *highest = fence.max(*highest);
    }
}

/// Calls by kind: done, not done, unknown; and the longest time without an acknowledged enqueue.
pub(crate) struct Calls(Mutex<Counted>);

struct Counted {
    by_kind: BTreeMap<OperationKind, [u64; 3]>,
    began: Instant,
    last: Instant,
    gap: Duration,
    gap_at: Duration,
}

impl Default for Calls {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Counted {
            by_kind: BTreeMap::new(),
            began: now,
            last: now,
            gap: Duration::ZERO,
            gap_at: Duration::ZERO,
        }))
    }
}

impl Calls {
    /// The load begins: gaps count from now on.
    pub(crate) fn begin(&self) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.began = Instant::now();
        counted.last = counted.began;
    }

    fn count(&self, kind: OperationKind, outcome: usize) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.by_kind.entry(kind).or_default()[outcome] += 1;
        if outcome == 0 && kind == OperationKind::Enqueue {
            let now = Instant::now();
            let gap = now - counted.last;
            if gap > counted.gap {
                counted.gap = gap;
                counted.gap_at = counted.last - counted.began;
            }
            counted.last = now;
        }
    }

    /// By kind: done, not done, unknown.
    pub(crate) fn by_kind(&self) -> BTreeMap<OperationKind, [u64; 3]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_kind.clone()
    }

    /// The longest time without an acknowledged enqueue, and when in the run it began.
    pub(crate) fn gap(&self) -> (Duration, Duration) {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (counted.gap, counted.gap_at)
    }
}

/// What is wrong besides what checkers find. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Complaints(Arc<Mutex<Vec<String>>>);

impl Complaints {
    pub(crate) fn add(&self, what: String) {
        eprintln!("\nwrong: {what}");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! Injects faults until told to stop.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_sim::history::{Fault as Written, Record};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deck::Deck;
use super::places::Exceptions;
use super::{Clock, Disk, Fault, Sort, members, network, node, workers};
use crate::Cluster;
use crate::chaos::net::Net;
use crate::chaos::observer::Observer;
use crate::chaos::work::Workers;
use crate::chaos::world::World;

/// What a fault did: to whom, and whether it was seen to do something.
pub(in crate::chaos) struct Effect {
    pub(in crate::chaos) target: String,
    pub(in crate::chaos) took_effect: bool,
}

/// Everything that faults act on.
pub(crate) struct Injector {
    pub(crate) world: Arc<World>,
    pub(crate) cluster: Arc<Mutex<Cluster>>,
    /// Of each node, if a fault needs them; otherwise none.
    pub(crate) disks: Vec<Disk>,
    /// The same.
    pub(crate) clocks: Vec<Clock>,
    pub(crate) net: Net,
    pub(crate) observer: Observer,
    pub(crate) workers: Workers,
    pub(crate) log: Log,
    pub(crate) exceptions: Mutex<Exceptions>,
    /// Held while the data of a node is lost or damaged, until it is whole again or replaced: of several at once a majority would
    /// not come back.
    pub(crate) data: tokio::sync::Mutex<()>,
    /// Of the next node that joins.
    pub(crate) next_id: AtomicU64,
}

/// Counts of faults: injected, took effect.
#[derive(Default)]
pub(crate) struct Log(Mutex<BTreeMap<Fault, [u64; 2]>>);

impl Log {
    fn add(&self, fault: Fault, took_effect: bool) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(fault).or_default();
        count[0] += 1;
        count[1] += u64::from(took_effect);
    }

    /// By fault: injected, took effect.
    pub(crate) fn counts(&self) -> BTreeMap<Fault, [u64; 2]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Injector {
    /// Injects faults for so long, one every second or two, faults of different sorts at the same time. Returns when
    /// the last is over.
    pub(crate) async fn run(self: &Arc<Self>, faults: &[Fault], time: Duration) {
        let end = Instant::now() + time;
        let mut rng = self.world.rng("faults", 0);
        let mut deck = Deck::new(faults);
        let busy: Arc<Mutex<HashSet<Sort>>> = Arc::default();
        let mut running = JoinSet::new();
        let mut number = 0;
        loop {
            let pause = Duration::from_millis(rng.random_range(200..1_500));
            tokio::time::sleep_until((Instant::now() + pause).min(end)).await;
            if Instant::now() >= end {
                break;
            }
            while running.try_join_next().is_some() {}
            let drawn = {
                let mut busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
                let drawn = deck.draw(&mut rng, |sort| busy.contains(&sort));
                busy.extend(drawn.map(Fault::sort));
                drawn
            };
            let Some(fault) = drawn else { continue };
            number += 1;
            let (injector, busy) = (Arc::clone(self), Arc::clone(&busy));
            let rng = self.world.rng("fault", number);
            running.spawn(async move {
                injector.inject(fault, rng).await;
                busy.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&fault.sort());
            });
        }
        while running.join_next().await.is_some() {}
    }

    async fn inject(&self, fault: Fault, mut rng: StdRng) {
        let start = self.world.recorder.now();
        let effect: Pin<Box<dyn Future<Output = Effect> + Send + '_>> = match fault.sort() {
            Sort::Members => Box::pin(members::inject(self, fault, &mut rng)),
            Sort::Node => Box::pin(node::inject(self, fault, &mut rng)),
            Sort::Network => Box::pin(network::inject(self, fault, &mut rng)),
            Sort::Worker => Box::pin(workers::inject(self, fault, &mut rng)),
        };
        let Effect { target, took_effect } = effect.await;
        self.log.add(fault, took_effect);
        self.world.recorder.record(&Record::Fault(Written {
            kind: fault.kind(),
            target: format!("{fault}: {target}"),
            start,
            end: self.world.recorder.now(),
            took_effect,
        }));
    }

    /// Ends all nodes and takes out their disks.
    pub(crate) fn end(&self) {
        self.observer.end();
        self.cluster().kill_all();
        for disk in &self.disks {
            if let Err(fault) = disk.unmount() {
                self.world.complaints.add(fault.to_string());
            }
        }
    }

    /// A node; the leader with this probability, in percent.
    pub(super) fn some_node(&self, rng: &mut StdRng, leader_percent: u32) -> u64 {
        let ids = self.net.ids();
        let leads = rng.random_range(0..100) < leader_percent;
        let other = ids[rng.random_range(0..ids.len())];
        let leader = self.observer.leader().filter(|leader| leads && ids.contains(leader));
        leader.unwrap_or(other)
    }
}

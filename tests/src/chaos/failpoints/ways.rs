//! What brings a node to pass a point. Each goes on until it is told to stop, and leaves nothing half-done.

use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_client::Client;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::Instant;

use super::plan::Way;
use crate::chaos::faults::{BACK, Fault, Injector, Operator, trouble_workers};
use crate::chaos::load;
use crate::chaos::net::{Mode, Net};
use crate::damage;

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(200);
/// A follower is down for longer than a session lives without its node.
const DOWN: Duration = Duration::from_secs(5);
/// A leader is cut off for longer than an election takes.
const CUT_OFF: Duration = Duration::from_millis(2_500);
/// Longest round of those that wait for something.
const ROUND: Duration = Duration::from_secs(6);

/// Someone who brings a node to pass points.
pub(super) struct Pusher<'a> {
    pub(super) injector: &'a Injector,
    /// The node.
    pub(super) node: u64,
    /// Of the trial.
    pub(super) number: u32,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) rng: StdRng,
}

impl Pusher<'_> {
    /// Goes on until it is told to stop.
    pub(super) async fn push(mut self, way: Way) {
        // These are done once, and whole.
        match way {
            Way::Start => return self.start_again().await,
            Way::Refill => return self.refill(self.node).await,
            Way::Join => return self.join(None).await,
            Way::Members => return self.join(Some(self.node)).await,
            _ => {}
        }
        while !*self.stop.borrow() {
            match way {
                Way::Feed => {
                    if let Some(other) = self.another() {
                        self.refill(other).await;
                    }
                }
                Way::HandOver => self.hand_over().await,
                Way::Fall => self.fall().await,
                Way::Down => self.down().await,
                Way::CutOff => self.cut_off().await,
                Way::Drain => self.drain().await,
                Way::Workers => {
                    trouble_workers(self.injector, Fault::WorkerDrop, &mut self.rng).await;
                    trouble_workers(self.injector, Fault::WorkerKill, &mut self.rng).await;
                }
                Way::Backup => self.back_up().await,
                Way::Purge => self.fill_log().await,
                Way::Load | Way::Start | Way::Refill | Way::Join | Way::Members => {}
            }
            self.pause(PAUSE).await;
        }
    }

    /// Waits for so long, or until it is told to stop.
    async fn pause(&mut self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stop.wait_for(|stop| *stop)).await;
    }

    /// Another node, which does not lead.
    fn another(&self) -> Option<u64> {
        let leader = self.injector.observer.leader();
        let ids = self.injector.net.ids();
        ids.into_iter().find(|id| *id != self.node && Some(*id) != leader)
    }

    fn operator(&self) -> Operator<'_> {
        Operator::new(self.injector)
    }

    /// Kills the node and starts it again.
    async fn start_again(&mut self) {
        self.injector.kill(self.node);
        self.injector.start(self.node);
        self.injector.expect_down(self.node);
        self.pause(ROUND).await;
    }

    /// Has a node refill itself, and waits until its data are whole again.
    async fn refill(&mut self, id: u64) {
        let injector = self.injector;
        injector.kill(id);
        damage::break_log(&injector.cluster().data(id));
        injector.start(id);
        let since = Instant::now();
        let mut whole = false;
        while !whole && since.elapsed() < BACK {
            injector.expect_down(id);
            // The other one is looked after by the trial.
            if id != self.node {
                injector.supervise(id);
            }
            whole = (injector.observer.ask(id).await).is_some_and(|status| !status.storage.refilling);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if id != self.node {
            injector.start(id);
        }
        if !whole {
            let complaint = format!("node {id} with a damaged log is not whole {BACK:?} later");
            injector.world.complaints.add(complaint);
        }
    }

    /// Hands the lead to the node, or to another if it leads.
    async fn hand_over(&mut self) {
        let to = match self.injector.observer.leader() {
            Some(leader) if leader == self.node => self.another(),
            _ => Some(self.node),
        };
        if let Some(to) = to {
            // Through a node that does not lead, which passes it on.
            let through = self.injector.cluster().address(self.another().unwrap_or(to));
            let client = Client::builder().addresses([through]).deadline(ROUND);
            let client = client.connect_lazy().expect("a good address");
            // It may not be able to, or die of it.
            tokio::select! {
                _ = client.transfer_leader(to) => {}
                _ = self.stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Kills the leader, which is another node.
    async fn fall(&mut self) {
        match self.injector.observer.leader() {
            Some(leader) if leader != self.node => {
                self.injector.kill(leader);
                self.pause(Duration::from_millis(1_500)).await;
                self.injector.start(leader);
                self.injector.wait_for(leader).await;
            }
            _ => self.hand_over().await,
        }
    }

    async fn down(&mut self) {
        let Some(other) = self.another() else { return };
        self.injector.kill(other);
        self.pause(DOWN).await;
        self.injector.start(other);
        self.injector.wait_for(other).await;
    }

    /// Holds all bytes to and from the leader, which is the node.
    async fn cut_off(&mut self) {
        if self.injector.observer.leader() != Some(self.node) {
            return self.hand_over().await;
        }
        let net = &self.injector.net;
        let others: Vec<u64> = net.ids().into_iter().filter(|id| *id != self.node).collect();
        let pairs = Net::between(&[self.node], &others);
        net.set(&pairs, Mode::held());
        tokio::time::sleep(CUT_OFF).await;
        net.set(&pairs, Mode::default());
        self.pause(Duration::from_secs(1)).await;
    }

    /// Has the log grow, so that it is purged.
    async fn fill_log(&mut self) {
        let world = &self.injector.world;
        tokio::select! {
            () = load::fill_log(world, self.number) => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn drain(&mut self) {
        let client = self.operator().client;
        let _ = client.drain_node(self.node, "failpoints").await;
        self.pause(Duration::from_secs(2)).await;
        let _ = client.undrain_node(self.node).await;
    }

    /// Asks the node for a backup.
    async fn back_up(&mut self) {
        let running = {
            let cluster = self.injector.cluster();
            cluster.begin_at(&cluster.address(self.node), "backup create")
        };
        tokio::select! {
            _ = running.end() => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
    }

    /// A node joins and is removed. It shows its token to this member, or to any.
    async fn join(&mut self, member: Option<u64>) {
        let injector = self.injector;
        let id = injector.next_id.load(Ordering::Relaxed);
        let mut operator = Operator::new(injector);
        operator.member = member;
        let done = match operator.grow(0, &mut self.rng).await {
            Ok(_) => operator.take_out(id).await,
            failed => failed,
        };
        if let Err(reason) = done {
            let complaint = format!("node {id} was to join and to be removed: {reason}");
            injector.world.complaints.add(complaint);
        }
        // Its process hears of it and ends.
        let since = Instant::now();
        while injector.net.ids().contains(&id) && since.elapsed() < BACK {
            injector.look_after();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if injector.net.ids().contains(&id) {
            let complaint = format!("node {id} was removed and is still there {BACK:?} later");
            injector.world.complaints.add(complaint);
        }
    }
}

//! Which nodes there are, and which of them may be down.

use std::collections::{HashMap, HashSet};
use std::process::ExitStatus;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::schedule::Injector;
use crate::chaos::applied::AppliedLogs;
use crate::{Cluster, NodePorts};

/// Longest start of a node on a busy machine, its log read.
pub(in crate::chaos) const BACK: Duration = Duration::from_mins(1);
/// Exit code of a node that the cluster refuses.
pub(in crate::chaos) const REFUSED: i32 = 4;

/// Nodes for which it is not as usual.
#[derive(Default)]
pub(crate) struct Exceptions {
    /// Down on purpose, until they are started again.
    down: HashSet<u64>,
    /// Asked to leave the cluster.
    leaving: HashMap<u64, Leaving>,
    /// Their data are gone: they do not come back.
    lost: HashSet<u64>,
}

impl Exceptions {
    /// It left, or is lost: nobody starts it again.
    fn is_gone(&self, id: u64) -> bool {
        self.lost.contains(&id) || self.leaving.get(&id).is_some_and(|leaving| leaving.ended)
    }

    /// Notes that a node which was asked to leave has ended for it. False: it ended for another reason.
    fn note_removal(&mut self, id: u64, status: ExitStatus) -> bool {
        match self.leaving.get_mut(&id) {
            Some(leaving) if status.code() == Some(REFUSED) => {
                leaving.ended = true;
                true
            }
            _ => false,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Leaving {
    /// The cluster says that it left.
    left: bool,
    /// The process ended by itself and said that it was removed.
    ended: bool,
}

impl Injector {
    fn exceptions(&self) -> MutexGuard<'_, Exceptions> {
        self.exceptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::chaos) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node may end by itself until it is started again.
    pub(in crate::chaos) fn expect_down(&self, id: u64) {
        self.exceptions().down.insert(id);
    }

    /// SIGKILL. False: it did not run.
    pub(in crate::chaos) fn kill(&self, id: u64) -> bool {
        self.expect_down(id);
        let mut cluster = self.cluster();
        if !cluster.has(id) {
            return false;
        }
        let ran = cluster.ended(id).is_none() && cluster.pid(id).is_some();
        cluster.kill(id);
        ran
    }

    /// Starts a node that does not run, unless it is gone.
    pub(in crate::chaos) fn start(&self, id: u64) {
        let mut cluster = self.cluster();
        let mut exceptions = self.exceptions();
        if cluster.has(id) && cluster.pid(id).is_none() && !exceptions.is_gone(id) {
            cluster.start_node(id);
        }
        exceptions.down.remove(&id);
    }

    /// Starts a node again that ended by itself, as a supervisor does, unless it ended for having been removed. True: it had
    /// ended and runs again.
    pub(in crate::chaos) fn supervise(&self, id: u64) -> bool {
        let status = {
            let mut cluster = self.cluster();
            if cluster.has(id) { cluster.ended(id) } else { None }
        };
        let again = status.is_some_and(|status| !self.exceptions().note_removal(id, status));
        if again {
            self.start(id);
            self.expect_down(id);
        }
        again
    }

    /// Room on its disk, as a node says.
    pub(in crate::chaos) async fn room(&self, id: u64) -> Option<&'static str> {
        Some(self.observer.ask(id).await?.storage.room)
    }

    /// Waits until a node answers. Its process has just been started or thawed, so an answer is a new one. False at once
    /// if it is not to come back.
    pub(in crate::chaos) async fn wait_for(&self, id: u64) -> bool {
        let end = Instant::now() + BACK;
        while Instant::now() < end && self.stays(id) {
            if self.observer.ask(id).await.is_some() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// False: it left, or is lost.
    pub(in crate::chaos) fn stays(&self, id: u64) -> bool {
        !self.exceptions().is_gone(id) && self.net.ids().contains(&id)
    }

    /// A node comes: everything but its process.
    pub(in crate::chaos) async fn prepare(&self, own: NodePorts, members: &[u64]) -> std::io::Result<()> {
        self.net.open(own.id, own.peer).await?;
        let mut cluster = self.cluster();
        let members: Vec<_> = members
            .iter()
            .filter(|id| cluster.has(**id))
            .map(|id| cluster.ports(*id))
            .collect();
        cluster.prepare_node_with(own, &members, &self.net.addresses(own.id));
        AppliedLogs::ask(&mut cluster, own.id);
        Ok(())
    }

    /// A node has joined: clients and workers may begin at it.
    pub(in crate::chaos) fn welcome(&self, id: u64) {
        let address = self.cluster().address(id);
        self.world.addresses.add(id, address.clone());
        self.observer.watch(id, address);
    }

    /// From now on a node may find out that it was removed.
    pub(in crate::chaos) fn may_leave(&self, id: u64) {
        self.exceptions().leaving.entry(id).or_default();
    }

    /// A node that was asked to leave has left. Its process must find out and end.
    pub(in crate::chaos) fn has_left(&self, id: u64) {
        self.exceptions().leaving.entry(id).or_default().left = true;
    }

    /// A node that was asked to leave stays.
    pub(in crate::chaos) fn stays_after_all(&self, id: u64) {
        let leaving = self.exceptions().leaving.remove(&id);
        if leaving.is_some_and(|leaving| leaving.ended) {
            let what = format!("node {id} ended as if it had been removed, which it was not; see node-{id}.log");
            self.world.complaints.add(what);
            self.start(id);
        }
    }

    /// Nodes that were asked to leave and whose process has not ended.
    pub(in crate::chaos) fn leaving(&self) -> Vec<u64> {
        self.exceptions().leaving.keys().copied().collect()
    }

    /// A node's disk is lost: killed, its data deleted, never to come back.
    pub(in crate::chaos) fn lose(&self, id: u64) {
        // First, so that nobody starts it again.
        self.exceptions().lost.insert(id);
        self.kill(id);
        let cluster = self.cluster();
        if cluster.has(id) {
            cluster.wipe(id);
        }
    }

    /// Starts a node that lost its data under its old id, which it must be refused, if it reaches anyone in time.
    /// `None`: it did not.
    pub(in crate::chaos) async fn is_refused(&self, id: u64, limit: Duration) -> Option<bool> {
        self.cluster().start_node(id);
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.cluster().ended(id) {
                return Some(status.code() == Some(REFUSED));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.kill(id);
        None
    }

    /// Nothing is left of a node.
    pub(in crate::chaos) fn retire(&self, id: u64) {
        self.world.addresses.remove(id);
        self.observer.unwatch(id);
        self.net.close(id);
        self.cluster().forget(id);
        let mut exceptions = self.exceptions();
        exceptions.down.remove(&id);
        exceptions.leaving.remove(&id);
    }

    /// Looks for nodes that ended by themselves. Only those may that were removed; others are started again.
    pub(crate) fn look_after(&self) {
        for id in self.net.ids() {
            let Some(status) = self.ended(id) else { continue };
            if self.exceptions().note_removal(id, status) {
                continue;
            }
            self.world
                .complaints
                .add(format!("node {id} ended by itself: {status}; see node-{id}.log"));
            self.start(id);
        }
        let gone: Vec<_> = {
            let exceptions = self.exceptions();
            let gone = exceptions
                .leaving
                .iter()
                .filter(|(_, leaving)| leaving.left && leaving.ended);
            gone.map(|(id, _)| *id).collect()
        };
        for id in gone {
            self.retire(id);
        }
    }

    /// How a node ended by itself, if it did and was not brought down on purpose.
    fn ended(&self, id: u64) -> Option<ExitStatus> {
        let mut cluster = self.cluster();
        let exceptions = self.exceptions();
        let expected = exceptions.down.contains(&id) || exceptions.lost.contains(&id);
        if expected || !cluster.has(id) {
            return None;
        }
        cluster.ended(id)
    }

    /// Everything passes, everything runs that is to.
    pub(crate) async fn heal(&self) {
        self.net.heal();
        for id in self.net.ids() {
            self.start(id);
        }
        let leaving = self.leaving();
        for id in self.net.ids() {
            let stays = !leaving.contains(&id) && self.stays(id);
            if stays && !self.wait_for(id).await {
                self.world
                    .complaints
                    .add(format!("node {id} does not answer {BACK:?} after the last fault"));
            }
        }
    }
}

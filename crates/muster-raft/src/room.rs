//! What is done about disks that fill up.
//!
//! A node with less room than its reserve hands the lead to one that has more. When those with room are no majority, the
//! leader takes no new jobs: what runs may end, and reads go on. Below the floor of the reserve a node writes nothing that can
//! wait: it accepts no entries and does not stand for election; a leader then takes no commands at all. All of it ends by
//! itself when room is there again. `docs/adr/021-full-disks.md`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use muster_core::{Command, NodeId};
use muster_store::{Room, Store};
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::facts::Facts;
use crate::leadership::Lead;
use crate::proposer::brings_jobs;
use crate::types::OpenRaft;

/// Between two looks at the disk.
const LOOK: Duration = Duration::from_millis(250);
/// Between two tries to hand over the lead.
const HAND_OVER: Duration = Duration::from_secs(3);
/// So long others must have room before the lead is handed over. Disks of one size fill up together, and what the others say is up
/// to half a second old: a leader that comes into office as a majority runs full cannot have its first entry accepted.
const LASTING: Duration = Duration::from_secs(2);
/// What refused callers are told to wait.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Which commands this node takes as the leader, by the room on disks. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<AtomicU8>);

impl Gate {
    fn set(&self, room: Room) {
        self.0.store(room as u8, Ordering::Relaxed);
    }

    /// Whether there is room for all.
    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Whether there is no room for these.
    pub(crate) fn refuses(&self, commands: &[Command]) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => false,
            1 => brings_jobs(commands),
            _ => true,
        }
    }
}

/// Room of the cluster: the best that a majority of each set of voters has. Nodes of which nothing is known count as having
/// room: whether they can be reached is raft's to find out.
fn cluster_room(voters: &[BTreeSet<NodeId>], room: impl Fn(NodeId) -> Room) -> Room {
    let of_set = |set: &BTreeSet<NodeId>| {
        let mut rooms: Vec<_> = set.iter().map(|node| room(*node)).collect();
        rooms.sort_unstable();
        rooms.get(set.len() / 2).copied().unwrap_or_default()
    };
    voters.iter().map(of_set).max().unwrap_or_default()
}

/// When a leader without room hands over.
#[derive(Default)]
struct Patience {
    /// Since when others would do better.
    better_since: Option<Instant>,
    tried: Option<Instant>,
}

impl Patience {
    /// Whether others would do better now and have for long enough.
    fn over(&mut self, better: bool, now: Instant) -> bool {
        if !better {
            self.better_since = None;
            return false;
        }
        let since = *self.better_since.get_or_insert(now);
        now - since >= LASTING && self.tried.is_none_or(|at| now - at > HAND_OVER)
    }

    fn handed_over(&mut self, now: Instant) {
        self.tried = Some(now);
    }
}

/// Watches over the room of this node and, while it leads, of the cluster.
pub(crate) struct RoomWatch {
    pub(crate) node: NodeId,
    pub(crate) raft: OpenRaft,
    pub(crate) store: Store,
    pub(crate) facts: Facts,
    pub(crate) gate: Gate,
    pub(crate) lead: watch::Receiver<Lead>,
}

impl RoomWatch {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut known = Room::Enough;
        let mut refused = Room::Enough;
        let mut patience = Patience::default();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            let store = self.store.clone();
            let looked = tokio::task::spawn_blocking(move || store.look_at_space()).await;
            let space = match looked {
                Ok(Ok(space)) => space,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the room on the disk is not known");
                    continue;
                }
                Err(_) => return,
            };
            self.facts.set_space(space);
            metrics::gauge!("muster_disk_free_bytes").set(space.free as f64);
            metrics::gauge!("muster_disk_reserve_bytes").set(space.reserve as f64);
            if space.room != known {
                self.changed(known, space);
                known = space.room;
            }
            let majority = self.majority_room(space.room);
            // Without room of its own a leader takes nothing new either, until it has handed over.
            let room = if majority.is_some() {
                majority.max(Some(space.room))
            } else {
                None
            };
            let room = room.unwrap_or_default();
            self.gate.set(room);
            if room != refused {
                report(refused, room);
                refused = room;
            }
            // A new leader must have its first entry accepted by a majority, or it could not even serve reads.
            let better = known > Room::Enough && majority == Some(Room::Enough);
            if patience.over(better, Instant::now()) && self.hand_over().await {
                patience.handed_over(Instant::now());
            }
        }
    }

    fn changed(&self, was: Room, space: muster_store::Space) {
        let (free, reserve) = (space.free, space.reserve);
        match space.room {
            Room::Enough => tracing::info!(node = self.node, free, "there is room on the disk again"),
            Room::Low => tracing::warn!(
                node = self.node,
                free,
                reserve,
                "the disk is nearly full: make room, or new jobs are refused when a majority has none"
            ),
            Room::Out => tracing::error!(
                node = self.node,
                free,
                reserve,
                "the disk is full: this node accepts no entries until there is room again"
            ),
        }
        if (was == Room::Out) != (space.room == Room::Out) && !self.store.refilling() {
            self.raft.runtime_config().elect(space.room != Room::Out);
        }
    }

    /// The room that a majority has. `None` if this node does not lead: then it decides nothing.
    fn majority_room(&self, own: Room) -> Option<Room> {
        if !matches!(*self.lead.borrow(), Lead::Me { .. }) {
            return None;
        }
        let membership = self.raft.server_metrics().borrow_watched().membership_config.clone();
        let room = |node| {
            if node == self.node {
                own
            } else {
                self.facts.room(node).unwrap_or_default()
            }
        };
        Some(cluster_room(membership.membership().get_joint_config(), room))
    }

    /// Hands the lead to the member with room whose log is nearest, if there is one.
    async fn hand_over(&self) -> bool {
        let target = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters: BTreeSet<_> = metrics.membership_config.voter_ids().collect();
            let replicated = metrics.replication.iter().flatten();
            let fit = |node: &NodeId| voters.contains(node) && self.facts.room(*node) == Some(Room::Enough);
            replicated
                .filter(|(node, _)| **node != self.node && fit(node))
                .max_by_key(|(_, matched)| matched.map(|matched| matched.index))
                .map(|(node, _)| *node)
        };
        let Some(target) = target else { return false };
        tracing::warn!(
            node = self.node,
            to = target,
            "the disk is nearly full; the lead is handed over"
        );
        // Raft reports what stands against it.
        let _asked = self.raft.trigger().transfer_leader(target).await;
        true
    }
}

fn report(was: Room, now: Room) {
    metrics::gauge!("muster_disk_refusing").set(f64::from(now as u8));
    match now {
        Room::Enough => tracing::info!("commands are taken again"),
        Room::Low => tracing::warn!(
            ?was,
            "a majority lacks room on its disks: new jobs are refused, all else goes on"
        ),
        Room::Out => tracing::error!(?was, "disks are full: all commands are refused, reads go on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_with_room_is_enough() {
        use Room::{Enough, Low, Out};
        let three = [BTreeSet::from([1, 2, 3])];
        for (rooms, expected) in [
            ([Enough, Enough, Enough], Enough),
            ([Out, Enough, Enough], Enough),
            ([Enough, Low, Enough], Enough),
            ([Enough, Low, Low], Low),
            ([Enough, Low, Out], Low),
            ([Enough, Out, Out], Out),
            ([Out, Out, Out], Out),
        ] {
            let room = |node: NodeId| rooms[node as usize - 1];
            assert_eq!(cluster_room(&three, room), expected, "{rooms:?}");
        }
        // In a change of members both sets must have a majority.
        let joint = [BTreeSet::from([1, 2, 3]), BTreeSet::from([4, 5, 6])];
        assert_eq!(cluster_room(&joint, |node| if node > 4 { Low } else { Enough }), Low);
        assert_eq!(cluster_room(&[BTreeSet::from([1])], |_| Out), Out);
    }

    #[test]
    fn the_lead_stays_while_disks_fill_up_together() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut patience = Patience::default();
        assert!(!patience.over(true, at(0)));
        assert!(!patience.over(true, at(1_900)));
        assert!(!patience.over(false, at(1_950)), "now the others are full, too");
        assert!(!patience.over(true, at(2_000)) && !patience.over(true, at(3_900)));
        assert!(patience.over(true, at(4_000)));
        patience.handed_over(at(4_000));
        assert!(!patience.over(true, at(6_500)), "it was asked for just now");
        assert!(patience.over(true, at(7_100)));
    }

    #[test]
    fn new_jobs_are_refused_first() {
        let gate = Gate::default();
        let enqueue = || {
            vec![
                Command::Tick,
                Command::EnqueueMany {
                    jobs: Vec::new(),
                    all_or_nothing: true,
                },
            ]
        };
        for (room, jobs, others) in [
            (Room::Enough, false, false),
            (Room::Low, true, false),
            (Room::Out, true, true),
        ] {
            gate.set(room);
            assert_eq!(
                (gate.refuses(&enqueue()), gate.refuses(&[Command::Tick])),
                (jobs, others),
                "{room:?}"
            );
        }
    }
}

//! What nodes tell each other about themselves, twice a second: room on their disks, hashes of their state, what their
//! program understands. Nothing of it is logged; a lost message does no harm, the next one says it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::NodeId;
use muster_proto::peer as wire;
use muster_store::{Room, Space};
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::peer::{Channels, Lane};
use crate::types::OpenRaft;

/// Between two messages to a node.
pub(crate) const EVERY: Duration = Duration::from_millis(500);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(1);
/// What is older than this may be over.
const FRESH: Duration = Duration::from_secs(3);

/// What this node says of itself and has heard from the others. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Facts(Arc<Inner>);

#[derive(Default)]
struct Inner {
    own: Mutex<wire::NodeFacts>,
    heard: Mutex<BTreeMap<NodeId, Heard>>,
}

struct Heard {
    at: Instant,
    facts: wire::NodeFacts,
}

impl Facts {
    /// For a node that understands levels up to `level_max`.
    pub(crate) fn new(level_max: u32) -> Self {
        let facts = Self::default();
        {
            let mut own = facts.0.own.lock();
            own.level_max = level_max;
            env!("CARGO_PKG_VERSION").clone_into(&mut own.version);
        }
        facts
    }

    /// What this node tells.
    pub(crate) fn own(&self) -> wire::NodeFacts {
        self.0.own.lock().clone()
    }

    /// Notes how much room this node has.
    pub(crate) fn set_space(&self, space: Space) {
        let mut own = self.0.own.lock();
        own.disk_free = space.free;
        own.disk_reserve = space.reserve;
        own.set_room(match space.room {
            Room::Enough => wire::Room::Enough,
            Room::Low => wire::Room::Low,
            Room::Out => wire::Room::Out,
        });
    }

    /// Notes how much memory live jobs may take here.
    pub(crate) fn set_jobs_memory(&self, bytes: u64) {
        self.0.own.lock().jobs_memory = bytes;
    }

    /// Notes hashes of this node's state.
    pub(crate) fn set_hashes(&self, hashes: Vec<wire::StateHash>) {
        self.0.own.lock().hashes = hashes;
    }

    /// Notes what another node says.
    pub(crate) fn note(&self, from: NodeId, facts: wire::NodeFacts) {
        let heard = Heard {
            at: Instant::now(),
            facts,
        };
        self.0.heard.lock().insert(from, heard);
    }

    /// What a node said lately.
    pub(crate) fn of(&self, node: NodeId) -> Option<wire::NodeFacts> {
        let heard = self.0.heard.lock();
        let heard = heard.get(&node).filter(|heard| heard.at.elapsed() < FRESH)?;
        Some(heard.facts.clone())
    }

    /// How much memory live jobs may take on another node, by its last word: one that is away comes back with its bound.
    pub(crate) fn jobs_memory(&self, node: NodeId) -> Option<u64> {
        self.0.heard.lock().get(&node).map(|heard| heard.facts.jobs_memory)
    }

    /// Room of another node, as far as it is known.
    pub(crate) fn room(&self, node: NodeId) -> Option<Room> {
        Some(match self.of(node)?.room() {
            wire::Room::Enough => Room::Enough,
            wire::Room::Low => Room::Low,
            wire::Room::Out => Room::Out,
        })
    }

    /// Tells all members and hears from them, until `stop`.
    pub(crate) async fn exchange(self, node: NodeId, raft: OpenRaft, channels: Channels, stop: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            let members = raft.server_metrics().borrow_watched().membership_config.clone();
            for (other, address) in members.nodes().filter(|(other, _)| **other != node) {
                // An address that cannot be used is reported by those that need it.
                let Ok(client) = channels.client(*other, Some(address), Lane::Control) else {
                    continue;
                };
                let message = wire::ExchangeRequest {
                    header: Some(channels.header(*other)),
                    facts: Some(self.own()),
                };
                tokio::spawn(self.clone().tell(*other, client, message));
            }
        }
    }

    async fn tell(self, other: NodeId, mut client: crate::peer::Client, message: wire::ExchangeRequest) {
        let mut request = Request::new(message);
        request.set_timeout(ANSWER);
        // A node that does not answer is reported by those that watch over replication.
        if let Ok(Ok(reply)) = tokio::time::timeout(ANSWER, client.exchange(request)).await
            && let Some(facts) = reply.into_inner().facts
        {
            self.note(other, facts);
        }
    }
}

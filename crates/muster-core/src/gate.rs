//! Gates: the limiters of single names, and the lanes that wait at them.

use std::collections::BTreeSet;

use crate::class::Place;
use crate::gcra;
use crate::ids::{Name, Timestamp};
use crate::lane::Turn;
use crate::limit::{LimitLevel, LimitRule, RateLimit};

/// Owner of the gate of a queue that is gone: no queue's number.
pub(crate) const NOBODY: u32 = u32::MAX;
/// Number of the gate of the whole cluster.
pub(crate) const CLUSTER: u32 = 0;

/// What a gate is of. Ordered so that timers of the same instant fire in the same order everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GateKey {
    pub(crate) level: LimitLevel,
    /// Number of the tenant; 0 for the cluster.
    pub(crate) tenant: u32,
    /// Name of the queue, kind or key; empty for cluster and tenant.
    pub(crate) name: Name,
}

/// The limit in force at a gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) rate: Option<RateLimit>,
    /// 0 = none.
    pub(crate) concurrency: u32,
}

impl Limit {
    pub(crate) fn of(rule: Option<&LimitRule>) -> Self {
        rule.map_or_else(Self::default, |rule| Self {
            rate: rule.rate,
            concurrency: rule.concurrency,
        })
    }

    pub(crate) fn is_none(&self) -> bool {
        self.rate.is_none() && self.concurrency == 0
    }
}

/// The limiter of one name. How many run is a count of job states, never taken or given back by itself; of the rate there
/// is the theoretical arrival time and nothing else.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) key: GateKey,
    /// Number of the tenant or queue whose own it is, or `NOBODY`; of kinds and keys, of the tenant.
    pub(crate) owner: u32,
    /// Hash of the key, as it goes into the hash of effects.
    pub(crate) digest: u64,
    pub(crate) limit: Limit,
    /// Theoretical arrival time of the rate; 0 = full, or no rate.
    pub(crate) arrival: u128,
    /// Closed until a `Tick` at or after this time, because the next start would have come too early; 0 = not.
    pub(crate) shut_until: Timestamp,
    /// The same, by a worker's word.
    pub(crate) throttled_until: Timestamp,
    /// An operator paused it, and why. Of kinds; queues are paused by settings of their own.
    pub(crate) paused: Option<Name>,
    /// Running jobs, of kinds and keys; those of wider levels are counted elsewhere.
    pub(crate) running: u32,
    /// Available jobs, of kinds and keys.
    pub(crate) waiting: u64,
    /// Lanes that lead through it, or for cluster, tenant and queue: 1, as long as these exist.
    pub(crate) lanes: u32,
    /// When its timer is set; 0 = it has none.
    pub(crate) timer: Timestamp,
    pub(crate) room: Room,
    /// Its row is to be written or deleted.
    pub(crate) dirty: bool,
    /// A row of it has been taken.
    pub(crate) written: bool,
}

impl Gate {
    pub(crate) fn new(key: GateKey, limit: Limit, owner: u32) -> Self {
        let name = crate::hash::text(&key.name);
        let digest = name ^ (u64::from(key.tenant) << 8 | key.level as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            key,
            owner,
            digest,
            limit,
            arrival: 0,
            shut_until: 0,
            throttled_until: 0,
            paused: None,
            running: 0,
            waiting: 0,
            lanes: 0,
            timer: 0,
            room: Room::default(),
            dirty: false,
            written: false,
        }
    }

    /// It is worth asking.
    pub(crate) fn may_refuse(&self) -> bool {
        !self.limit.is_none() || self.closed_until() != 0 || self.paused.is_some()
    }

    /// Until when a `Tick` must have come before anything starts; 0 = it is not closed.
    pub(crate) fn closed_until(&self) -> Timestamp {
        self.shut_until.max(self.throttled_until)
    }

    /// As many run as may.
    pub(crate) fn is_full(&self, running: u64) -> bool {
        self.limit.concurrency != 0 && running >= u64::from(self.limit.concurrency)
    }

    /// It costs more than can ever be taken at once.
    pub(crate) fn never(&self, cost: u32) -> bool {
        self.limit.rate.is_some_and(|rate| cost > rate.burst)
    }

    /// The first time at which its rate admits a start.
    pub(crate) fn admits_at(&self, cost: u32) -> Timestamp {
        self.limit
            .rate
            .map_or(0, |rate| gcra::admits_at(&rate, self.arrival, cost))
    }

    /// There is something about it that its lanes do not tell: a row.
    pub(crate) fn kept(&self) -> bool {
        self.arrival != 0 || self.closed_until() != 0 || self.paused.is_some()
    }

    /// When it is to be looked at again: to open it, or, when no lane leads through it any more, to forget it once its
    /// bucket is full.
    pub(crate) fn due(&self) -> Timestamp {
        let closed = self.closed_until();
        if closed != 0 || self.lanes > 0 {
            return closed;
        }
        match &self.limit.rate {
            Some(rate) if self.arrival != 0 => gcra::full_at(rate, self.arrival).max(1),
            _ => 0,
        }
    }
}

/// Lanes that were refused at a gate and wait there. They cost nothing until the gate opens; then of each worker class,
/// number of slots and line the one whose turn is first is let go, and the next one when that one has started or waits elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// By class that serves them, slots that their jobs take and line of their tenant, so that one that waits for more slots or
    /// for its line's turn holds up no others. All are few.
    places: Vec<(Place, BTreeSet<(Turn, u32)>)>,
    /// Lanes whose jobs cost more than the burst: they wait for another rule.
    pub(crate) never: BTreeSet<u32>,
}

impl Room {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(crate) fn insert(&mut self, place: Place, turn: Turn, lane: u32) {
        match self.places.iter_mut().find(|(own, _)| *own == place) {
            Some((_, lanes)) => {
                lanes.insert((turn, lane));
            }
            None => self.places.push((place, BTreeSet::from([(turn, lane)]))),
        }
    }

    pub(crate) fn remove(&mut self, place: Place, turn: Turn, lane: u32) {
        if let Some(at) = self.places.iter().position(|(own, _)| *own == place) {
            self.places[at].1.remove(&(turn, lane));
            if self.places[at].1.is_empty() {
                self.places.swap_remove(at);
            }
        }
    }

    pub(crate) fn places_len(&self) -> usize {
        self.places.len()
    }

    /// Places whose lanes wait here.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.places.iter().map(|(place, _)| *place)
    }

    /// The first lane of the `at`-th place.
    pub(crate) fn first_of(&self, at: usize) -> Option<(Turn, u32)> {
        self.places.get(at)?.1.first().copied()
    }

    /// The lanes of one place in their turn.
    pub(crate) fn lanes(&self, place: Place) -> impl Iterator<Item = (Turn, u32)> {
        let lanes = self.places.iter().find(|(own, _)| *own == place);
        lanes.into_iter().flat_map(|(_, lanes)| lanes.iter().copied())
    }
}

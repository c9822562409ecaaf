//! Lanes: jobs alike for every scheduling question.

use crate::fifo::{Fifo, Place};
use crate::ids::{Millis, Timestamp};
use crate::job::Priority;
use crate::limit::JobLimits;

/// Turn of a job or lane within its line of its tenant: (`available_at + level × aging`, sequence). Least first.
pub(crate) type Turn = (u64, u64);

/// The line of the queues without weights.
pub(crate) const COMMON: u32 = u32::MAX;

/// Where a lane stands that could start a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Before the classes that serve it.
    #[default]
    Shown,
    /// In the room of this gate.
    Parked(u32),
    /// In the room of this gate, whose burst is smaller than what its jobs cost.
    Never(u32),
}

/// The jobs of one tenant, route, cost and set of limit keys. Made with the first live job, gone with the last.
///
/// Each priority level has its own line in order of availability, so that a change of the tenant's aging touches one
/// job per level and not all of them.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) tenant: u32,
    pub(crate) queue: u32,
    pub(crate) route: u32,
    /// Number of the kind's mean run time within the tenant.
    pub(crate) cost: u32,
    /// Slots of a worker that each of its jobs takes.
    pub(crate) slots: u32,
    /// The line within its tenant: the number of its queue if that has a weight, else `COMMON`.
    pub(crate) line: u32,
    /// What its jobs take of limits.
    pub(crate) limits: JobLimits,
    /// Gate of the kind.
    pub(crate) kind_gate: u32,
    /// Gates of the limit keys, in their order.
    pub(crate) key_gates: Box<[u32]>,
    /// The next lane with the same hash.
    pub(crate) next: Option<u32>,
    /// Position among the queue's lanes.
    pub(crate) held: u32,
    /// Live jobs, whether they may start or not.
    pub(crate) jobs: u32,
    /// Classes that serve it.
    pub(crate) classes: Vec<u32>,
    /// The turn of its next job; `None` while it has none that is available.
    pub(crate) head: Option<Turn>,
    pub(crate) stand: Stand,
    levels: [Fifo; Priority::ALL.len()],
}

impl Lane {
    pub(crate) fn new(tenant: u32, queue: u32, route: u32, limits: JobLimits) -> Self {
        Self {
            tenant,
            queue,
            route,
            cost: 0,
            slots: 1,
            line: COMMON,
            limits,
            kind_gate: 0,
            key_gates: Box::default(),
            next: None,
            held: 0,
            jobs: 0,
            classes: Vec::new(),
            head: None,
            stand: Stand::default(),
            levels: Default::default(),
        }
    }

    /// Gates of kind and keys, with what a start takes of their rates. Those of queue, tenant and cluster are found
    /// otherwise.
    pub(crate) fn gates(&self) -> impl Iterator<Item = (u32, u32)> {
        let keys = self.key_gates.iter().zip(&self.limits.keys);
        std::iter::once((self.kind_gate, self.limits.cost)).chain(keys.map(|(gate, key)| (*gate, key.cost)))
    }

    pub(crate) fn insert(&mut self, priority: Priority, place: Place) {
        self.levels[priority as usize].insert(place);
    }

    pub(crate) fn remove(&mut self, priority: Priority, place: Place) {
        self.levels[priority as usize].remove(place);
    }

    /// The next job: its turn and number.
    pub(crate) fn first(&self, aging: Millis) -> Option<(Turn, u32)> {
        Priority::ALL
            .iter()
            .filter_map(|level| {
                let (at, sequence, job) = self.levels[*level as usize].first()?;
                Some(((at.saturating_add(level.level().saturating_mul(aging)), sequence), job))
            })
            .min()
    }

    /// The next few jobs: their turns and numbers, in no order.
    pub(crate) fn first_few(&self, aging: Millis, few: usize) -> Vec<(Turn, u32)> {
        let levels = Priority::ALL.iter().flat_map(|level| {
            let turn = move |(at, sequence, job): Place| {
                ((at.saturating_add(level.level().saturating_mul(aging)), sequence), job)
            };
            self.levels[*level as usize].iter().take(few).map(turn)
        });
        levels.collect()
    }

    /// How many jobs have an earlier turn, and whether they were counted to the end: see [`Fifo::before`].
    pub(crate) fn before(&self, turn: Turn, aging: Millis, looks: usize) -> (u64, bool) {
        let (mut before, mut exact) = (0, true);
        for level in Priority::ALL {
            let Some(at) = turn.0.checked_sub(level.level().saturating_mul(aging)) else {
                continue;
            };
            let (more, counted) = self.levels[level as usize].before((at, turn.1, 0), looks);
            before += more;
            exact &= counted;
        }
        (before, exact)
    }

    /// Since when the oldest job waits.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.levels.iter().filter_map(|level| Some(level.first()?.0)).min()
    }

    /// Jobs that may start.
    pub(crate) fn available(&self) -> usize {
        self.levels.iter().map(Fifo::len).sum()
    }

    /// Jobs that may start, with their levels.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Priority, Place)> {
        Priority::ALL
            .iter()
            .flat_map(|level| self.levels[*level as usize].iter().map(|place| (*level, place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_age() {
        let mut lane = Lane::new(0, 0, 0, JobLimits::default());
        lane.insert(Priority::Bulk, (0, 1, 1));
        lane.insert(Priority::Normal, (15, 2, 2));
        lane.insert(Priority::Critical, (45, 3, 3));
        for (aging, expected) in [(0, 1), (1, 1), (10, 2), (30, 3)] {
            assert_eq!(lane.first(aging).unwrap().1, expected, "aging {aging}");
        }
        assert_eq!((lane.oldest(), lane.available()), (Some(0), 3));
        for (aging, expected) in [(0, [0, 1, 2]), (10, [1, 0, 2]), (30, [2, 1, 0])] {
            let turns = [(4 * aging, 1), (15 + 2 * aging, 2), (45, 3)];
            assert_eq!(
                turns.map(|turn| lane.before(turn, aging, 10)),
                expected.map(|before| (before, true))
            );
        }
        assert_eq!(lane.first(u64::MAX).unwrap().1, 3);
    }
}

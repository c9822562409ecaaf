//! Gates: limits, counts, timers, and who waits in their rooms.

use std::collections::{BTreeMap, BTreeSet};

use super::{holds, same};
use crate::class::Place;
use crate::core::Core;
use crate::gate::{CLUSTER, Gate, NOBODY};
use crate::job::JobState;
use crate::lane::Stand;
use crate::limit::LimitLevel;

fn called(gate: &Gate) -> String {
    format!("{} {:?}", gate.key.level.as_str(), gate.key.name)
}

impl Core {
    pub(super) fn check_gates(&self) -> Result<(), String> {
        let (mut running, mut waiting, mut lanes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let add = |map: &mut BTreeMap<u32, u64>, gate| *map.entry(gate).or_default() += 1;
        for (_, job) in self.jobs.iter() {
            for (gate, _) in self.lanes[job.lane].gates() {
                match job.state {
                    JobState::Running => add(&mut running, gate),
                    JobState::Available => add(&mut waiting, gate),
                    _ => {}
                }
            }
        }
        for (_, lane) in self.lanes.iter() {
            lane.gates().for_each(|(gate, _)| add(&mut lanes, gate));
        }
        for (_, queue) in self.queues.iter() {
            add(&mut lanes, queue.gate);
        }
        for tenant in &self.tenants {
            add(&mut lanes, tenant.gate);
        }
        add(&mut lanes, CLUSTER);
        same("limiters by name", self.gate_of.len(), self.gates.len())?;
        let mut timers = BTreeSet::new();
        let mut paused: BTreeMap<u32, BTreeSet<_>> = BTreeMap::new();
        let mut limited = self.queues.iter().filter(|(_, queue)| queue.paused).count();
        for (number, gate) in self.gates.iter() {
            let name = called(gate);
            same("a limiter by name", self.gate_of.get(&gate.key), Some(&number))?;
            same(&format!("limit of {name}"), gate.limit, self.limit_of(&gate.key))?;
            let count = |map: &BTreeMap<u32, u64>| map.get(&number).copied().unwrap_or(0);
            same(
                &format!("running behind {name}"),
                u64::from(gate.running),
                count(&running),
            )?;
            same(&format!("waiting before {name}"), gate.waiting, count(&waiting))?;
            same(&format!("lanes through {name}"), u64::from(gate.lanes), count(&lanes))?;
            holds(gate.lanes > 0 || gate.kept(), || {
                format!("nothing leads through {name}")
            })?;
            holds(
                gate.limit.rate.is_some() || (gate.arrival == 0 && gate.shut_until == 0),
                || format!("{name} has used a rate that it does not have"),
            )?;
            same(&format!("timer of {name}"), gate.timer, gate.due())?;
            if gate.timer != 0 {
                timers.insert((gate.timer, gate.key.clone()));
            }
            limited += usize::from(gate.may_refuse());
            if gate.paused.is_some() {
                let kind = gate.key.level == LimitLevel::Kind;
                holds(kind, || format!("{name} is paused by itself and no kind"))?;
                paused.entry(gate.key.tenant).or_default().insert(gate.key.name.clone());
            }
            let owner = match gate.key.level {
                LimitLevel::Queue => {
                    let queues = &self.tenants[gate.key.tenant as usize].queues;
                    queues.get(&gate.key.name).copied().unwrap_or(NOBODY)
                }
                _ => gate.key.tenant,
            };
            same(&format!("owner of {name}"), gate.owner, owner)?;
        }
        for (number, tenant) in self.tenants.iter().enumerate() {
            let counted = paused.remove(&(number as u32)).unwrap_or_default();
            same("paused kinds", &tenant.paused_kinds, &counted)?;
        }
        same("timers of limiters", &self.gate_timers, &timers)?;
        same("what may refuse", self.limited as usize, limited)
    }

    /// Every parked lane is in the room of one of its gates, which refuses it, or another stands for it.
    pub(super) fn check_rooms(&self) -> Result<(), String> {
        let mut rooms: BTreeMap<(u32, Place), BTreeSet<_>> = BTreeMap::new();
        let mut never: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (number, lane) in self.lanes.iter() {
            match lane.stand {
                Stand::Shown => {}
                Stand::Parked(gate) => {
                    let own = self.queues[lane.queue].gate == gate || lane.gates().any(|(own, _)| own == gate);
                    holds(own, || "a lane is parked at a gate that is not its own".to_owned())?;
                    let turn = lane.head.ok_or("a lane without an available job is parked")?;
                    holds(!lane.classes.is_empty(), || {
                        "a lane that nobody serves is parked".to_owned()
                    })?;
                    for class in &lane.classes {
                        rooms
                            .entry((gate, (*class, lane.slots, lane.line)))
                            .or_default()
                            .insert((turn, number));
                    }
                }
                Stand::Never(gate) => {
                    let cost = self.gates_of(lane).find(|(own, _)| *own == gate).map(|(_, cost)| cost);
                    let refused = cost.is_some_and(|cost| self.gates[gate].never(cost));
                    holds(refused && lane.head.is_some(), || {
                        "a lane waits for another rule than it must".to_owned()
                    })?;
                    never.entry(gate).or_default().insert(number);
                }
            }
        }
        let parked = self.lanes.iter().filter(|(_, lane)| lane.stand != Stand::Shown).count();
        same("parked lanes", self.parked as usize, parked)?;
        for (number, gate) in self.gates.iter() {
            let counted = never.remove(&number).unwrap_or_default();
            same(&format!("too costly at {}", called(gate)), &gate.room.never, &counted)?;
            for place in gate.room.places() {
                let waiting: BTreeSet<_> = gate.room.lanes(place).collect();
                let counted = rooms.remove(&(number, place)).unwrap_or_default();
                same(&format!("waiting at {}", called(gate)), &waiting, &counted)?;
                if self.is_closed(number) {
                    continue;
                }
                let first = waiting.first().map(|(turn, _)| *turn);
                let stands_for = self.lanes.iter().any(|(_, lane)| {
                    lane.stand == Stand::Shown
                        && lane.head.is_some()
                        && lane.head <= first
                        && lane.classes.contains(&place.0)
                        && (lane.slots, lane.line) == (place.1, place.2)
                        && self.gates_of(lane).any(|(own, _)| own == number)
                });
                holds(stands_for, || {
                    format!("{} is open and nobody stands for its room", called(gate))
                })?;
            }
        }
        holds(rooms.is_empty() && never.is_empty(), || "a room is missing".to_owned())
    }
}

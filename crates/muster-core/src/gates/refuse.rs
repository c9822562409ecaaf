//! Who refuses a start.

use crate::core::Core;
use crate::defect::Defect;
use crate::gate::{CLUSTER, Gate};
use crate::gcra;
use crate::ids::{Name, Timestamp};
use crate::lane::{Lane, Stand};
use crate::limit::LimitLevel;

impl Core {
    /// Nothing starts through this gate, whatever it costs.
    pub(crate) fn is_closed(&self, number: u32) -> bool {
        let gate = &self.gates[number];
        if gate.closed_until() != 0 {
            return true;
        }
        self.is_paused(gate) || self.is_full(gate)
    }

    pub(crate) fn is_paused(&self, gate: &Gate) -> bool {
        let ignored = self.has(Defect::PauseIgnored)
            || (gate.key.level == LimitLevel::Kind && self.has(Defect::KindPauseIgnored));
        !ignored && self.pause_note(gate).is_some()
    }

    /// Why an operator lets nothing start through this gate, if one does so.
    pub(crate) fn pause_note<'a>(&'a self, gate: &'a Gate) -> Option<&'a Name> {
        if gate.key.level == LimitLevel::Queue {
            let queue = self.queues.get(gate.owner).filter(|queue| queue.paused);
            return queue.map(|queue| &queue.note);
        }
        gate.paused.as_ref()
    }

    pub(crate) fn is_full(&self, gate: &Gate) -> bool {
        if gate.limit.concurrency == 0 || self.has(Defect::ConcurrencyIgnored) {
            return false;
        }
        let beyond = u64::from(self.has(Defect::ConcurrencyOffByOne));
        gate.is_full(self.running_at(gate).saturating_sub(beyond))
    }

    /// How many run behind this gate.
    pub(crate) fn running_at(&self, gate: &Gate) -> u64 {
        match gate.key.level {
            LimitLevel::Cluster => self.live.running,
            LimitLevel::Tenant => self.tenants[gate.owner as usize].live.running,
            LimitLevel::Queue => self.queues.get(gate.owner).map_or(0, |queue| queue.live.running),
            LimitLevel::Kind | LimitLevel::Key => u64::from(gate.running),
        }
    }

    /// The tenant's own gate is open.
    pub(crate) fn tenant_is_open(&self, number: u32) -> bool {
        self.limited == 0 || !self.is_closed(self.tenants[number as usize].gate)
    }

    /// The `i`-th gate of a lane, narrowest first: keys, kind, queue, tenant, cluster; with what a start takes of its rate.
    pub(super) fn gate_at(&self, lane: &Lane, i: usize) -> Option<(u32, u32)> {
        let cost = lane.limits.cost;
        let keys = self.keys_of(lane);
        match i.checked_sub(keys) {
            None => Some((lane.key_gates[i], lane.limits.keys[i].cost)),
            Some(0) => Some((lane.kind_gate, cost)),
            Some(1) => Some((self.queues[lane.queue].gate, cost)),
            Some(2) => Some((self.tenants[lane.tenant as usize].gate, cost)),
            Some(3) => Some((CLUSTER, cost)),
            Some(_) => None,
        }
    }

    fn keys_of(&self, lane: &Lane) -> usize {
        let most = if self.has(Defect::FirstKeyOnly) { 1 } else { usize::MAX };
        lane.key_gates.len().min(most)
    }

    /// All gates of a lane, narrowest first.
    pub(crate) fn gates_of<'a>(&'a self, lane: &'a Lane) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        (0..).map_while(|i| self.gate_at(lane, i))
    }

    /// Where the lane would be refused without looking at rates. Gates of tenant and cluster are not looked at but for
    /// their bursts: closed, they hold up the tenant or everything, not the lane.
    pub(crate) fn closed_gate(&self, number: u32) -> Option<Stand> {
        if self.limited == 0 {
            return None;
        }
        let lane = &self.lanes[number];
        let own = self.gates_of(lane).take(self.keys_of(lane) + 2);
        if let Some((closed, _)) = own.into_iter().find(|(gate, _)| self.is_closed(*gate)) {
            return Some(Stand::Parked(closed));
        }
        let never = self.gates_of(lane).find(|(gate, cost)| self.gates[*gate].never(*cost));
        never.map(|(gate, _)| Stand::Never(gate))
    }

    /// Of the rates that refuse a start of this lane now, the one that admits it last, and when.
    pub(crate) fn refusing_rate(&self, number: u32) -> Option<(u32, Timestamp)> {
        if self.limited == 0 {
            return None;
        }
        let early = if self.has(Defect::RateAheadOfTime) { 100 } else { 0 };
        let mut last = None;
        for (gate, cost) in self.gates_of(&self.lanes[number]) {
            let at = self.gates[gate].admits_at(cost);
            if at > self.meta.now + early && last.is_none_or(|(_, latest)| at > latest) {
                last = Some((gate, at));
            }
        }
        last
    }

    /// Takes the tokens of a start from all rates of its lane.
    pub(crate) fn take_tokens(&mut self, lane: u32) {
        if self.limited == 0 || self.has(Defect::RateNotSpent) {
            return;
        }
        let now = self.meta.now;
        let cheap = self.has(Defect::CostIgnored);
        let mut i = 0;
        while let Some((number, cost)) = self.gate_at(&self.lanes[lane], i) {
            i += 1;
            let gate = &mut self.gates[number];
            if let Some(rate) = gate.limit.rate {
                gate.arrival = gcra::take(&rate, gate.arrival, now, if cheap { 1 } else { cost });
                self.note_gate(number);
            }
        }
    }
}

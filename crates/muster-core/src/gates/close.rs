//! Gates that close and open.

use crate::core::Core;
use crate::defect::Defect;
use crate::gate::{Gate, GateKey};
use crate::gcra;
use crate::hash::Effect;
use crate::ids::Timestamp;
use crate::limit::LimitLevel;
use crate::reply::Event;

impl Core {
    /// A start would have come too early: nothing starts here before `at`.
    pub(crate) fn shut(&mut self, number: u32, at: Timestamp) {
        let digest = self.gates[number].digest;
        self.effects.note(Effect::Shut, digest, at);
        self.change_gate(number, |gate| gate.shut_until = at);
        self.announce_closed(number, at, false);
    }

    /// A worker says that nothing should start here before `at`.
    pub(crate) fn throttle(&mut self, number: u32, at: Timestamp) {
        let digest = self.gates[number].digest;
        self.effects.note(Effect::Throttled, digest, at);
        let until = self.gates[number].throttled_until.max(at);
        if !self.has(Defect::ThrottleIgnored) {
            self.change_gate(number, |gate| gate.throttled_until = until);
        }
        self.announce_closed(number, until, true);
    }

    fn announce_closed(&mut self, number: u32, until: Timestamp, throttled: bool) {
        let key = &self.gates[number].key;
        self.entry.events.push(Event::LimitClosed {
            level: key.level,
            tenant: self.gate_tenant(key),
            name: key.name.clone(),
            until,
            throttled,
        });
    }

    /// The gate's time has come.
    pub(crate) fn gate_due(&mut self, key: &GateKey) {
        let Some(number) = self.gate_of.get(key).copied() else {
            return;
        };
        let now = self.meta.now;
        self.gates[number].timer = 0;
        self.change_gate(number, |gate| {
            // A gate that only waited to be forgotten is full by now.
            if gate.closed_until() == 0 {
                gate.arrival = 0;
            }
            if gate.shut_until <= now {
                gate.shut_until = 0;
            }
            if gate.throttled_until <= now {
                gate.throttled_until = 0;
            }
        });
        self.drop_gate_if_new(number);
    }

    /// Changes what decides whether the gate refuses, and does what follows from it.
    pub(crate) fn change_gate(&mut self, number: u32, change: impl FnOnce(&mut Gate)) {
        let was_closed = self.is_closed(number);
        let gate = &mut self.gates[number];
        let (may_refuse, timer) = (gate.may_refuse(), gate.timer);
        change(gate);
        let due = gate.due();
        if due != timer {
            gate.timer = due;
            let key = gate.key.clone();
            if timer != 0 {
                self.gate_timers.remove(&(timer, key.clone()));
            }
            if due != 0 {
                self.gate_timers.insert((due, key));
            }
        }
        match (may_refuse, self.gates[number].may_refuse()) {
            (false, true) => self.limited += 1,
            (true, false) => self.limited -= 1,
            _ => {}
        }
        self.note_gate(number);
        self.follow_gate(number, was_closed);
    }

    /// Call after a gate may have opened or closed, with how it stood before.
    pub(crate) fn follow_gate(&mut self, number: u32, was_closed: bool) {
        let closed = self.is_closed(number);
        let gate = &self.gates[number];
        match gate.key.level {
            LimitLevel::Cluster if was_closed && !closed => self.heat_all(),
            LimitLevel::Cluster => {}
            LimitLevel::Tenant => {
                let owner = gate.owner;
                self.refresh_tenant(owner, !was_closed);
            }
            _ if !closed => self.refill(number),
            _ => {}
        }
    }

    /// The rule book may have another limit for the name.
    pub(crate) fn refresh_limit(&mut self, number: u32) {
        let gate = &self.gates[number];
        let (old, new) = (gate.limit, self.limit_of(&gate.key));
        if old == new {
            return;
        }
        let now = self.meta.now;
        self.change_gate(number, |gate| {
            gate.limit = new;
            if old.rate != new.rate {
                // If the new rate refuses as well, it shuts the gate again when it is tried.
                gate.arrival = gcra::convert(old.rate.as_ref(), new.rate.as_ref(), gate.arrival, now);
                gate.shut_until = 0;
            }
        });
        while let Some(lane) = self.gates[number].room.never.first().copied() {
            self.show(lane);
        }
        self.drop_gate_if_new(number);
    }
}

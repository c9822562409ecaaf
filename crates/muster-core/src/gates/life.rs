//! How long gates live, and the limits that apply to them.

use crate::core::Core;
use crate::defect::Defect;
use crate::gate::{Gate, GateKey, Limit};
use crate::gcra;
use crate::ids::Name;
use crate::limit::LimitLevel;

impl Core {
    /// The gate of a name; made if it is not there. `owner`: number of the tenant or queue whose own it is.
    pub(crate) fn gate_number(&mut self, level: LimitLevel, tenant: u32, name: &Name, owner: u32) -> u32 {
        let key = GateKey {
            level,
            tenant,
            name: name.clone(),
        };
        if let Some(number) = self.gate_of.get(&key) {
            return *number;
        }
        let limit = self.limit_of(&key);
        let mut gate = Gate::new(key.clone(), limit, owner);
        let back = self.dirty.gates_deleted.remove(&self.gate_row_key(&key));
        gate.written = back;
        self.limited += u32::from(gate.may_refuse());
        let number = self.gates.insert(gate);
        self.gate_of.insert(key, number);
        self.note_gate(number);
        number
    }

    /// The limit that the rule book has for a name.
    pub(crate) fn limit_of(&self, key: &GateKey) -> Limit {
        let tenant = match key.level {
            LimitLevel::Cluster => "",
            _ => &self.tenants[key.tenant as usize].row.name,
        };
        let mut rules = self.book.of(key.level, tenant, &key.name);
        if self.has(Defect::WidestRuleWins) {
            return Limit::of(rules.last());
        }
        Limit::of(rules.next())
    }

    /// Makes the gate of a new tenant.
    pub(crate) fn tenant_gate(&mut self, number: u32) {
        let gate = self.gate_number(LimitLevel::Tenant, number, &"".into(), number);
        self.hold_gate(gate);
        self.tenants[number as usize].gate = gate;
    }

    /// Something leads through the gate.
    pub(crate) fn hold_gate(&mut self, number: u32) {
        if self.gates[number].lanes == 0 {
            self.change_gate(number, |gate| gate.lanes = 1);
        } else {
            self.gates[number].lanes += 1;
        }
    }

    /// Something leads through the gate no longer. Without any it goes, unless there is something to remember.
    pub(crate) fn release_gate(&mut self, number: u32) {
        if self.gates[number].lanes > 1 {
            self.gates[number].lanes -= 1;
            return;
        }
        let now = self.meta.now;
        self.change_gate(number, |gate| {
            gate.lanes = 0;
            // It was shut for a lane that is gone.
            gate.shut_until = 0;
            if let Some(rate) = &gate.limit.rate
                && gcra::full_at(rate, gate.arrival) <= now
            {
                gate.arrival = 0;
            }
        });
        self.drop_gate_if_new(number);
    }

    /// Frees a gate that nothing leads through and that is as new.
    pub(crate) fn drop_gate_if_new(&mut self, number: u32) {
        let gate = &self.gates[number];
        if gate.lanes > 0 || gate.kept() {
            return;
        }
        let row = self.gate_row_key(&gate.key);
        if let Some(gate) = self.gates.remove(number) {
            self.gate_of.remove(&gate.key);
            self.limited -= u32::from(gate.may_refuse());
            self.dirty.drop_gate(gate.dirty, gate.written, row);
        }
    }
}

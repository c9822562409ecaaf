//! The rule book, and keys that workers reported as throttled.

use super::out_of_range;
use super::quota::check_rate;
use crate::book::is_for;
use crate::core::Core;
use crate::gate::GateKey;
use crate::hash::{Effect, text};
use crate::ids::Name;
use crate::limit::{LIMIT_RULES_MAX, LimitLevel, LimitRule, LimitSelector};
use crate::reply::{Refusal, Reply};

impl Core {
    pub(super) fn set_limit(&mut self, rule: LimitRule) -> Result<Reply, Refusal> {
        check_rule(&rule)?;
        let tenants = &rule.selector.tenants;
        if !tenants.ends_with('*') {
            self.tenant_number(tenants)?;
        }
        if self.book.get(&rule.selector).is_none() && self.book.len() >= LIMIT_RULES_MAX {
            return Err(out_of_range(
                "limits",
                self.book.len() + 1,
                &format!("at most {LIMIT_RULES_MAX} rules in the cluster"),
            ));
        }
        self.effects
            .note(Effect::LimitSet, digest(&rule.selector), text(&format!("{rule:?}")));
        let selector = rule.selector.clone();
        self.dirty.limits.mark(selector.clone(), true);
        self.book.insert(rule);
        self.refresh_limits(&selector);
        Ok(Reply::Done)
    }

    pub(super) fn delete_limit(&mut self, selector: LimitSelector) -> Reply {
        if self.book.remove(&selector).is_some() {
            self.effects.note(Effect::LimitDeleted, digest(&selector), 0);
            self.dirty.limits.mark(selector.clone(), false);
            self.refresh_limits(&selector);
        }
        Reply::Done
    }

    /// Lets all gates of a rule's level and patterns look at the book again; looks at every gate once.
    fn refresh_limits(&mut self, selector: &LimitSelector) {
        let concerned: Vec<u32> = self
            .gates
            .iter()
            .filter(|(_, gate)| {
                let tenant = match gate.key.level {
                    LimitLevel::Cluster => "",
                    _ => &self.tenants[gate.key.tenant as usize].row.name,
                };
                is_for(selector, gate.key.level, tenant, &gate.key.name)
            })
            .map(|(number, _)| number)
            .collect();
        for number in concerned {
            self.refresh_limit(number);
        }
    }

    pub(super) fn open_key(&mut self, tenant: Name, name: Name) -> Result<Reply, Refusal> {
        let tenant = self.tenant_number(&tenant)?;
        let level = LimitLevel::Key;
        if let Some(number) = self.gate_of.get(&GateKey { level, tenant, name }).copied()
            && self.gates[number].throttled_until != 0
        {
            self.effects.note(Effect::KeyOpened, self.gates[number].digest, 0);
            self.change_gate(number, |gate| gate.throttled_until = 0);
            self.drop_gate_if_new(number);
        }
        Ok(Reply::Done)
    }
}

fn digest(selector: &LimitSelector) -> u64 {
    text(&format!("{selector:?}"))
}

fn check_rule(rule: &LimitRule) -> Result<(), Refusal> {
    let selector = &rule.selector;
    let pattern = "a name, or the beginning of names and a * at its end";
    for (field, given) in [("tenants", &selector.tenants), ("names", &selector.names)] {
        let stem = given.strip_suffix('*').unwrap_or(given);
        if stem.contains('*') || given.is_empty() {
            return Err(out_of_range(field, given, pattern));
        }
    }
    if selector.level <= LimitLevel::Tenant && &*selector.names != "*" {
        return Err(out_of_range("names", &selector.names, "* at this level"));
    }
    if selector.level == LimitLevel::Cluster && &*selector.tenants != "*" {
        return Err(out_of_range("tenants", &selector.tenants, "* at this level"));
    }
    match &rule.rate {
        Some(rate) => check_rate("rate", rate),
        None => Ok(()),
    }
}

//! The rule book as a history tells it.

use muster_core::{LimitRule, LimitSelector};

use crate::facts::{Fact, Through};

/// Rules in force.
#[derive(Default)]
pub struct Rules(Vec<LimitRule>);

impl Rules {
    /// Follows a fact; true if it changed the rules.
    pub fn follow(&mut self, fact: &Fact) -> bool {
        match fact {
            Fact::Limited(rule) => {
                self.remove(&rule.selector);
                self.0.push(rule.clone());
                true
            }
            Fact::Unlimited(selector) => {
                self.remove(selector);
                true
            }
            _ => false,
        }
    }

    fn remove(&mut self, selector: &LimitSelector) {
        self.0.retain(|rule| rule.selector != *selector);
    }

    /// The rule that applies: an exact pattern before a beginning, a longer beginning before a shorter one, that of
    /// tenants before that of names.
    pub fn of(&self, through: &Through) -> Option<&LimitRule> {
        let fits = |pattern: &str, name: &str| match pattern.split_once('*') {
            Some((start, _)) => name.starts_with(start).then_some(start.len()),
            None => (pattern == name).then_some(usize::MAX),
        };
        let rank = |rule: &LimitRule| {
            let selector = &rule.selector;
            let level = selector.level == through.level;
            level
                .then(|| fits(&selector.tenants, &through.tenant).zip(fits(&selector.names, &through.name)))
                .flatten()
        };
        self.0
            .iter()
            .filter(|rule| rank(rule).is_some())
            .max_by_key(|rule| rank(rule))
    }
}

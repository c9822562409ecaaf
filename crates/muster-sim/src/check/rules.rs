//! The rule book of limits as a history tells it, and the limiters that a job must pass.

use std::collections::HashMap;

use crate::facts::{Ask, Attempt, End, Facts, Fast, NameNo, Stamp};
use crate::history::{AcceptedJob, Effect, LimitLevel, LimitRule, LimitSelector, Name};

/// How well a pattern fits a name: the better, the more.
fn rank(pattern: &str, name: &str) -> Option<usize> {
    match pattern.split_once('*') {
        Some((start, _)) => name.starts_with(start).then_some(start.len()),
        None => (pattern == name).then_some(usize::MAX),
    }
}

fn rank_of(selector: &LimitSelector, level: LimitLevel, tenant: &str, name: &str) -> Option<(usize, usize)> {
    if selector.level != level {
        return None;
    }
    rank(&selector.tenants, tenant).zip(rank(&selector.names, name))
}

/// The limiter of one name, seen from inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Limiter {
    pub(super) level: LimitLevel,
    pub(super) tenant: Name,
    pub(super) name: Name,
}

/// The limiters that a start of this job passes, with what it takes of their rates.
pub(super) fn limiters(job: &AcceptedJob) -> Vec<(Limiter, u32)> {
    let none: Name = "".into();
    let at = |level, tenant: &Name, name: &Name| Limiter {
        level,
        tenant: tenant.clone(),
        name: name.clone(),
    };
    let cost = job.claims.cost;
    let mut all = vec![
        (at(LimitLevel::Cluster, &none, &none), cost),
        (at(LimitLevel::Tenant, &job.tenant, &none), cost),
        (at(LimitLevel::Queue, &job.tenant, &job.queue), cost),
        (at(LimitLevel::Kind, &job.tenant, &job.kind), cost),
    ];
    let keys = job.claims.limit_keys.iter();
    all.extend(keys.map(|(key, cost)| (at(LimitLevel::Key, &job.tenant, key), *cost)));
    all
}

/// Rules in force, followed from inside.
#[derive(Default)]
pub(super) struct Rules(Vec<LimitRule>);

impl Rules {
    /// True if the effect changed the rules.
    pub(super) fn follow(&mut self, effect: &Effect) -> bool {
        let selector = match effect {
            Effect::Limit(rule) => &rule.selector,
            Effect::LimitGone(selector) => selector,
            _ => return false,
        };
        self.0.retain(|rule| rule.selector != *selector);
        if let Effect::Limit(rule) = effect {
            self.0.push(rule.clone());
        }
        true
    }

    /// There are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rule that applies.
    pub(super) fn of(&self, limiter: &Limiter) -> Option<&LimitRule> {
        let rank = |rule: &&LimitRule| rank_of(&rule.selector, limiter.level, &limiter.tenant, &limiter.name);
        self.0.iter().filter(|rule| rank(rule).is_some()).max_by_key(rank)
    }
}

/// The limiter of one name, seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Outside {
    pub(super) level: LimitLevel,
    pub(super) tenant: NameNo,
    pub(super) name: NameNo,
}

/// Since when a rule is in force for certain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    /// Its setting was acknowledged.
    at: Stamp,
    /// The log index of that, if the answer named it.
    index: Option<u64>,
}

impl Since {
    fn both(one: Option<Self>, (at, index): (Stamp, Option<u64>)) -> Self {
        let Some(one) = one else { return Self { at, index } };
        Self {
            at: one.at.max(at),
            index: one.index.zip(index).map(|(one, other)| one.max(other)),
        }
    }

    /// Whether the attempt was granted later than that. Its beginning does not tell: a worker may hear late of a lease that was granted
    /// earlier. The fence has the log index of the grant; without one for the rule, a job that was asked for later tells.
    pub(super) fn before(self, facts: &Facts, attempt: &Attempt, ask: &Ask) -> bool {
        match self.index {
            Some(index) => attempt.fence >> 24 > index,
            None => facts.call(ask.call).invoked.at > self.at.at,
        }
    }
}

/// Rules that certainly applied from some time on, seen from outside.
pub(super) struct Settled<'f> {
    facts: &'f Facts,
    none: NameNo,
    known: HashMap<Outside, Option<(&'f LimitRule, Since)>, Fast>,
}

impl<'f> Settled<'f> {
    pub(super) fn new(facts: &'f Facts) -> Self {
        Self {
            facts,
            none: facts.name_numbers.find("").unwrap_or(NameNo::MAX),
            known: HashMap::default(),
        }
    }

    /// The limiters of a job, with what a start takes.
    pub(super) fn limiters(&self, ask: &Ask) -> Vec<(Outside, u32)> {
        let at = |level, tenant, name| Outside { level, tenant, name };
        let none = self.none;
        let mut all = vec![
            (at(LimitLevel::Cluster, none, none), ask.cost),
            (at(LimitLevel::Tenant, ask.tenant, none), ask.cost),
            (at(LimitLevel::Queue, ask.tenant, ask.queue), ask.cost),
            (at(LimitLevel::Kind, ask.tenant, ask.kind), ask.cost),
        ];
        let (first, count) = ask.limit_keys;
        let keys = &self.facts.limit_keys[first as usize..(first + count) as usize];
        all.extend(
            keys.iter()
                .map(|(key, cost)| (at(LimitLevel::Key, ask.tenant, *key), *cost)),
        );
        all
    }

    /// The rule that applied to this name from a time on until the end, if every rule that matches the name was set to
    /// one and the same all along.
    pub(super) fn of(&mut self, limiter: Outside) -> Option<(&'f LimitRule, Since)> {
        if let Some(known) = self.known.get(&limiter) {
            return *known;
        }
        let found = self.find(limiter);
        self.known.insert(limiter, found);
        found
    }

    fn find(&self, limiter: Outside) -> Option<(&'f LimitRule, Since)> {
        let facts = self.facts;
        let (tenant, name) = (facts.name(limiter.tenant), facts.name(limiter.name));
        let mut best: Option<((usize, usize), &'f LimitRule)> = None;
        let mut since: Option<Since> = None;
        for change in &facts.rules {
            let call = facts.call(change.call);
            let Some(rank) = rank_of(&change.selector, limiter.level, tenant, name) else {
                continue;
            };
            if call.end == End::Fail {
                continue;
            }
            let rule = change.rule.as_ref()?;
            let mut others = facts.rules.iter().filter(|other| other.selector == change.selector);
            if others.any(|other| other.rule != change.rule && facts.call(other.call).end != End::Fail) {
                return None;
            }
            let set = facts
                .rules
                .iter()
                .filter(|other| other.selector == change.selector)
                .map(|other| facts.call(other.call))
                .filter(|call| call.end == End::Ok)
                .filter_map(|call| Some((call.completed?, call.index)))
                .min()?;
            since = Some(Since::both(since, set));
            if best.is_none_or(|(known, _)| rank > known) {
                best = Some((rank, rule));
            }
        }
        best.map(|(_, rule)| rule).zip(since)
    }
}

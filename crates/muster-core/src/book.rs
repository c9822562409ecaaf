//! The rule book: for every level and name the most specific rule.

use std::collections::BTreeMap;

use crate::ids::Name;
use crate::limit::{LimitLevel, LimitRule, LimitSelector};

/// Whether a name is one that the pattern stands for.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// Whether the rule is for this name of this tenant.
pub(crate) fn is_for(selector: &LimitSelector, level: LimitLevel, tenant: &str, name: &str) -> bool {
    selector.level == level && fits(&selector.tenants, tenant) && fits(&selector.names, name)
}

/// Values under patterns, found by name with the most specific pattern first. A look-up costs as many steps as there
/// are lengths of beginnings, however many patterns there are.
#[derive(Debug)]
struct Patterns<T> {
    exact: BTreeMap<Name, T>,
    /// By what stands before the `*`.
    begins: BTreeMap<Box<str>, T>,
    /// Lengths of `begins`, with how many there are of each.
    lengths: BTreeMap<usize, u32>,
}

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self {
            exact: BTreeMap::new(),
            begins: BTreeMap::new(),
            lengths: BTreeMap::new(),
        }
    }
}

impl<T> Patterns<T> {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.begins.is_empty()
    }

    fn get_mut(&mut self, pattern: &Name) -> Option<&mut T> {
        match pattern.strip_suffix('*') {
            Some(start) => self.begins.get_mut(start),
            None => self.exact.get_mut(pattern),
        }
    }

    fn get(&self, pattern: &Name) -> Option<&T> {
        match pattern.strip_suffix('*') {
            Some(start) => self.begins.get(start),
            None => self.exact.get(pattern),
        }
    }

    fn insert(&mut self, pattern: &Name, value: T) {
        let Some(start) = pattern.strip_suffix('*') else {
            self.exact.insert(pattern.clone(), value);
            return;
        };
        if self.begins.insert(start.into(), value).is_none() {
            *self.lengths.entry(start.len()).or_default() += 1;
        }
    }

    fn remove(&mut self, pattern: &Name) -> Option<T> {
        let Some(start) = pattern.strip_suffix('*') else {
            return self.exact.remove(pattern);
        };
        let removed = self.begins.remove(start)?;
        if let Some(count) = self.lengths.get_mut(&start.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&start.len());
            }
        }
        Some(removed)
    }

    /// Values whose patterns stand for the name, most specific first.
    fn of<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p T> {
        let begins = self.lengths.keys().rev().filter_map(|length| {
            // A beginning whose end is not at a border of characters is not one of this name.
            self.begins.get(name.get(..*length)?)
        });
        self.exact.get(name).into_iter().chain(begins)
    }

    fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.begins.values())
    }
}

/// All rules.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// By level: by pattern of tenants, then by pattern of names.
    levels: [Patterns<Patterns<LimitRule>>; 5],
    len: usize,
}

impl Book {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The rule of this very selector.
    pub(crate) fn get(&self, selector: &LimitSelector) -> Option<&LimitRule> {
        self.levels[selector.level as usize]
            .get(&selector.tenants)?
            .get(&selector.names)
    }

    /// Puts a rule in, in place of the one with the same selector.
    pub(crate) fn insert(&mut self, rule: LimitRule) {
        let selector = rule.selector.clone();
        let level = &mut self.levels[selector.level as usize];
        if level.get(&selector.tenants).is_none() {
            level.insert(&selector.tenants, Patterns::default());
        }
        let Some(names) = level.get_mut(&selector.tenants) else {
            return;
        };
        self.len += usize::from(names.get(&selector.names).is_none());
        names.insert(&selector.names, rule);
    }

    pub(crate) fn remove(&mut self, selector: &LimitSelector) -> Option<LimitRule> {
        let level = &mut self.levels[selector.level as usize];
        let names = level.get_mut(&selector.tenants)?;
        let removed = names.remove(&selector.names)?;
        if names.is_empty() {
            level.remove(&selector.tenants);
        }
        self.len -= 1;
        Some(removed)
    }

    /// The rules for a name, the one that applies first.
    pub(crate) fn of<'b>(
        &'b self,
        level: LimitLevel,
        tenant: &'b str,
        name: &'b str,
    ) -> impl Iterator<Item = &'b LimitRule> {
        self.levels[level as usize]
            .of(tenant)
            .flat_map(move |names| names.of(name))
    }

    /// All rules: by level, then exact before beginnings.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &LimitRule> {
        self.levels.iter().flat_map(Patterns::values).flat_map(Patterns::values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(tenants: &str, names: &str, concurrency: u32) -> LimitRule {
        LimitRule {
            selector: LimitSelector {
                level: LimitLevel::Key,
                tenants: tenants.into(),
                names: names.into(),
            },
            rate: None,
            concurrency,
            note: "".into(),
        }
    }

    /// The same by trying every rule.
    fn naive(rules: &[LimitRule], tenant: &str, name: &str) -> Option<u32> {
        let rank = |pattern: &str| (!pattern.ends_with('*'), pattern.len());
        let matching = rules
            .iter()
            .filter(|rule| is_for(&rule.selector, LimitLevel::Key, tenant, name));
        matching
            .max_by_key(|rule| (rank(&rule.selector.tenants), rank(&rule.selector.names)))
            .map(|rule| rule.concurrency)
    }

    #[test]
    fn the_most_specific_rule_applies() {
        let patterns = ["*", "a*", "ab*", "ab", "abc", "b*", "é*", "éa"];
        let mut rules = Vec::new();
        for (i, tenants) in patterns.iter().enumerate() {
            for (j, names) in patterns.iter().enumerate() {
                // Some are left out, so that less specific ones apply as well.
                if (i * 7 + j * 3) % 4 != 0 {
                    rules.push(rule(tenants, names, (i * 100 + j + 1) as u32));
                }
            }
        }
        let mut book = Book::default();
        for rule in &rules {
            book.insert(rule.clone());
            book.insert(rule.clone());
        }
        assert_eq!((book.len(), book.rules().count()), (rules.len(), rules.len()));
        let names = ["a", "ab", "abc", "abcd", "b", "ba", "x", "é", "éa", "éab"];
        let check = |book: &Book, rules: &[LimitRule]| {
            for tenant in names {
                for name in names {
                    let found = book.of(LimitLevel::Key, tenant, name).next();
                    assert_eq!(
                        found.map(|rule| rule.concurrency),
                        naive(rules, tenant, name),
                        "{tenant} {name}"
                    );
                    let all = book.of(LimitLevel::Key, tenant, name).count();
                    let matching = rules
                        .iter()
                        .filter(|rule| is_for(&rule.selector, LimitLevel::Key, tenant, name));
                    assert_eq!(all, matching.count());
                }
            }
        };
        check(&book, &rules);
        while let Some(rule) = rules.pop() {
            assert_eq!(book.remove(&rule.selector), Some(rule.clone()));
            assert_eq!(book.remove(&rule.selector), None);
            check(&book, &rules);
        }
        assert_eq!(book.len(), 0);
        assert!(book.levels.iter().all(Patterns::is_empty));
    }
}

//! Routes: what a worker must match. Interned, so that matching is done once per route and class.

use std::collections::HashMap;

use crate::book::fits;
use crate::command::WorkerClass;
use crate::hash::FixedState;
use crate::ids::Name;
use crate::job::JobSpec;
use crate::slab::Slab;

/// Routes without jobs are kept for reuse as long as there are fewer than this in all.
const KEPT: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RouteKey {
    pub(crate) queue: Name,
    pub(crate) kind: Name,
    pub(crate) version: u32,
    pub(crate) labels: Vec<(Name, Name)>,
    /// What its worker had better carry; needs no match.
    pub(crate) preferred: Vec<(Name, Name)>,
    /// Slots that its job takes.
    pub(crate) slots: u32,
}

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) key: RouteKey,
    /// Lanes that have it.
    pub(crate) lanes: u32,
    /// Classes that match it, tenants aside.
    pub(crate) classes: Vec<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Routes {
    slab: Slab<Route>,
    by_key: HashMap<RouteKey, u32, FixedState>,
}

impl Routes {
    /// Number of the job's route, and whether it is new: its classes are then to be set.
    pub(crate) fn intern(&mut self, spec: &JobSpec) -> (u32, bool) {
        let key = RouteKey {
            queue: spec.queue.clone(),
            kind: spec.kind.clone(),
            version: spec.schema_version,
            labels: spec.options.required_labels.clone(),
            preferred: spec.options.preferred_labels.clone(),
            slots: spec.options.slots,
        };
        if let Some(number) = self.by_key.get(&key) {
            return (*number, false);
        }
        let number = self.slab.insert(Route {
            key: key.clone(),
            lanes: 0,
            classes: Vec::new(),
        });
        self.by_key.insert(key, number);
        (number, true)
    }

    pub(crate) fn get(&self, number: u32) -> &Route {
        &self.slab[number]
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> &mut Route {
        &mut self.slab[number]
    }

    /// A lane of it is gone.
    pub(crate) fn release(&mut self, number: u32) {
        let kept = self.slab.len() < KEPT;
        let route = &mut self.slab[number];
        route.lanes -= 1;
        if route.lanes == 0 && !kept {
            self.by_key.remove(&route.key);
            self.slab.remove(number);
        }
    }

    pub(crate) fn add_class(&mut self, class: u32, what: &WorkerClass) {
        for number in self.by_key.values() {
            let route = &mut self.slab[*number];
            if matches(what, &route.key) {
                route.classes.push(class);
            }
        }
    }

    pub(crate) fn drop_class(&mut self, class: u32) {
        for number in self.by_key.values() {
            self.slab[*number].classes.retain(|other| *other != class);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Route)> {
        self.slab.iter()
    }
}

/// How far a class matches a route: each level has what those before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// Another queue.
    No,
    /// The queue.
    Queue,
    /// The kind.
    Kind,
    /// The schema version.
    Version,
    /// The labels.
    Labels,
    /// The slots, and so everything.
    Slots,
}

/// How far a worker of this class takes jobs of this route, tenants aside.
pub(crate) fn fit(class: &WorkerClass, route: &RouteKey) -> Fit {
    if !class.queues.is_empty() && !class.queues.iter().any(|pattern| fits(pattern, &route.queue)) {
        return Fit::No;
    }
    let mut versions = class.kinds.iter().filter(|kind| kind.kind == route.kind).peekable();
    if versions.peek().is_none() {
        return Fit::Queue;
    }
    if !versions.any(|kind| (kind.min_version..=kind.max_version).contains(&route.version)) {
        return Fit::Kind;
    }
    if !route.labels.iter().all(|label| class.labels.contains(label)) {
        return Fit::Version;
    }
    if class.slots < route.slots {
        return Fit::Labels;
    }
    Fit::Slots
}

/// Whether a worker of this class takes jobs of this route, tenants aside.
pub(crate) fn matches(class: &WorkerClass, route: &RouteKey) -> bool {
    fit(class, route) == Fit::Slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::KindVersions;

    fn class(queues: &[&str], labels: &[(&str, &str)]) -> WorkerClass {
        WorkerClass {
            tenants: Vec::new(),
            queues: queues.iter().map(|queue| (*queue).into()).collect(),
            kinds: vec![KindVersions {
                kind: "mail".into(),
                min_version: 2,
                max_version: 3,
            }],
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
            slots: 4,
        }
    }

    #[test]
    fn a_class_takes_what_it_names() {
        let check = |class: &WorkerClass, queue: &str, kind: &str, version, labels: &[(&str, &str)], expected| {
            let labels = labels
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect();
            let route = RouteKey {
                queue: queue.into(),
                kind: kind.into(),
                version,
                labels,
                preferred: Vec::new(),
                slots: 4,
            };
            assert_eq!(matches(class, &route), expected, "{class:?} {route:?}");
            let wider = RouteKey { slots: 5, ..route };
            assert!(!matches(class, &wider), "{class:?} {wider:?}");
        };
        let any = class(&[], &[]);
        check(&any, "q", "mail", 2, &[], true);
        check(&any, "q", "mail", 1, &[], false);
        check(&any, "q", "mail", 4, &[], false);
        check(&any, "q", "other", 2, &[], false);
        check(&any, "q", "mail", 2, &[("gpu", "a")], false);
        let some = class(&["a", "b-*"], &[("gpu", "a"), ("zone", "1")]);
        check(&some, "a", "mail", 3, &[], true);
        check(&some, "ab", "mail", 3, &[], false);
        check(&some, "b-", "mail", 3, &[("gpu", "a")], true);
        check(&some, "b-x", "mail", 3, &[("gpu", "b")], false);
        check(&some, "b", "mail", 3, &[], false);
        check(&class(&["*"], &[]), "x", "mail", 2, &[], true);
    }
}

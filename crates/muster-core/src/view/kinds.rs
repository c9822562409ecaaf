//! What can be asked of kinds, and of jobs that no worker accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use crate::core::Core;
use crate::gate::GateKey;
use crate::ids::{Name, TenantId};
use crate::limit::LimitLevel;
use crate::query::{KindView, UnroutableKey, UnroutableView};

impl Core {
    /// Kinds of a tenant that have had jobs, as far as they are remembered, or are paused, by name; at most `limit`, after
    /// `after`.
    pub fn kinds(&self, tenant: TenantId, after: &str, limit: usize) -> Vec<KindView> {
        let Some(state) = self.tenant_by_id(tenant) else {
            return Vec::new();
        };
        let from = (Excluded(after), Unbounded);
        let known = state.cost_of.range::<str, _>(from).map(|(name, _)| name).take(limit);
        let paused = state.paused_kinds.range::<str, _>(from).take(limit);
        let names: BTreeSet<&Name> = known.chain(paused).collect();
        let number = (tenant.0 - 1) as u32;
        names
            .into_iter()
            .take(limit)
            .map(|name| self.kind(number, name))
            .collect()
    }

    fn kind(&self, number: u32, name: &Name) -> KindView {
        let tenant = &self.tenants[number as usize];
        let key = GateKey {
            level: LimitLevel::Kind,
            tenant: number,
            name: name.clone(),
        };
        let gate = self.gate_of.get(&key).map(|gate| &self.gates[*gate]);
        let mean = tenant.cost_of.get(name).and_then(|cost| tenant.mean_run(*cost));
        let classes = self.classes.iter().map(|(_, class)| class);
        let run = classes
            .filter(|class| class.accepts(&tenant.row.name) && class.what.kinds.iter().any(|kind| kind.kind == *name));
        KindView {
            name: name.clone(),
            paused: gate.and_then(|gate| gate.paused.clone()),
            available: gate.map_or(0, |gate| gate.waiting),
            running: gate.map_or(0, |gate| u64::from(gate.running)),
            mean_run: mean,
            sessions: run.map(|class| u64::from(class.sessions)).sum(),
        }
    }

    /// Available jobs of a tenant that no open session accepts, by a look at lanes from `from` on. Returns them in groups, and
    /// where to look on if there is more. Each lane costs one of the `budget`, each group as many as there are worker classes.
    pub fn unroutable_of(&self, tenant: TenantId, from: u32, budget: usize) -> (Vec<UnroutableView>, Option<u32>) {
        let mut groups: BTreeMap<UnroutableKey, UnroutableView> = BTreeMap::new();
        let mut left = budget;
        for (number, lane) in self.lanes.iter_from(from) {
            if left == 0 {
                return (groups.into_values().collect(), Some(number));
            }
            left -= 1;
            let own = u64::from(lane.tenant) + 1 == tenant.0 && lane.classes.is_empty();
            let Some(oldest) = lane.oldest().filter(|_| own) else {
                continue;
            };
            let route = &self.routes.get(lane.route).key;
            let what = UnroutableKey {
                queue: route.queue.clone(),
                kind: route.kind.clone(),
                schema_version: route.version,
                labels: route.labels.clone(),
                slots: route.slots,
            };
            let group = groups.entry(what.clone()).or_insert_with(|| {
                left = left.saturating_sub(self.classes.len());
                UnroutableView {
                    what,
                    jobs: 0,
                    oldest_available_at: oldest,
                    workers: self.worker_match(number),
                }
            });
            group.jobs += lane.available() as u64;
            group.oldest_available_at = group.oldest_available_at.min(oldest);
        }
        (groups.into_values().collect(), None)
    }
}

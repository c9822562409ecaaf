//! What can be asked of limits.

use std::collections::{BTreeMap, BTreeSet};

use crate::book::fits;
use crate::core::Core;
use crate::gate::{Gate, GateKey};
use crate::gcra;
use crate::ids::{JobId, Name, SessionId, TenantId};
use crate::lane::{Lane, Turn};
use crate::limit::{LimitLevel, LimitRule, LimitSelector};
use crate::query::{LimitUse, LimitUses, LimiterView};

/// Most lanes that are looked at to tell who waits.
const LANES_MAX: usize = 100;

impl Core {
    /// Whether a rule is for names of this tenant.
    pub fn limit_concerns(selector: &LimitSelector, tenant: &str) -> bool {
        selector.level == LimitLevel::Cluster || fits(&selector.tenants, tenant)
    }

    /// The rule book, by selector.
    pub fn limits(&self) -> Vec<LimitRule> {
        let mut rules: Vec<_> = self.book.rules().cloned().collect();
        rules.sort_unstable_by(|a, b| a.selector.cmp(&b.selector));
        rules
    }

    /// The rule of this very selector.
    pub fn limit(&self, selector: &LimitSelector) -> Option<&LimitRule> {
        self.book.get(selector)
    }

    /// What goes on behind the rules, of one tenant or of all, by a look at `budget` limiters from `from` on.
    pub fn limit_uses(&self, tenant: Option<TenantId>, from: u32, budget: usize) -> LimitUses {
        let mut uses: BTreeMap<&LimitSelector, LimitUse> = BTreeMap::new();
        for (looked, (number, gate)) in self.gates.iter_from(from).enumerate() {
            if looked >= budget {
                let uses = uses
                    .into_iter()
                    .map(|(selector, sum)| (selector.clone(), sum))
                    .collect();
                return LimitUses {
                    uses,
                    next: Some(number),
                };
            }
            let own = gate.key.level == LimitLevel::Cluster
                || tenant.is_none_or(|tenant| u64::from(gate.key.tenant) + 1 == tenant.0);
            if !own {
                continue;
            }
            let Some(rule) = self.rules_of(&gate.key).next() else {
                continue;
            };
            let sum = uses.entry(&rule.selector).or_default();
            sum.names += 1;
            sum.running += self.running_at(gate);
            sum.waiting += self.waiting_at(gate);
            sum.closed += u64::from(self.is_closed(number));
        }
        LimitUses {
            uses: uses
                .into_iter()
                .map(|(selector, sum)| (selector.clone(), sum))
                .collect(),
            next: None,
        }
    }

    pub(super) fn rules_of<'a>(&'a self, key: &'a GateKey) -> impl Iterator<Item = &'a LimitRule> {
        let tenant = match key.level {
            LimitLevel::Cluster => "",
            _ => &self.tenants[key.tenant as usize].row.name,
        };
        self.book.of(key.level, tenant, &key.name)
    }

    /// Available jobs behind a gate.
    pub(super) fn waiting_at(&self, gate: &Gate) -> u64 {
        match gate.key.level {
            LimitLevel::Cluster => self.live.available,
            LimitLevel::Tenant => self.tenants[gate.owner as usize].live.available,
            LimitLevel::Queue => self.queues.get(gate.owner).map_or(0, |queue| queue.live.available),
            LimitLevel::Kind | LimitLevel::Key => gate.waiting,
        }
    }

    fn gate_of_name(&self, level: LimitLevel, tenant: TenantId, name: &Name) -> Option<GateKey> {
        let tenant = if level == LimitLevel::Cluster {
            0
        } else {
            self.tenant_by_id(tenant)?;
            (tenant.0 - 1) as u32
        };
        let name = match level {
            LimitLevel::Cluster | LimitLevel::Tenant => Name::from(""),
            _ => name.clone(),
        };
        Some(GateKey { level, tenant, name })
    }

    /// The limiter of one name, with at most `limit` of the jobs that wait for it. For the levels of cluster and tenant
    /// the name means nothing. `None` if there is no such tenant.
    pub fn limiter(&self, level: LimitLevel, tenant: TenantId, name: &Name, limit: usize) -> Option<LimiterView> {
        let key = self.gate_of_name(level, tenant, name)?;
        let rules: Vec<LimitRule> = self.rules_of(&key).cloned().collect();
        let Some(gate) = self.gate_of.get(&key).map(|number| &self.gates[*number]) else {
            let burst = rules.first().and_then(|rule| rule.rate).map(|rate| rate.burst);
            return Some(LimiterView {
                rules,
                tokens: burst,
                running: 0,
                waiting: 0,
                full: false,
                paused: false,
                shut_until: 0,
                throttled_until: 0,
                waiters: Vec::new(),
                too_costly: Vec::new(),
            });
        };
        let now = self.meta.now;
        let lanes: BTreeSet<(Turn, u32)> = gate
            .room
            .places()
            .flat_map(|place| gate.room.lanes(place).take(LANES_MAX))
            .collect();
        let never = gate.room.never.iter().take(LANES_MAX).copied();
        Some(LimiterView {
            rules,
            tokens: gate.limit.rate.map(|rate| gcra::level(&rate, gate.arrival, now)),
            running: self.running_at(gate),
            waiting: self.waiting_at(gate),
            full: gate.is_full(self.running_at(gate)),
            paused: self.is_paused(gate),
            shut_until: gate.shut_until,
            throttled_until: gate.throttled_until,
            waiters: self.first_jobs(lanes.into_iter().map(|(_, lane)| lane), limit),
            too_costly: self.first_jobs(never, limit),
        })
    }

    /// The first available jobs of some lanes of one tenant, in their turn.
    fn first_jobs(&self, lanes: impl Iterator<Item = u32>, limit: usize) -> Vec<JobId> {
        let turns = |lane: &Lane| -> Vec<(Turn, u32)> {
            let aging = self.tenants[lane.tenant as usize].row.settings.aging;
            lane.first_few(aging, limit)
        };
        let mut jobs: Vec<(Turn, u32)> = lanes
            .take(LANES_MAX)
            .flat_map(|lane| turns(&self.lanes[lane]))
            .collect();
        jobs.sort_unstable();
        jobs.truncate(limit);
        jobs.into_iter().map(|(_, job)| self.jobs[job].spec.id).collect()
    }

    /// Running jobs behind a limiter, by a look at `budget` leases of sessions after `after`. Returns the jobs, at most
    /// `limit` of them, and, if there is more to look at, the session to go on after.
    pub fn holders(
        &self,
        level: LimitLevel,
        tenant: TenantId,
        name: &Name,
        after: Option<SessionId>,
        limit: usize,
        budget: usize,
    ) -> (Vec<JobId>, Option<SessionId>) {
        let key = self.gate_of_name(level, tenant, name);
        let Some(gate) = key.and_then(|key| self.gate_of.get(&key).copied()) else {
            return (Vec::new(), None);
        };
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let (mut found, mut looked, mut last) = (Vec::new(), 0, after);
        for (id, number) in self.session_of.range((from, std::ops::Bound::Unbounded)) {
            if looked >= budget || found.len() >= limit {
                return (found, last);
            }
            last = Some(*id);
            for job in &self.sessions[*number].leases {
                looked += 1;
                let job = &self.jobs[*job];
                let behind = self.gates_of(&self.lanes[job.lane]).any(|(own, _)| own == gate);
                if behind && found.len() < limit {
                    found.push(job.spec.id);
                }
            }
        }
        (found, None)
    }
}

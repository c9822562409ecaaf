//! Fair sharing of workers among tenants: start-time fair queueing, within each fleet.
//!
//! A tenant's tag in a fleet is the run time it has used there, times slots, over its weight. The tenant with the least tag is served
//! next. A start is charged the kind's mean run time in advance, the end corrects it to the true one. The fleet's virtual
//! time is the tag of the start made last; a tenant whose tag lies behind it was idle or held up by limits, and starts
//! from there, so nobody saves up credit. Only what was charged too much in advance may still lie behind.
//! Tenants below their guarantees come first: see `guarantee.rs`.
//!
//! All of it follows from persisted fields and from what is available, never from which lanes happen to wait at which
//! gate: a restored core shares as the one that it was taken from.

use std::collections::BTreeSet;

use crate::core::Core;
use crate::defect::Defect;
use crate::fleet::{Fleet, FleetId, KEPT_FOR, KEPT_MAX};
use crate::ids::Millis;
use crate::row::{FleetKey, FleetRow, ShareRow};
use crate::tenant::{PARTS, Share};
use crate::timer::Timer;

/// Virtual time of one millisecond at weight 1.
const SCALE: u64 = 10_000;

pub(crate) fn share_of(cost: Millis, weight: u32) -> u64 {
    cost.saturating_mul(SCALE) / u64::from(weight.max(1))
}

impl Core {
    /// What time counts for that so many slots were taken.
    pub(crate) fn slot_time(&self, run: Millis, slots: u32) -> Millis {
        let slots = if self.has(Defect::SlotsNotCharged) { 1 } else { slots };
        run.saturating_mul(u64::from(slots))
    }

    /// How long a start of this kind is expected to run, at least 1 ms.
    pub(crate) fn estimate(&self, tenant: u32, cost: u32) -> Millis {
        self.tenants[tenant as usize].mean_run(cost).unwrap_or(1)
    }

    /// Charges a start in advance. Returns whether it was below the tenant's guarantee.
    pub(crate) fn charge(&mut self, tenant: u32, line: u32, fleet: FleetId, cost: Millis) -> bool {
        self.charge_line(tenant, line, fleet, cost);
        let below = self.is_below_guarantee(tenant);
        let now = self.virtual_time(fleet);
        let at = self.share_at(tenant, fleet);
        let owner = &mut self.tenants[tenant as usize];
        owner.charged = owner.charged.saturating_add(cost);
        let share = &owner.shares[at].row;
        let start = share.tag.max(now.saturating_sub(share.owed));
        let mut tag = start.saturating_add(share_of(cost, owner.row.settings.weight));
        if below {
            tag = self.bounded_debt(tenant, fleet, tag);
            self.charge_guarantee(tenant, at, fleet, cost);
            if self.has(Defect::GuaranteeOnTop) {
                tag = start;
            }
        }
        self.change_share(tenant, at, |share| {
            share.owed = share.owed.min(now.saturating_sub(start));
            share.tag = tag;
        });
        // Below a guarantee it need not have been its turn, and those whose turn it was would lose what they are behind.
        if start > now
            && (!below || self.has(Defect::GuaranteeMovesFleet))
            && let Some(state) = self.fleets.get_mut(&fleet)
        {
            state.row.virtual_time = start;
            self.mark_fleet(fleet);
            self.owe_gathering(tenant, fleet, start - now);
        }
        below
    }

    /// The fleet went on while sessions of it gather slots for other tenants. It was their turn: they may catch up.
    fn owe_gathering(&mut self, served: u32, fleet: FleetId, by: u64) {
        for tenant in self.gathering_tenants(fleet) {
            let shares = &mut self.tenants[tenant as usize].shares;
            let share = shares.iter_mut().find(|share| share.row.fleet == fleet);
            // One whose jobs are gone competes no longer, though the gathering ends only with the entry.
            if let Some(share) = share.filter(|share| tenant != served && share.active > 0) {
                share.row.owed = share.row.owed.saturating_add(by);
                self.mark_tenant(tenant);
            }
        }
    }

    /// Replaces what was charged for an attempt by what it used. `guaranteed`: it began below the guarantee; `used`: how long it
    /// ran; `learn`: that tells how long the kind runs.
    pub(crate) fn settle(
        &mut self,
        tenant: u32,
        fleet: FleetId,
        lane: u32,
        (charged, guaranteed): (Millis, bool),
        used: Millis,
        learn: bool,
    ) {
        let lane = &self.lanes[lane];
        let (cost, slots, line) = (lane.cost, lane.slots, lane.line);
        self.settle_line((tenant, line), fleet, charged, self.slot_time(used.max(1), slots));
        let owner = &mut self.tenants[tenant as usize];
        owner.charged = owner.charged.saturating_sub(charged);
        let row = &mut owner.row;
        row.totals.run_ms = row.totals.run_ms.saturating_add(used.saturating_mul(u64::from(slots)));
        let weight = row.settings.weight;
        // Shares cannot be bought with jobs that take no time.
        let used = used.max(1);
        let (charge, use_) = (share_of(charged, weight), share_of(self.slot_time(used, slots), weight));
        if charge != use_ {
            let at = self.share_at(tenant, fleet);
            let owner = &self.tenants[tenant as usize];
            let back = match owner.shares[at].active {
                0 => 0,
                _ => charge.saturating_sub(use_),
            };
            let guaranteed = guaranteed && owner.row.settings.guaranteed_slots > 0;
            self.change_share(tenant, at, |share| {
                share.tag = share.tag.saturating_add(use_).saturating_sub(charge);
                share.owed = share.owed.saturating_add(back);
                if guaranteed {
                    share.guarantee_tag = share.guarantee_tag.saturating_add(use_).saturating_sub(charge);
                    share.guarantee_owed = share.guarantee_owed.saturating_add(back);
                }
            });
        }
        self.prune_shares(tenant);
        // Also when the tag stays as it is: the row's totals have changed.
        self.mark_tenant(tenant);
        if learn {
            self.learn(tenant, cost, used);
        }
    }

    /// Moves the kind's mean run time by an eighth of the way.
    fn learn(&mut self, tenant: u32, number: u32, used: Millis) {
        let Some(cost) = self.tenants[tenant as usize].costs.get_mut(number as usize) else {
            return;
        };
        let sample = used.saturating_mul(PARTS);
        let mean = if cost.mean == 0 {
            sample
        } else {
            cost.mean - cost.mean / 8 + sample / 8
        };
        if mean != cost.mean {
            cost.mean = mean;
            if !std::mem::replace(&mut cost.dirty, true) {
                self.dirty.costs.push((tenant, number));
            }
        }
    }

    /// A lane of the tenant has an available job that this class of the fleet serves. `join`: as something that has
    /// happened now, not as a state that is restored.
    pub(crate) fn compete(&mut self, tenant: u32, class: u32, join: bool) {
        let fleet = self.classes[class].fleet;
        let at = self.share_at(tenant, fleet);
        let share = &mut self.tenants[tenant as usize].shares[at];
        share.active += 1;
        if share.active == 1 && join {
            let now = self.virtual_time(fleet);
            self.change_share(tenant, at, |share| share.tag = share.tag.max(now));
        }
    }

    /// That lane has none any more, or the class is gone.
    pub(crate) fn retire(&mut self, tenant: u32, class: u32) {
        let fleet = self.classes[class].fleet;
        let at = self.share_at(tenant, fleet);
        let share = &mut self.tenants[tenant as usize].shares[at];
        share.active -= 1;
        if share.active == 0 {
            share.row.owed = 0;
            share.row.guarantee_owed = 0;
            share.row.line_time = 0;
            share.row.lines.clear();
            self.prune_shares(tenant);
            self.mark_tenant(tenant);
        }
    }

    pub(crate) fn virtual_time(&self, fleet: FleetId) -> u64 {
        self.fleets.get(&fleet).map_or(0, |fleet| fleet.row.virtual_time)
    }

    /// Place of the tenant's share in the fleet; made if it is not there.
    pub(crate) fn share_at(&mut self, tenant: u32, fleet: FleetId) -> usize {
        let now = self.virtual_time(fleet);
        let shares = &mut self.tenants[tenant as usize].shares;
        // By fleet, so that a row does not tell in which order the classes of a node are numbered.
        match shares.binary_search_by_key(&fleet, |share| share.row.fleet) {
            Ok(at) => at,
            Err(at) => {
                let row = ShareRow {
                    fleet,
                    tag: now,
                    ..ShareRow::default()
                };
                shares.insert(at, Share { row, active: 0 });
                self.mark_tenant(tenant);
                at
            }
        }
    }

    /// Forgets the places that say nothing: in fleets that are gone, or not ahead of a fleet in which the tenant does not
    /// compete.
    fn prune_shares(&mut self, tenant: u32) {
        let fleets = &self.fleets;
        let told = |share: &Share| {
            let fleet = fleets.get(&share.row.fleet);
            fleet.is_some_and(|fleet| {
                share.active > 0
                    || share.row.tag > fleet.row.virtual_time
                    || share.row.guarantee_tag > fleet.row.guarantee_time
            })
        };
        self.tenants[tenant as usize].shares.retain(told);
    }

    /// Changes a share, and the places of its tenant that follow from it.
    pub(crate) fn change_share(&mut self, number: u32, at: usize, change: impl FnOnce(&mut ShareRow)) {
        let before = self.standing_of(number, &self.tenants[number as usize].shares[at].row);
        let share = &mut self.tenants[number as usize].shares[at].row;
        change(share);
        let fleet = share.fleet;
        let after = self.standing_of(number, &self.tenants[number as usize].shares[at].row);
        if before != after {
            for (class, slots, _) in &self.tenants[number as usize].places {
                let class = &mut self.classes[*class];
                if class.fleet == fleet {
                    let runnable = &mut class.shelf_mut(*slots).runnable;
                    if runnable.remove(&before) {
                        runnable.insert(after);
                    }
                }
            }
        }
        self.mark_tenant(number);
    }

    /// The fleet that a new class belongs to; made if it is not there.
    pub(crate) fn join_fleet(&mut self, key: FleetKey, class: u32) -> FleetId {
        let id = match self.fleet_of.get(&key) {
            Some(id) => *id,
            None => self.found_fleet(key),
        };
        if let Some(fleet) = self.fleets.get_mut(&id) {
            fleet.classes.insert(class);
            let since = std::mem::take(&mut fleet.row.idle_since);
            if since != 0 {
                self.idle_fleets.remove(&(since, id));
                self.timers.remove(&Timer::fleet(since.saturating_add(KEPT_FOR), id));
                self.mark_fleet(id);
            }
        }
        id
    }

    /// Puts a new or restored fleet into the indexes.
    pub(crate) fn add_fleet(&mut self, row: FleetRow, written: bool) {
        let (id, since) = (row.id, row.idle_since);
        self.fleet_of.insert(row.key.clone(), id);
        let fleet = Fleet {
            row,
            classes: BTreeSet::new(),
            dirty: false,
            written,
        };
        self.fleets.insert(id, fleet);
        if since != 0 {
            self.remember_idle_fleet(since, id);
        }
    }

    fn found_fleet(&mut self, key: FleetKey) -> FleetId {
        let id = self.meta.next_fleet;
        self.meta.next_fleet += 1;
        let row = FleetRow {
            id,
            key,
            virtual_time: 0,
            idle_since: 0,
            guarantee_time: 0,
        };
        self.add_fleet(row, false);
        self.mark_fleet(id);
        id
    }

    /// A class of the fleet is gone. Without any it is remembered for a while.
    pub(crate) fn leave_fleet(&mut self, id: FleetId, class: u32) {
        let Some(fleet) = self.fleets.get_mut(&id) else { return };
        fleet.classes.remove(&class);
        if !fleet.classes.is_empty() {
            return;
        }
        // Time 0 would be "it has sessions".
        let since = self.meta.now.max(1);
        fleet.row.idle_since = since;
        self.mark_fleet(id);
        self.remember_idle_fleet(since, id);
        if self.idle_fleets.len() > KEPT_MAX
            && let Some((_, oldest)) = self.idle_fleets.first().copied()
        {
            self.forget_fleet(oldest);
        }
    }

    fn remember_idle_fleet(&mut self, since: u64, id: FleetId) {
        self.idle_fleets.insert((since, id));
        self.timers.insert(Timer::fleet(since.saturating_add(KEPT_FOR), id));
    }

    /// Forgets a fleet without sessions. What tenants have of it goes when they are next charged.
    pub(crate) fn forget_fleet(&mut self, id: FleetId) {
        let Some(fleet) = self.fleets.remove(&id) else { return };
        let since = fleet.row.idle_since;
        self.idle_fleets.remove(&(since, id));
        self.timers.remove(&Timer::fleet(since.saturating_add(KEPT_FOR), id));
        self.fleet_of.remove(&fleet.row.key);
        self.dirty.forget_fleet(id, &fleet);
    }
}

//! Fair sharing of workers among tenants: virtual time, and who is runnable for whom.
//!
//! A tenant's virtual time is the run time it has used over its weight. The runnable tenant with the least is served
//! next. A start charges the kind's mean run time in advance, the end corrects it to the true one. A tenant that
//! becomes active joins at the least virtual time among those it competes with, so nobody saves up credit.

use crate::core::Core;
use crate::defect::Defect;
use crate::hash::Effect;
use crate::ids::{Millis, Timestamp};
use crate::lane::Turn;
use crate::timer::Timer;

/// Virtual time of one millisecond at weight 1.
const SCALE: u64 = 10_000;
/// Unit of `KindCost::mean`: parts of a millisecond.
const PARTS: u64 = 256;

fn share(cost: Millis, weight: u32) -> u64 {
    cost.saturating_mul(SCALE) / u64::from(weight.max(1))
}

impl Core {
    /// What a start of this kind is charged in advance, at least 1 ms.
    pub(crate) fn estimate(&self, tenant: u32, cost: u32) -> Millis {
        let costs = &self.tenants[tenant as usize].costs;
        costs.get(cost as usize).map_or(1, |cost| (cost.mean / PARTS).max(1))
    }

    /// Charges the estimate of a start.
    pub(crate) fn charge(&mut self, tenant: u32, cost: Millis) {
        let row = &self.tenants[tenant as usize].row;
        self.meta.virtual_time = self.meta.virtual_time.max(row.virtual_time);
        let time = row.virtual_time.saturating_add(share(cost, row.settings.weight));
        self.set_virtual_time(tenant, time);
    }

    /// Replaces what was charged for an attempt by what it used. `learn`: the run tells how long the kind runs.
    pub(crate) fn settle(&mut self, tenant: u32, cost: u32, charged: Millis, used: Millis, learn: bool) {
        let row = &mut self.tenants[tenant as usize].row;
        row.totals.run_ms = row.totals.run_ms.saturating_add(used);
        // Shares cannot be bought with jobs that take no time.
        let used = used.max(1);
        let weight = row.settings.weight;
        let time = row
            .virtual_time
            .saturating_add(share(used, weight))
            .saturating_sub(share(charged, weight));
        // Also when the time stays as it is: the row's totals have changed.
        self.set_virtual_time(tenant, time);
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

    fn set_virtual_time(&mut self, number: u32, time: u64) {
        let tenant = &mut self.tenants[number as usize];
        let before = std::mem::replace(&mut tenant.row.virtual_time, time);
        if tenant.open() {
            for class in &tenant.classes {
                let runnable = &mut self.classes[*class].runnable;
                if runnable.remove(&(before, number)) {
                    runnable.insert((time, number));
                }
            }
        }
        self.mark_tenant(number);
    }

    /// A tenant becomes active: it joins at the least virtual time among the runnable tenants of these classes.
    fn join(&mut self, number: u32, classes: &[u32]) {
        let least = classes
            .iter()
            .filter_map(|class| Some(self.classes[*class].runnable.first()?.0))
            .min();
        let own = self.tenants[number as usize].row.virtual_time;
        let time = own.max(least.unwrap_or(self.meta.virtual_time));
        if time != own {
            self.tenants[number as usize].row.virtual_time = time;
            self.mark_tenant(number);
        }
    }

    /// Brings the classes up to date with the lane's next job after a change of the lane, its queue or the aging.
    pub(crate) fn refresh_lane(&mut self, number: u32) {
        let head = self.next_head(number);
        let lane = &self.lanes[number];
        if lane.head == head {
            return;
        }
        if head.is_some() && lane.head.is_none() {
            let tenant = &self.tenants[lane.tenant as usize];
            if tenant.waiting_lanes == 0 && tenant.open() {
                let (tenant, classes) = (lane.tenant, lane.classes.clone());
                self.join(tenant, &classes);
            }
        }
        self.set_head(number, head);
    }

    /// The turn at which the lane is to stand.
    pub(crate) fn next_head(&self, number: u32) -> Option<Turn> {
        let lane = &self.lanes[number];
        if self.queues[lane.queue].paused && !self.has(Defect::PauseIgnored) {
            return None;
        }
        let aging = self.tenants[lane.tenant as usize].row.settings.aging;
        Some(lane.first(aging)?.0)
    }

    /// Moves the lane to its new turn in the classes that serve it.
    pub(crate) fn set_head(&mut self, number: u32, head: Option<Turn>) {
        let lane = &mut self.lanes[number];
        let before = std::mem::replace(&mut lane.head, head);
        let tenant = &mut self.tenants[lane.tenant as usize];
        match (before, head) {
            (None, Some(_)) => tenant.waiting_lanes += 1,
            (Some(_), None) => tenant.waiting_lanes -= 1,
            _ => {}
        }
        for i in 0..self.lanes[number].classes.len() {
            let class = self.lanes[number].classes[i];
            self.move_head(class, number, before, head);
        }
    }

    /// Moves a lane from one turn to another in one class.
    pub(crate) fn move_head(&mut self, class: u32, lane: u32, before: Option<Turn>, after: Option<Turn>) {
        let number = self.lanes[lane].tenant;
        let tenant = &mut self.tenants[number as usize];
        let key = (tenant.row.virtual_time, number);
        let state = &mut self.classes[class];
        let heads = state.heads.entry(number).or_default();
        let was = !heads.is_empty();
        if let Some(turn) = before {
            heads.remove(&(turn, lane));
        }
        if let Some(turn) = after {
            heads.insert((turn, lane));
        }
        let is = !heads.is_empty();
        if !is {
            state.heads.remove(&number);
        }
        if is && !was {
            tenant.classes.push(class);
            if tenant.open() {
                state.runnable.insert(key);
                self.heat(class);
            }
        } else if was && !is {
            tenant.classes.retain(|other| *other != class);
            state.runnable.remove(&key);
        }
    }

    /// Call after a tenant's gates may have opened or closed, with how they stood before.
    pub(crate) fn refresh_gates(&mut self, number: u32, was_open: bool) {
        let tenant = &self.tenants[number as usize];
        let open = tenant.open();
        if open == was_open {
            return;
        }
        let classes = tenant.classes.clone();
        if open {
            if tenant.waiting_lanes > 0 {
                self.join(number, &classes);
            }
            let time = self.tenants[number as usize].row.virtual_time;
            for class in classes {
                self.classes[class].runnable.insert((time, number));
                self.heat(class);
            }
        } else {
            let time = tenant.row.virtual_time;
            for class in classes {
                self.classes[class].runnable.remove(&(time, number));
            }
        }
    }

    /// The rate limit refuses the tenant until `at`: it is parked there.
    pub(crate) fn park(&mut self, number: u32, at: Timestamp) {
        let tenant = &mut self.tenants[number as usize];
        let was_open = tenant.open();
        tenant.row.parked_until = at;
        self.timers.insert(Timer::gate(at, tenant.row.id, number));
        self.effects.note(Effect::Parked, u64::from(number), at);
        self.mark_tenant(number);
        self.refresh_gates(number, was_open);
    }

    /// The rate limit admits the tenant again, or has changed. Its timer is gone or removed here.
    pub(crate) fn wake(&mut self, number: u32) {
        let tenant = &mut self.tenants[number as usize];
        let Some(at) = tenant.wakes_at() else { return };
        let was_open = tenant.open();
        tenant.row.parked_until = 0;
        self.timers.remove(&Timer::gate(at, tenant.row.id, number));
        self.effects.note(Effect::Woken, u64::from(number), at);
        self.mark_tenant(number);
        self.refresh_gates(number, was_open);
    }

    /// Notes that a class may have something to assign.
    pub(crate) fn heat(&mut self, number: u32) {
        let class = &mut self.classes[number];
        if !class.hot && class.assignable() {
            class.hot = true;
            self.hot.push(number);
        }
    }
}

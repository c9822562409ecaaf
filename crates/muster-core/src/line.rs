//! Lines: how queues share the time of their tenant.
//!
//! A queue with a weight is a line of its own; all others of the tenant stand in the common line. Within a fleet the lines of a
//! tenant share what the tenant gets as tenants share the fleet: by start tags. A tenant without weights has the common line
//! alone, and nothing of this costs it anything.
//!
//! Tags of lines are kept while the tenant competes in the fleet. Then all start anew from the same tag.

use crate::core::Core;
use crate::defect::Defect;
use crate::fair::share_of;
use crate::fleet::FleetId;
use crate::ids::{Millis, Name};
use crate::lane::COMMON;
use crate::query::LiveCounts;
use crate::row::LineRow;

/// Weight of the common line.
pub(crate) const COMMON_WEIGHT: u32 = 100;

impl Core {
    /// The line in which the jobs of a queue stand.
    pub(crate) fn line_of(&self, queue: u32) -> u32 {
        if self.queues[queue].weight == 0 { COMMON } else { queue }
    }

    /// Empty for the common line.
    fn line_name(&self, line: u32) -> &str {
        if line == COMMON { "" } else { &self.queues[line].name }
    }

    pub(crate) fn line_weight(&self, line: u32) -> u32 {
        if line == COMMON || self.has(Defect::QueueWeightIgnored) {
            return COMMON_WEIGHT;
        }
        self.queues[line].weight
    }

    /// The tag with which the line's next job starts.
    fn line_tag(&self, tenant: u32, line: u32, fleet: FleetId) -> u64 {
        let shares = &self.tenants[tenant as usize].shares;
        let Ok(at) = shares.binary_search_by_key(&fleet, |share| share.row.fleet) else {
            return 0;
        };
        let share = &shares[at].row;
        let name = self.line_name(line);
        match share.lines.binary_search_by(|own| (*own.queue).cmp(name)) {
            Ok(at) => {
                let own = &share.lines[at];
                own.tag.max(share.line_time.saturating_sub(own.owed))
            }
            Err(_) => share.line_time,
        }
    }

    /// The tenant's lane that is served next by the class, of those whose jobs take at most this many slots.
    pub(crate) fn next_lane(&self, class: u32, tenant: u32, slots: u64) -> Option<u32> {
        let (owner, state) = (&self.tenants[tenant as usize], &self.classes[class]);
        let own = owner.places.iter();
        let own = own.filter(|place| place.0 == class && u64::from(place.1) <= slots);
        let first = |(_, slots, line): &(u32, u32, u32)| {
            let (turn, lane) = state.shelf(*slots)?.heads.get(&(tenant, *line))?.first()?;
            Some((*line, *turn, *lane))
        };
        let firsts = own.filter_map(first);
        let next = if owner.weighted.is_empty() {
            firsts.min_by_key(|(_, turn, _)| *turn)
        } else {
            // Numbers of queues differ after a restore; their names do not.
            firsts
                .min_by_key(|(line, turn, _)| (self.line_tag(tenant, *line, state.fleet), self.line_name(*line), *turn))
        };
        next.map(|(_, _, lane)| lane)
    }

    /// Charges a start to its line.
    pub(crate) fn charge_line(&mut self, tenant: u32, line: u32, fleet: FleetId, cost: Millis) {
        if self.tenants[tenant as usize].weighted.is_empty() {
            return;
        }
        let start = self.line_tag(tenant, line, fleet);
        let after = start.saturating_add(share_of(cost, self.line_weight(line)));
        let name: Name = self.line_name(line).into();
        let at = self.share_at(tenant, fleet);
        let share = &mut self.tenants[tenant as usize].shares[at].row;
        let at = match share.lines.binary_search_by(|own| own.queue.cmp(&name)) {
            Ok(at) => at,
            Err(at) => {
                let row = LineRow {
                    queue: name,
                    ..LineRow::default()
                };
                share.lines.insert(at, row);
                at
            }
        };
        let own = &mut share.lines[at];
        own.owed = own.owed.min(share.line_time.saturating_sub(start));
        own.tag = after;
        share.line_time = share.line_time.max(start);
        self.mark_tenant(tenant);
    }

    /// Replaces what was charged to a line for an attempt by what it used, if the line is remembered.
    pub(crate) fn settle_line(&mut self, (tenant, line): (u32, u32), fleet: FleetId, charged: Millis, used: Millis) {
        if self.tenants[tenant as usize].weighted.is_empty() {
            return;
        }
        let weight = self.line_weight(line);
        let (charge, use_) = (share_of(charged, weight), share_of(used, weight));
        let waits = self.waiting_in(tenant, line) > 0;
        let name: Name = self.line_name(line).into();
        let mut shares = self.tenants[tenant as usize].shares.iter_mut();
        let lines = shares
            .find(|share| share.row.fleet == fleet)
            .map(|share| &mut share.row.lines);
        if let Some(own) = lines.and_then(|lines| lines.iter_mut().find(|own| own.queue == name)) {
            own.tag = own.tag.saturating_add(use_).saturating_sub(charge);
            if use_ < charge && waits {
                own.owed = own.owed.saturating_add(charge - use_);
            }
            self.mark_tenant(tenant);
        }
    }

    /// Available jobs of a line.
    pub(crate) fn waiting_in(&self, tenant: u32, line: u32) -> u64 {
        if line != COMMON {
            return self.queues[line].live.available;
        }
        let owner = &self.tenants[tenant as usize];
        let available = |live: &LiveCounts| live.available;
        let weighted = owner.weighted.values();
        let theirs: u64 = weighted.map(|queue| available(&self.queues[*queue].live)).sum();
        available(&owner.live) - theirs
    }

    /// The queue has no weight any more.
    pub(crate) fn forget_line(&mut self, tenant: u32, queue: &Name) {
        let owner = &mut self.tenants[tenant as usize];
        let last = owner.weighted.is_empty();
        for share in &mut owner.shares {
            share.row.lines.retain(|line| line.queue != *queue && !last);
            if last {
                share.row.line_time = 0;
            }
        }
        self.mark_tenant(tenant);
    }
}

//! Who could run a job, and where its tenant stands before them.

use std::collections::BTreeSet;

use super::LOOK_MAX;
use crate::class::Standing;
use crate::core::Core;
use crate::explain::{ShareView, WorkerMatch};
use crate::lane::{COMMON, Lane};
use crate::route::{Fit, fit};

impl Core {
    pub(in crate::view) fn worker_match(&self, lane: u32) -> WorkerMatch {
        let lane = &self.lanes[lane];
        let route = &self.routes.get(lane.route).key;
        let tenant = &self.tenants[lane.tenant as usize].row.name;
        let mut found = WorkerMatch::default();
        for (_, class) in self.classes.iter() {
            let sessions = u64::from(class.sessions);
            found.open += sessions;
            if !class.accepts(tenant) {
                continue;
            }
            found.tenant += sessions;
            let fit = fit(&class.what, route);
            for (needed, count) in [
                (Fit::Queue, &mut found.queue),
                (Fit::Kind, &mut found.kind),
                (Fit::Version, &mut found.version),
                (Fit::Labels, &mut found.labels),
                (Fit::Slots, &mut found.accept),
            ] {
                if fit >= needed {
                    *count += sessions;
                }
            }
        }
        if lane.classes.is_empty() {
            return found;
        }
        for (_, session) in self.sessions.iter() {
            if lane.classes.contains(&session.class) {
                found.quiet += u64::from(session.row.quiet);
                found.running += session.leases.len() as u64;
                let free = session.free();
                found.free += free;
                // What a session gathers is for the job that it gathers for.
                if session.row.gathers.is_none() {
                    found.most_free = found.most_free.max(free);
                }
            }
        }
        found
    }

    /// The weight of a lane's line, and the sum of those of all lines that compete with it.
    fn line_share(&self, lane: &Lane) -> (u32, u64) {
        let queues = self.tenants[lane.tenant as usize].weighted.values().copied();
        let waiting = queues
            .chain([COMMON])
            .filter(|line| *line == lane.line || self.waiting_in(lane.tenant, *line) > 0);
        let weights = waiting.map(|line| u64::from(self.line_weight(line))).sum();
        (self.line_weight(lane.line), weights)
    }

    pub(super) fn share_view(&self, lane: u32) -> Option<ShareView> {
        let lane = &self.lanes[lane];
        let classes = lane.classes.iter().map(|class| &self.classes[*class]);
        // Numbers of classes differ between nodes; their descriptions do not.
        let class = classes.max_by(|a, b| (a.sessions, &a.what).cmp(&(b.sessions, &b.what)))?;
        let tenant = &self.tenants[lane.tenant as usize];
        let weight = tenant.row.settings.weight;
        let own = self.standing(lane.tenant, class.fleet);
        let mut shelves = class.shelves.iter();
        let first = shelves.next()?;
        // Most jobs take one slot. Tenants that have wider ones only come on top.
        let wider: BTreeSet<Standing> = shelves
            .flat_map(|shelf| &shelf.runnable)
            .filter(|other| !first.runnable.contains(other))
            .copied()
            .collect();
        let runnable = || first.runnable.iter().chain(&wider);
        let competes = first.runnable.contains(&own) || wider.contains(&own);
        let few = first.runnable.len() + wider.len() <= LOOK_MAX;
        let others = runnable().filter(|other| **other != own);
        let weights = others.map(|(.., other)| u64::from(self.tenants[*other as usize].row.settings.weight));
        let count = |runnable: &BTreeSet<Standing>, end: Standing| runnable.range(..end).take(LOOK_MAX + 1).count();
        let up_to =
            |end: Standing| Some(count(&first.runnable, end) + count(&wider, end)).filter(|before| *before <= LOOK_MAX);
        let before = up_to(own);
        // The first of those that have what they are guaranteed would stand here.
        let by_guarantee = if own.0 { up_to((true, 0, 0)) } else { Some(0) };
        let guaranteed = tenant.row.settings.guaranteed_slots;
        Some(ShareView {
            weight,
            tenants: (first.runnable.len() + wider.len()) as u64 + u64::from(!competes),
            weights: few.then(|| weights.sum::<u64>() + u64::from(weight)),
            before: before.map(|before| before as u64),
            before_by_guarantee: by_guarantee.map(|before| before as u64),
            guarantee: (guaranteed > 0).then_some((guaranteed, tenant.running_slots)),
            line: (!tenant.weighted.is_empty()).then(|| self.line_share(lane)),
        })
    }
}

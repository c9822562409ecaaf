//! Who could run a job, and where its tenant stands before them.

use super::LOOK_MAX;
use crate::core::Core;
use crate::explain::{ShareView, WorkerMatch};
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
                (Fit::Labels, &mut found.accept),
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
                found.free += session.free();
            }
        }
        found
    }

    pub(super) fn share_view(&self, lane: u32) -> Option<ShareView> {
        let lane = &self.lanes[lane];
        let classes = lane.classes.iter().map(|class| &self.classes[*class]);
        // Numbers of classes differ between nodes; their descriptions do not.
        let class = classes.max_by(|a, b| (a.sessions, &a.what).cmp(&(b.sessions, &b.what)))?;
        let tenant = &self.tenants[lane.tenant as usize];
        let weight = tenant.row.settings.weight;
        let own = (tenant.tag(class.fleet), lane.tenant);
        let competes = class.runnable.contains(&own);
        let others = class.runnable.iter().filter(|other| **other != own);
        let few = class.runnable.len() <= LOOK_MAX;
        let weights = others.map(|(_, other)| u64::from(self.tenants[*other as usize].row.settings.weight));
        let before = class.runnable.range(..own).take(LOOK_MAX + 1).count();
        Some(ShareView {
            weight,
            tenants: class.runnable.len() as u64 + u64::from(!competes),
            weights: few.then(|| weights.sum::<u64>() + u64::from(weight)),
            before: (before <= LOOK_MAX).then_some(before as u64),
        })
    }
}

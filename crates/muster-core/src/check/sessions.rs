//! Sessions, worker classes, fleets, and the tenants' shares in them.

use std::collections::{BTreeMap, BTreeSet};

use super::{holds, same};
use crate::class::{Gather, Standing};
use crate::core::Core;
use crate::gate::CLUSTER;
use crate::lane::Stand;
use crate::route::matches;
use crate::row::{FleetKey, LineRow};

impl Core {
    pub(super) fn check_sessions(&self) -> Result<(), String> {
        same("sessions by id", self.session_of.len(), self.sessions.len())?;
        let mut leases = 0;
        for (number, session) in self.sessions.iter() {
            let id = session.row.spec.session;
            same("a session by id", self.session_of.get(&id), Some(&number))?;
            let row = &session.row;
            holds(row.granted_total <= row.credit_total, || {
                format!("session {:032x} has too much", id.0)
            })?;
            for (held, job) in session.leases.iter().enumerate() {
                let run = self.jobs.get(*job).and_then(|job| job.run.as_ref());
                let place = run.map(|run| (run.session, run.held, run.holder));
                same("a lease in its session", place, Some((number, held as u32, id)))?;
            }
            let slots = session
                .leases
                .iter()
                .map(|job| u64::from(self.jobs[*job].spec.options.slots));
            same("slots that a session's jobs take", session.held, slots.sum())?;
            holds(session.held <= row.granted_total, || {
                format!("session {:032x} runs more than it was granted", id.0)
            })?;
            leases += session.leases.len() as u64;
        }
        same("leases", leases, self.live.running)?;
        let distinct: BTreeSet<_> = self
            .jobs
            .iter()
            .filter_map(|(_, job)| job.run.as_ref().map(|run| run.lease))
            .collect();
        same("distinct leases", distinct.len() as u64, leases)
    }

    pub(super) fn check_classes(&self) -> Result<(), String> {
        same("classes by description", self.class_of.len(), self.classes.len())?;
        for (number, class) in self.classes.iter() {
            same("a class by description", self.class_of.get(&class.what), Some(&number))?;
            let sessions = || self.sessions.iter().filter(|(_, session)| session.class == number);
            same("sessions of a class", class.sessions as usize, sessions().count())?;
            let ready: BTreeSet<_> = sessions().filter_map(|(at, session)| session.ready(at)).collect();
            same("ready sessions", &class.ready, &ready)?;
            let mut heads: BTreeMap<u32, BTreeMap<(u32, u32), BTreeSet<_>>> = BTreeMap::new();
            let fleet = self.fleets.get(&class.fleet);
            holds(fleet.is_some_and(|fleet| fleet.classes.contains(&number)), || {
                "a class is not in its fleet".to_owned()
            })?;
            for (at, lane) in self.lanes.iter() {
                let route = &self.routes.get(lane.route).key;
                let serves = matches(&class.what, route) && class.accepts(&self.tenants[lane.tenant as usize].row.name);
                same("a lane's class", lane.classes.contains(&number), serves)?;
                if let (Some(turn), true, Stand::Shown) = (lane.head, serves, lane.stand) {
                    let shelf = heads.entry(lane.slots).or_default();
                    shelf.entry((lane.tenant, lane.line)).or_default().insert((turn, at));
                }
            }
            for shelf in &class.shelves {
                let heads = heads.remove(&shelf.slots).unwrap_or_default();
                holds(shelf.slots == 1 || !heads.is_empty(), || {
                    "nothing stands on a shelf".to_owned()
                })?;
                let runnable: BTreeSet<Standing> = heads
                    .keys()
                    .map(|(tenant, _)| tenant)
                    .filter(|tenant| self.tenant_is_open(**tenant))
                    .map(|tenant| self.standing(*tenant, class.fleet))
                    .collect();
                same("runnable tenants", &shelf.runnable, &runnable)?;
                let kept: BTreeMap<_, _> = shelf.heads.iter().map(|(line, heads)| (*line, heads.clone())).collect();
                for (tenant, line) in kept.keys() {
                    let listed = self.tenants[*tenant as usize]
                        .places
                        .contains(&(number, shelf.slots, *line));
                    holds(listed, || "a tenant does not know its class".to_owned())?;
                }
                same("shown lanes by tenant", kept, heads)?;
            }
            holds(heads.is_empty(), || "a shelf is missing".to_owned())?;
            let gathers = |(at, session): (u32, &crate::session::Session)| {
                let row = session.row.gathers?;
                Some(Gather {
                    session: at,
                    tenant: (row.tenant.0 - 1) as u32,
                    slots: row.slots,
                })
            };
            let gather: Vec<_> = sessions().filter_map(gathers).collect();
            let kept: Vec<_> = class.gather.into_iter().collect();
            same("the session that gathers slots", kept, gather)?;
            same(
                "classes that gather slots",
                self.gathering.contains(&number),
                class.gather.is_some(),
            )?;
            let hot = self.hot.contains(&number);
            same("a class's mark", class.hot, hot)?;
            holds(!self.is_assignable(number) || hot || self.is_closed(CLUSTER), || {
                "a class with work and room is not on the list".to_owned()
            })?;
        }
        let known: usize = self.tenants.iter().map(|tenant| tenant.places.len()).sum();
        same(
            "places of tenants",
            known,
            self.classes
                .iter()
                .flat_map(|(_, class)| &class.shelves)
                .map(|shelf| shelf.heads.len())
                .sum(),
        )
    }

    pub(super) fn check_fleets(&self) -> Result<(), String> {
        same("fleets by description", self.fleet_of.len(), self.fleets.len())?;
        let mut classes = 0;
        let mut idle = BTreeSet::new();
        for (id, fleet) in &self.fleets {
            same("id of a fleet", fleet.row.id, *id)?;
            same("a fleet by description", self.fleet_of.get(&fleet.row.key), Some(id))?;
            holds(*id < self.meta.next_fleet, || format!("fleet {id} is not born yet"))?;
            same(
                "a fleet with sessions",
                fleet.row.idle_since == 0,
                !fleet.classes.is_empty(),
            )?;
            for class in &fleet.classes {
                let alike = self
                    .classes
                    .get(*class)
                    .is_some_and(|class| class.fleet == *id && FleetKey::of(&class.what) == fleet.row.key);
                holds(alike, || format!("class {class} is not of fleet {id}"))?;
            }
            classes += fleet.classes.len();
            if fleet.row.idle_since != 0 {
                idle.insert((fleet.row.idle_since, *id));
            }
        }
        same("classes in fleets", classes, self.classes.len())?;
        same("idle fleets", &self.idle_fleets, &idle)?;
        self.check_shares()
    }

    fn check_shares(&self) -> Result<(), String> {
        let mut active: BTreeMap<(u32, u64), u32> = BTreeMap::new();
        for (_, lane) in self.lanes.iter().filter(|(_, lane)| lane.head.is_some()) {
            for class in &lane.classes {
                *active.entry((lane.tenant, self.classes[*class].fleet)).or_default() += 1;
            }
        }
        for (number, tenant) in self.tenants.iter().enumerate() {
            let mut fleets = BTreeSet::new();
            for share in &tenant.shares {
                let name = &tenant.row.name;
                holds(
                    fleets.last() < Some(&share.row.fleet) && fleets.insert(share.row.fleet),
                    || format!("the shares of {name:?} are out of order"),
                )?;
                let counted = active.remove(&(number as u32, share.row.fleet)).unwrap_or(0);
                same(
                    &format!("lanes of {name:?} that compete in a fleet"),
                    share.active,
                    counted,
                )?;
                holds(share.active > 0 || share.row.owed == 0, || {
                    format!("{name:?} is owed something where it does not compete")
                })?;
                let guaranteed = tenant.row.settings.guaranteed_slots > 0;
                let tags = (share.row.guarantee_tag, share.row.guarantee_owed);
                holds(share.active > 0 || tags.1 == 0, || {
                    format!("{name:?} is owed something below its guarantee where it does not compete")
                })?;
                holds(guaranteed || tags == (0, 0), || {
                    format!("{name:?} has a tag for a guarantee and none is given")
                })?;
                let known = |line: &LineRow| line.queue.is_empty() || tenant.weighted.contains_key(&line.queue);
                let lines = share.row.lines.is_sorted_by(|a, b| a.queue < b.queue)
                    && share.row.lines.iter().all(known)
                    && (share.active > 0 && !tenant.weighted.is_empty() || share.row.lines.is_empty());
                holds(lines, || format!("the lines of {name:?} are {:?}", share.row))?;
            }
        }
        holds(active.is_empty(), || format!("tenants without shares: {active:?}"))
    }
}

//! Recounts everything that is kept incrementally, from what it follows from.

mod gates;
mod orders;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crate::core::{Core, ENDED};
use crate::fleet::KEPT_FOR;
use crate::job::JobState;
use crate::order::NO_ORDER;
use crate::query::LiveCounts;
use crate::timer::Timer;

fn same<T: PartialEq + Debug>(what: &str, kept: T, counted: T) -> Result<(), String> {
    if kept == counted {
        Ok(())
    } else {
        Err(format!("{what}: kept {kept:?}, counted {counted:?}"))
    }
}

fn holds(condition: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(what()) }
}

impl Core {
    /// Recounts everything that is kept incrementally and compares; for tests, linear in the state.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_jobs()?;
        self.check_names()?;
        self.check_lanes()?;
        self.check_orders()?;
        self.check_tenants()?;
        self.check_timers()?;
        self.check_gates()?;
        self.check_rooms()?;
        self.check_sessions()?;
        self.check_classes()?;
        self.check_fleets()?;
        self.check_cluster()?;
        self.requests.check()?;
        self.check_marks()
    }

    fn check_jobs(&self) -> Result<(), String> {
        for (number, job) in self.jobs.iter() {
            let id = job.spec.id;
            same(&format!("number of job {id}"), self.live_number(id), Some(number))?;
            let lane = self
                .lanes
                .get(job.lane)
                .ok_or_else(|| format!("job {id} has no lane"))?;
            let tenant = &self.tenants[lane.tenant as usize];
            same(
                &format!("job {id} in its tenant's list"),
                tenant.jobs.get(&id),
                Some(&number),
            )?;
            holds(!job.state.is_terminal(), || format!("job {id} is {:?}", job.state))?;
            same(
                &format!("ordering of job {id}"),
                job.order != NO_ORDER,
                job.spec.ordering.is_some(),
            )?;
            let running = job.state == JobState::Running;
            same(&format!("lease of job {id}"), job.run.is_some(), running)?;
            let options = &job.spec.options;
            holds(job.failures < options.max_attempts, || {
                format!("live job {id} failed {} times", job.failures)
            })?;
            holds(job.crashes < options.max_crashes, || {
                format!("live job {id} crashed {} times", job.crashes)
            })?;
            let counted = job.failures + job.crashes + u32::from(running);
            same(&format!("attempts of job {id}"), job.attempts, counted)?;
            if job.state == JobState::Available {
                holds(job.available_at <= self.meta.now, || {
                    format!("job {id} is available before its time")
                })?;
            }
            let route = &self.routes.get(lane.route).key;
            let spec = &job.spec;
            let alike = route.queue == spec.queue
                && route.kind == spec.kind
                && route.version == spec.schema_version
                && route.labels == spec.options.required_labels
                && route.preferred == spec.options.preferred_labels
                && route.slots == spec.options.slots
                && lane.slots == spec.options.slots
                && lane.line == self.line_of(lane.queue)
                && lane.limits == spec.options.limits
                && tenant.row.name == spec.tenant;
            holds(alike, || format!("job {id} is in another's lane"))?;
        }
        let listed: usize = self.tenants.iter().map(|tenant| tenant.jobs.len()).sum();
        same("jobs in the tenants' lists", listed, self.jobs.len())
    }

    fn check_names(&self) -> Result<(), String> {
        same("known ids", self.ids.len(), self.jobs.len() + self.ended.len())?;
        let mut keys = BTreeSet::new();
        for (number, ended) in self.ended.numbered() {
            let id = ended.job;
            same(
                &format!("number of ended job {id}"),
                self.ids.get(&id),
                Some(&(number | ENDED)),
            )?;
            keys.extend(
                ended
                    .idempotency_key
                    .as_ref()
                    .map(|key| ((ended.tenant.0 - 1) as u32, key.clone())),
            );
        }
        for (_, job) in self.jobs.iter() {
            if let Some(key) = &job.spec.idempotency_key {
                let key = (self.lanes[job.lane].tenant, key.clone());
                same("holder of a live job's key", self.keys.get(&key), Some(&job.spec.id))?;
                keys.insert(key);
            }
        }
        // A key may be freed before the last ended job that had it, when a redriven one took it over.
        holds(self.keys.keys().all(|key| keys.contains(key)), || {
            "a key is held by no job".to_owned()
        })
    }

    fn check_lanes(&self) -> Result<(), String> {
        let mut jobs: BTreeMap<u32, u32> = BTreeMap::new();
        let mut available = BTreeSet::new();
        for (number, job) in self.jobs.iter() {
            *jobs.entry(job.lane).or_default() += 1;
            if job.state == JobState::Available {
                available.insert((job.lane, job.spec.priority, job.place(number)));
            }
        }
        same(
            "lanes",
            self.lanes.iter().map(|(lane, _)| lane).collect::<Vec<_>>(),
            jobs.keys().copied().collect(),
        )?;
        let mut waiting = BTreeSet::new();
        let mut lanes_of_routes: BTreeMap<u32, u32> = BTreeMap::new();
        for (number, lane) in self.lanes.iter() {
            same("jobs of a lane", Some(&lane.jobs), jobs.get(&number))?;
            same("a lane by what is alike", self.lane_like(number), Some(number))?;
            same(
                "a lane's place",
                self.queues[lane.queue].lanes.get(lane.held as usize),
                Some(&number),
            )?;
            same("a lane's head", lane.head, self.next_head(number))?;
            *lanes_of_routes.entry(lane.route).or_default() += 1;
            let before = waiting.len();
            waiting.extend(lane.iter().map(|(priority, place)| (number, priority, place)));
            same("a lane's length", lane.available(), waiting.len() - before)?;
        }
        for (number, route) in self.routes.iter() {
            same(
                "lanes of a route",
                route.lanes,
                lanes_of_routes.remove(&number).unwrap_or(0),
            )?;
        }
        same("jobs waiting in lanes", waiting, available)
    }

    fn check_tenants(&self) -> Result<(), String> {
        let mut all = LiveCounts::default();
        let mut tenants = vec![LiveCounts::default(); self.tenants.len()];
        let mut bytes = vec![0; self.tenants.len()];
        let mut running = vec![(0, 0); self.tenants.len()];
        let mut queues: BTreeMap<u32, LiveCounts> = BTreeMap::new();
        for (_, job) in self.jobs.iter() {
            let lane = &self.lanes[job.lane];
            *all.of(job.state) += 1;
            *tenants[lane.tenant as usize].of(job.state) += 1;
            bytes[lane.tenant as usize] += job.spec.bytes();
            if let Some(run) = &job.run {
                let (slots, charged) = &mut running[lane.tenant as usize];
                *slots += u64::from(lane.slots);
                *charged += run.charged;
            }
            *queues.entry(lane.queue).or_default().of(job.state) += 1;
        }
        same("live jobs", self.live, all)?;
        let all_bytes: u64 = self.jobs.iter().map(|(_, job)| job.bytes()).sum();
        same("bytes of live jobs", self.job_bytes, all_bytes)?;
        let mut named = 0;
        for (number, tenant) in self.tenants.iter().enumerate() {
            let name = &tenant.row.name;
            same(&format!("live jobs of {name:?}"), tenant.live, tenants[number])?;
            same(&format!("bytes of {name:?}"), tenant.bytes, bytes[number])?;
            let kept = (tenant.running_slots, tenant.charged);
            same(&format!("what {name:?} runs"), kept, running[number])?;
            same(&format!("id of {name:?}"), tenant.row.id.0, number as u64 + 1)?;
            let totals = &tenant.row.totals;
            let ended = totals.succeeded + totals.dead + totals.cancelled + totals.expired;
            same(
                &format!("jobs of {name:?}: accepted less ended"),
                totals.enqueued - ended,
                tenant.live.total(),
            )?;
            named += tenant.queues.len();
            let queues = tenant
                .queues
                .iter()
                .filter(|(_, queue)| self.queues[**queue].weight != 0);
            let weighted: BTreeMap<_, _> = queues.map(|(name, queue)| (name.clone(), *queue)).collect();
            same(&format!("queues of {name:?} with weights"), &tenant.weighted, &weighted)?;
        }
        same("queues", self.queues.len(), named)?;
        for (number, queue) in self.queues.iter() {
            let name = &queue.name;
            let kept = self.tenants[queue.tenant as usize].queues.get(name);
            same(&format!("queue {name:?}"), kept, Some(&number))?;
            same(
                &format!("live jobs of queue {name:?}"),
                queue.live,
                queues.remove(&number).unwrap_or_default(),
            )?;
            holds(queue.kept() || !queue.lanes.is_empty(), || {
                format!("queue {name:?} has nothing")
            })?;
        }
        Ok(())
    }

    fn check_timers(&self) -> Result<(), String> {
        let jobs = self.jobs.iter().filter_map(|(number, job)| job.timer(number));
        let fleets = self.fleets.values().filter(|fleet| fleet.row.idle_since != 0);
        let fleets = fleets.map(|fleet| Timer::fleet(fleet.row.idle_since + KEPT_FOR, fleet.row.id));
        let expected: Vec<Timer> = jobs.chain(fleets).collect();
        same("timers", self.timers.len(), expected.len())?;
        for timer in &expected {
            holds(self.timers.contains(timer), || format!("{timer:?} is missing"))?;
        }
        Ok(())
    }

    fn check_marks(&self) -> Result<(), String> {
        let jobs = self.jobs.iter().filter(|(_, job)| job.dirty).count();
        same("changed jobs", self.dirty.jobs.count, jobs)?;
        let sessions = self.sessions.iter().filter(|(_, session)| session.dirty).count();
        same("changed sessions", self.dirty.sessions.count, sessions)?;
        let gates = self.gates.iter().filter(|(_, gate)| gate.dirty).count();
        same("changed limiters", self.dirty.gates_count, gates)?;
        let fleets = self.fleets.values().filter(|fleet| fleet.dirty).count();
        same("changed fleets", self.dirty.fleets_count, fleets)
    }
}

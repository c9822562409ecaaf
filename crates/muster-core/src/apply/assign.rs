//! Giving jobs to sessions that have room, at the end of each entry.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::command::{TenantSettings, WorkerClass};
use crate::core::Core;
use crate::defect::Defect;
use crate::gate::CLUSTER;
use crate::ids::LeaseId;
use crate::job::JobState;
use crate::lane::Stand;
use crate::limit::LimitLevel;
use crate::live::Run;
use crate::reply::{Assignment, Event};

/// Most leases granted in one entry. What is left over makes the next `Tick` due at once.
pub(crate) const GRANTS_MAX: u32 = 10_000;

impl Core {
    /// Gives one job after the other, the classes in turn, until no class has both a job and a session left.
    pub(super) fn assign(&mut self) {
        loop {
            self.look_at_gathers();
            if self.hot.is_empty() || self.entry.granted >= GRANTS_MAX {
                return;
            }
            let mut hot = std::mem::take(&mut self.hot);
            // Numbers of classes differ after a restore; their descriptions do not.
            hot.sort_by(|a, b| self.classes[*a].what.cmp(&self.classes[*b].what));
            if self.has(Defect::OrderOfOneNode) {
                hot.reverse();
            }
            let mut waiting = hot.clone();
            while !waiting.is_empty() && self.entry.granted < GRANTS_MAX {
                waiting.retain(|class| self.entry.granted >= GRANTS_MAX || self.grant_one(*class));
            }
            for class in hot {
                self.classes[class].hot = false;
                // Only when the entry's grants are used up is there more to give.
                self.heat(class);
            }
        }
    }

    /// Gives a job of the class's next tenant to its readiest session. False if there is none.
    fn grant_one(&mut self, class: u32) -> bool {
        loop {
            self.look_at_gather(class);
            if !self.is_assignable(class) || (self.limited > 0 && self.is_closed(CLUSTER)) {
                return false;
            }
            let gathers = self.classes[class].gather;
            // What was gathered goes to the tenant for whom it was.
            if let Some((session, tenant)) = self.gathered(class) {
                let free = self.sessions[session].free();
                let Some(lane) = self.next_lane(class, tenant, free) else {
                    return false;
                };
                if self.is_held_up(lane) {
                    continue;
                }
                let Some(job) = self.first_of(tenant, lane) else {
                    return false;
                };
                self.end_gather(class);
                self.start(job, session, class);
                return true;
            }
            let Some((tenant, lane)) = self.next_of(class, self.reach(class)) else {
                if self.classes[class].gather == gathers {
                    return false;
                }
                continue;
            };
            let needed = self.lanes[lane].slots;
            if u64::from(needed) > self.classes[class].most_free() {
                if !self.begin_gather(class, tenant, needed) {
                    return false;
                }
                continue;
            }
            let Some(chosen) = self.preferred_class(class, tenant, lane) else {
                continue;
            };
            if self.has(Defect::PreferenceRequired) && self.lacks_preferred(chosen, lane) {
                return false;
            }
            let Some(job) = self.first_of(tenant, lane) else {
                return false;
            };
            let Some((_, _, _, session)) = self.classes[chosen].ready.first().copied() else {
                return false;
            };
            self.start(job, session, chosen);
            return true;
        }
    }

    /// The tenant and the lane that the class serves next, of those whose jobs take at most this many slots. Every lane that is
    /// looked at may start a job or is parked, so this ends; and a lane is parked once for each time that its gate closes.
    fn next_of(&mut self, class: u32, slots: u64) -> Option<(u32, u32)> {
        loop {
            if self.limited > 0 && self.is_closed(CLUSTER) {
                return None;
            }
            let tenant = self.classes[class].next_tenant(slots)?;
            let lane = self.next_lane(class, tenant, slots)?;
            if !self.is_held_up(lane) {
                return Some((tenant, lane));
            }
        }
    }

    /// Something lets no job of the lane start now; then it is out of sight of the classes.
    fn is_held_up(&mut self, lane: u32) -> bool {
        if let Some(stand) = self.closed_gate(lane) {
            self.park(lane, stand);
            return true;
        }
        let Some((gate, at)) = self.refusing_rate(lane) else {
            return false;
        };
        self.shut(gate, at);
        // The tenant's gate takes the tenant out of the classes, that of the cluster ends it all.
        if !matches!(self.gates[gate].key.level, LimitLevel::Cluster | LimitLevel::Tenant) {
            self.park(lane, Stand::Parked(gate));
        }
        true
    }

    /// The job of the lane that starts next.
    fn first_of(&self, tenant: u32, lane: u32) -> Option<u32> {
        let aging = if self.has(Defect::AgingFixed) {
            TenantSettings::default().aging
        } else {
            self.tenants[tenant as usize].row.settings.aging
        };
        self.lanes[lane].first(aging).map(|(_, job)| job)
    }

    /// Of the classes that would serve this lane next, the one whose workers carry most of its preferred labels; the class
    /// itself if none carries more. Only those of its fleet that have room, and whose next tenant and lane these are: so a
    /// preference never changes whose turn it is. `None`: a gate closed when they were looked at, and the lane is not next any
    /// more.
    fn preferred_class(&mut self, class: u32, tenant: u32, lane_number: u32) -> Option<u32> {
        let lane = &self.lanes[lane_number];
        let preferred = &self.routes.get(lane.route).key.preferred;
        if preferred.is_empty() {
            return Some(class);
        }
        let carried = |what: &WorkerClass| preferred.iter().filter(|label| what.labels.contains(label)).count();
        let least = carried(&self.classes[class].what);
        let any = self.has(Defect::PreferenceAnyWorker);
        let slots = u64::from(lane.slots);
        let with_room = || self.classes.iter().filter(|(_, state)| state.most_free() >= slots);
        let others = any.then(with_room).into_iter().flatten();
        // Numbers of classes differ after a restore; their descriptions do not.
        let mut others: Vec<_> = lane
            .classes
            .iter()
            .copied()
            .chain(others.map(|(other, _)| other))
            .filter(|other| self.classes[*other].fleet == self.classes[class].fleet || any)
            .map(|other| {
                (
                    Reverse(carried(&self.classes[other].what)),
                    Arc::clone(&self.classes[other].what),
                    other,
                )
            })
            .filter(|(Reverse(count), ..)| *count > least)
            .collect();
        if others.is_empty() {
            return Some(class);
        }
        others.sort_unstable();
        // What a class serves next is told by its turns only after what must wait is out of its sight: a node that was just
        // restored has not parked anything yet.
        let next = Some((tenant, lane_number));
        let best = others
            .into_iter()
            .find(|(_, _, other)| any || self.next_of(*other, self.classes[*other].most_free()) == next)
            .map_or(class, |(_, _, other)| other);
        (self.next_of(class, self.reach(class)) == next).then_some(best)
    }

    /// The workers of the class do not carry all the labels that the lane's jobs prefer.
    fn lacks_preferred(&self, class: u32, lane: u32) -> bool {
        let labels = &self.classes[class].what.labels;
        let preferred = &self.routes.get(self.lanes[lane].route).key.preferred;
        !preferred.iter().all(|label| labels.contains(label))
    }

    fn start(&mut self, number: u32, session: u32, class: u32) {
        let now = self.meta.now;
        let endless = self.has(Defect::TimeoutOnceOnly) && self.jobs[number].started_at != 0;
        let lane_number = self.jobs[number].lane;
        let lane = &self.lanes[lane_number];
        let (tenant, cost, slots, line) = (lane.tenant, lane.cost, lane.slots, lane.line);
        let lease = LeaseId {
            index: self.entry.index,
            position: self.entry.granted & !u32::from(self.has(Defect::FenceRepeated)),
        };
        self.entry.granted += 1;
        let charged = self.slot_time(self.estimate(tenant, cost), slots);
        let guaranteed = self.charge(tenant, line, self.classes[class].fleet, charged);
        self.tenants[tenant as usize].row.totals.started += 1;
        self.take_tokens(lane_number);
        let counts = u32::from(!self.has(Defect::RetryNotCounted) || self.jobs[number].failures == 0);
        let (holder, node, held) = self.use_credit(session, number, slots);
        self.move_job(number, JobState::Running, |job| {
            let timeout = job.spec.options.attempt_timeout;
            let deadline = if timeout == 0 || endless {
                0
            } else {
                now.saturating_add(timeout)
            };
            job.attempts = job.attempts.saturating_add(counts);
            job.started_at = now;
            job.run = Some(Box::new(Run {
                lease,
                deadline,
                charged,
                guaranteed,
                holder,
                session,
                held,
            }));
        });
        let job = &self.jobs[number];
        self.entry.events.push(Event::Assigned(Box::new(Assignment {
            session: holder,
            node,
            lease,
            deadline: job.run.as_ref().map_or(0, |run| run.deadline),
            attempt: job.attempts,
            available_at: job.available_at,
            sequence: job.sequence,
            spec: job.spec.clone(),
        })));
        if self.has(Defect::GrantTwice) {
            self.entry.events.extend(self.entry.events.last().cloned());
        }
    }
}

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
        if self.hot.is_empty() {
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

    /// Gives a job of the class's next tenant to its readiest session. False if there is none.
    fn grant_one(&mut self, class: u32) -> bool {
        loop {
            let Some((tenant, lane)) = self.next_of(class) else {
                return false;
            };
            let Some(chosen) = self.preferred_class(class, tenant, lane) else {
                continue;
            };
            if self.has(Defect::PreferenceRequired) && self.lacks_preferred(chosen, lane) {
                return false;
            }
            let aging = if self.has(Defect::AgingFixed) {
                TenantSettings::default().aging
            } else {
                self.tenants[tenant as usize].row.settings.aging
            };
            let Some((_, job)) = self.lanes[lane].first(aging) else {
                return false;
            };
            let Some((_, _, _, session)) = self.classes[chosen].ready.first().copied() else {
                return false;
            };
            self.start(job, session, chosen);
            return true;
        }
    }

    /// The tenant and the lane that the class serves next, if it has room. Every lane that is looked at may start a job or is
    /// parked, so this ends; and a lane is parked once for each time that its gate closes.
    fn next_of(&mut self, class: u32) -> Option<(u32, u32)> {
        loop {
            if self.limited > 0 && self.is_closed(CLUSTER) {
                return None;
            }
            let state = &self.classes[class];
            let (_, (_, tenant)) = (state.ready.first()?, state.runnable.first()?);
            let tenant = *tenant;
            let (_, lane) = state.heads.get(&tenant).and_then(|heads| heads.first())?;
            let lane = *lane;
            if let Some(stand) = self.closed_gate(lane) {
                self.park(lane, stand);
                continue;
            }
            if let Some((gate, at)) = self.refusing_rate(lane) {
                self.shut(gate, at);
                // The tenant's gate takes the tenant out of the classes, that of the cluster ends it all.
                if !matches!(self.gates[gate].key.level, LimitLevel::Cluster | LimitLevel::Tenant) {
                    self.park(lane, Stand::Parked(gate));
                }
                continue;
            }
            return Some((tenant, lane));
        }
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
        let with_room = || self.classes.iter().filter(|(_, state)| !state.ready.is_empty());
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
            .find(|(_, _, other)| any || self.next_of(*other) == next)
            .map_or(class, |(_, _, other)| other);
        (self.next_of(class) == next).then_some(best)
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
        let (tenant, cost) = (lane.tenant, lane.cost);
        let lease = LeaseId {
            index: self.entry.index,
            position: self.entry.granted & !u32::from(self.has(Defect::FenceRepeated)),
        };
        self.entry.granted += 1;
        let charged = self.estimate(tenant, cost);
        self.charge(tenant, self.classes[class].fleet, charged);
        self.tenants[tenant as usize].row.totals.started += 1;
        self.take_tokens(lane_number);
        let counts = u32::from(!self.has(Defect::RetryNotCounted) || self.jobs[number].failures == 0);
        let (holder, node, held) = self.use_credit(session, number);
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

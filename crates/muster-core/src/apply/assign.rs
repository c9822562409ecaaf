//! Giving jobs to sessions that have room, at the end of each entry.

use crate::core::Core;
use crate::defect::Defect;
use crate::gate;
use crate::ids::LeaseId;
use crate::job::JobState;
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
            let state = &self.classes[class];
            let (Some(ready), Some((_, tenant))) = (state.ready.first(), state.runnable.first()) else {
                return false;
            };
            let (session, tenant) = (ready.3, *tenant);
            let Some((_, lane)) = state.heads.get(&tenant).and_then(|heads| heads.first()) else {
                return false;
            };
            let lane = *lane;
            let row = &self.tenants[tenant as usize].row;
            if let Some(limit) = &row.settings.rate_limit {
                let at = gate::admits_at(limit, row.rate_state);
                let early = if self.has(Defect::RateAheadOfTime) { 100 } else { 0 };
                if at > self.meta.now + early {
                    self.park(tenant, at);
                    continue;
                }
            }
            let Some((_, job)) = self.lanes[lane].first(row.settings.aging) else {
                return false;
            };
            self.start(job, session);
            return true;
        }
    }

    fn start(&mut self, number: u32, session: u32) {
        let now = self.meta.now;
        let lane = &self.lanes[self.jobs[number].lane];
        let (tenant, cost) = (lane.tenant, lane.cost);
        let lease = LeaseId {
            index: self.entry.index,
            position: self.entry.granted & !u32::from(self.has(Defect::FenceRepeated)),
        };
        self.entry.granted += 1;
        let charged = self.estimate(tenant, cost);
        self.charge(tenant, charged);
        let free = self.has(Defect::RateNotSpent);
        let row = &mut self.tenants[tenant as usize].row;
        row.totals.started += 1;
        if let (Some(limit), false) = (&row.settings.rate_limit, free) {
            row.rate_state = gate::take(limit, row.rate_state, now);
        }
        let counts = u32::from(!self.has(Defect::RetryNotCounted) || self.jobs[number].failures == 0);
        let (holder, node, held) = self.use_credit(session, number);
        self.move_job(number, JobState::Running, |job| {
            let timeout = job.spec.options.attempt_timeout;
            let deadline = if timeout == 0 { 0 } else { now.saturating_add(timeout) };
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
            spec: job.spec.clone(),
        })));
        if self.has(Defect::GrantTwice) {
            self.entry.events.extend(self.entry.events.last().cloned());
        }
    }
}

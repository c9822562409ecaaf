//! Why a job does not run now.

mod start;
mod workers;

use crate::core::Core;
use crate::explain::{Explanation, Holder, LimitCause, LimitWait, OrderWait, WaitReason, WorkerMatch};
use crate::gate::Gate;
use crate::gcra;
use crate::ids::{JobId, TenantId};
use crate::job::JobState;
use crate::lane::Stand;
use crate::live::Job;
use crate::order::{NO_ORDER, place};

/// Most jobs, lanes or tenants that are looked at one by one.
const LOOK_MAX: usize = 2_000;

impl Core {
    /// Why a live job of the tenant does not run now, and when it starts if that can be known. `None` if the tenant has no
    /// such live job.
    pub fn explain(&self, tenant: TenantId, id: JobId) -> Option<Explanation> {
        let number = self.live_number(id)?;
        let job = &self.jobs[number];
        if self.tenants[self.lanes[job.lane].tenant as usize].row.id != tenant {
            return None;
        }
        let workers = self.worker_match(job.lane);
        Some(Explanation {
            job: self.job_row(number),
            now: self.meta.now,
            reasons: self.wait_reasons(number, &workers),
            holder: job.run.as_ref().and_then(|run| self.holder(run.session)),
            position: self.lane_position(number),
            share: self.share_view(job.lane),
            gatherer: self.gatherer_for(number),
            workers,
            expected_start: self.expected_start(number, &workers),
        })
    }

    fn holder(&self, session: u32) -> Option<Holder> {
        let spec = &self.sessions.get(session)?.row.spec;
        Some(Holder {
            session: spec.session,
            worker: spec.worker.clone(),
            node: spec.node,
        })
    }

    /// Who gathers slots for jobs like this one, of its tenant. By description, since numbers of classes differ.
    fn gatherer_for(&self, number: u32) -> Option<Holder> {
        let job = &self.jobs[number];
        let lane = &self.lanes[job.lane];
        if job.state != JobState::Available || lane.slots == 1 {
            return None;
        }
        let classes = lane.classes.iter().map(|class| &self.classes[*class]);
        let gathers = classes.filter_map(|class| {
            let gather = class.gather?;
            let own = gather.tenant == lane.tenant && gather.slots == lane.slots;
            own.then_some((&class.what, gather.session))
        });
        gathers.min().and_then(|(_, session)| self.holder(session))
    }

    fn wait_reasons(&self, number: u32, workers: &WorkerMatch) -> Vec<WaitReason> {
        let job = &self.jobs[number];
        if job.state == JobState::Running {
            return Vec::new();
        }
        let mut reasons = Vec::new();
        if matches!(job.state, JobState::Scheduled | JobState::Retrying) {
            reasons.push(WaitReason::NotDue {
                at: job.available_at,
                backoff: job.state == JobState::Retrying,
            });
        }
        reasons.extend(self.order_wait(number).map(WaitReason::Ordering));
        if workers.accept == 0 {
            reasons.push(WaitReason::NoWorker);
        }
        let may_start = job.state == JobState::Available;
        let mut refusing = self.refusing_gates(job);
        refusing.retain(|reason| may_start || lasts(reason));
        reasons.extend(refusing);
        if may_start && workers.accept > 0 && workers.most_free < u64::from(job.spec.options.slots) {
            reasons.push(WaitReason::NoSlot);
        }
        reasons
    }

    /// What holds a job up within its ordering key.
    fn order_wait(&self, number: u32) -> Option<OrderWait> {
        let job = &self.jobs[number];
        if job.order == NO_ORDER {
            return None;
        }
        let order = &self.orders[job.order];
        let (before, _) = order.line.before(place(job, number), LOOK_MAX);
        let first = order.line.first().map(|(_, _, first)| first);
        (before > 0 || order.held.is_some()).then(|| OrderWait {
            key: order.key.clone(),
            held_by: order.held.map(|(job, _)| job),
            first: first.map(|first| (self.jobs[first].spec.id, self.jobs[first].state)),
            before,
        })
    }

    /// Pauses and limits that refuse a start of the job now: that at which it waits first, then from narrow to wide.
    fn refusing_gates(&self, job: &Job) -> Vec<WaitReason> {
        let lane = &self.lanes[job.lane];
        let parked_at = match lane.stand {
            Stand::Parked(gate) | Stand::Never(gate) => Some(gate),
            Stand::Shown => None,
        };
        let (mut first, mut others) = (Vec::new(), Vec::new());
        for (number, cost) in self.gates_of(lane) {
            let gate = &self.gates[number];
            let parked = parked_at == Some(number);
            let reasons = if parked { &mut first } else { &mut others };
            reasons.extend(self.pause_note(gate).map(|note| WaitReason::Paused {
                level: gate.key.level,
                name: gate.key.name.clone(),
                note: note.clone(),
            }));
            reasons.extend(self.limit_wait(gate, cost, parked).map(WaitReason::Limit));
        }
        first.append(&mut others);
        first
    }

    fn limit_wait(&self, gate: &Gate, cost: u32, parked: bool) -> Option<LimitWait> {
        let now = self.meta.now;
        let (cause, opens_at) = if gate.never(cost) {
            (LimitCause::TooCostly, 0)
        } else if gate.throttled_until > gate.shut_until {
            (LimitCause::Throttled, gate.throttled_until)
        } else if gate.shut_until > 0 {
            (LimitCause::Rate, gate.shut_until)
        } else if self.is_full(gate) {
            (LimitCause::Full, 0)
        } else if gate.admits_at(cost) > now {
            (LimitCause::Rate, gate.admits_at(cost))
        } else {
            return None;
        };
        Some(LimitWait {
            level: gate.key.level,
            name: gate.key.name.clone(),
            cause,
            opens_at,
            rule: self.rules_of(&gate.key).next().cloned(),
            cost,
            tokens: gate.limit.rate.map(|rate| gcra::level(&rate, gate.arrival, now)),
            running: self.running_at(gate),
            waiting: self.waiting_at(gate),
            parked,
        })
    }
}

/// It does not pass by itself.
fn lasts(reason: &WaitReason) -> bool {
    match reason {
        WaitReason::Paused { .. } => true,
        WaitReason::Limit(limit) => limit.cause == LimitCause::TooCostly,
        _ => false,
    }
}

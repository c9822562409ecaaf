//! A job's place in its lane, and when it starts.

use std::collections::BTreeSet;

use super::LOOK_MAX;
use crate::core::Core;
use crate::explain::{LanePosition, WorkerMatch};
use crate::gcra;
use crate::ids::{Millis, Timestamp};
use crate::job::JobState;
use crate::lane::{Lane, Turn};
use crate::live::Job;

impl Core {
    pub(super) fn lane_position(&self, number: u32) -> Option<LanePosition> {
        let job = &self.jobs[number];
        if job.state != JobState::Available {
            return None;
        }
        let lane = &self.lanes[job.lane];
        let aging = self.aging_of(lane);
        let (before, exact) = lane.before(turn(job, aging), aging, LOOK_MAX);
        Some(LanePosition {
            before,
            exact,
            available: lane.available() as u64,
        })
    }

    /// When the job starts as things stand, if they tell. Only time that passes is looked ahead to: due times, tokens and
    /// throttled keys. When an attempt ends or an operator acts is unknown.
    pub(super) fn expected_start(&self, number: u32, workers: &WorkerMatch) -> Option<Timestamp> {
        let job = &self.jobs[number];
        let (due, mut at) = match job.state {
            JobState::Available => (true, self.meta.now),
            JobState::Scheduled | JobState::Retrying => (false, job.available_at.max(self.meta.now)),
            _ => return None,
        };
        if workers.most_free < u64::from(self.lanes[job.lane].slots) || self.order_wait(number).is_some() {
            return None;
        }
        let before = self.lane_position(number).map_or(0, |position| position.before);
        for (gate_number, cost) in self.gates_of(&self.lanes[job.lane]) {
            let gate = &self.gates[gate_number];
            if self.is_paused(gate) || gate.never(cost) || self.is_full(gate) {
                return None;
            }
            if gate.throttled_until > at {
                if before >= workers.free {
                    return None;
                }
                at = gate.throttled_until;
            }
            if gate.limit.rate.is_some() {
                let ahead = if due {
                    self.tokens_before(gate_number, number)
                } else {
                    None
                };
                let ahead = ahead.or_else(|| (self.waiting_at(gate) == 0).then_some(0))?;
                at = at.max(gate.shut_until).max(self.admits_after(gate_number, ahead, cost));
            }
        }
        (at != Timestamp::MAX).then_some(at)
    }

    fn admits_after(&self, gate: u32, ahead: u64, cost: u32) -> Timestamp {
        let gate = &self.gates[gate];
        gate.limit.rate.map_or(0, |rate| {
            gcra::admits_after(&rate, gate.arrival, self.meta.now, ahead, cost)
        })
    }

    /// Tokens that jobs with earlier turns take of a gate's rate. `None` if not all that wait for it are known to do so.
    fn tokens_before(&self, gate_number: u32, number: u32) -> Option<u64> {
        let job = &self.jobs[number];
        let gate = &self.gates[gate_number];
        let aging = self.aging_of(&self.lanes[job.lane]);
        let turn = turn(job, aging);
        let in_room = gate
            .room
            .places()
            .flat_map(|place| gate.room.lanes(place).take(LOOK_MAX));
        let mut lanes: BTreeSet<u32> = in_room.take(LOOK_MAX).map(|(_, lane)| lane).collect();
        lanes.insert(job.lane);
        let (mut waiting, mut tokens) = (0, 0_u64);
        for lane in lanes {
            let lane = &self.lanes[lane];
            waiting += lane.available() as u64;
            let (before, exact) = lane.before(turn, aging, LOOK_MAX);
            let cost = self.gates_of(lane).find(|(own, _)| *own == gate_number)?.1;
            if !exact {
                return None;
            }
            tokens = tokens.saturating_add(before.saturating_mul(u64::from(cost)));
        }
        (waiting == self.waiting_at(gate)).then_some(tokens)
    }

    fn aging_of(&self, lane: &Lane) -> Millis {
        self.tenants[lane.tenant as usize].row.settings.aging
    }
}

fn turn(job: &Job, aging: Millis) -> Turn {
    let back = job.spec.priority.level().saturating_mul(aging);
    (job.available_at.saturating_add(back), job.sequence)
}

//! Settings of queues: pauses and weights.

use super::out_of_range;
use super::tenant::WEIGHT_MAX;
use crate::core::Core;
use crate::hash::{Effect, text};
use crate::ids::Name;
use crate::lane::Stand;
use crate::reply::{Refusal, Reply};
use crate::tenant::WEIGHTED_QUEUES_MAX;

impl Core {
    pub(super) fn pause_queue(
        &mut self,
        tenant: Name,
        queue: Name,
        paused: bool,
        note: Name,
    ) -> Result<Reply, Refusal> {
        let tenant = self.tenant_number(&tenant)?;
        let number = self.queue_number(tenant, &queue);
        let gate = self.queues[number].gate;
        let was_closed = self.is_closed(gate);
        let state = &mut self.queues[number];
        let was_paused = std::mem::replace(&mut state.paused, paused);
        state.note = if paused { note } else { "".into() };
        let digest = text(&state.note) ^ u64::from(paused);
        self.effects
            .note(Effect::QueueSet, u64::from(tenant) ^ text(&queue), digest);
        let kept = state.has_row();
        self.dirty.queues.mark((tenant, queue), kept);
        // A paused queue is a closed gate: its lanes are parked as they are refused.
        match (was_paused, paused) {
            (false, true) => self.limited += 1,
            (true, false) => self.limited -= 1,
            _ => {}
        }
        self.follow_gate(gate, was_closed);
        self.release_queue(number);
        Ok(Reply::Done)
    }

    pub(super) fn set_queue_weight(&mut self, tenant: Name, queue: Name, weight: u32) -> Result<Reply, Refusal> {
        let tenant = self.tenant_number(&tenant)?;
        if weight > WEIGHT_MAX {
            return Err(out_of_range("weight", weight, "1 to 10000, or 0 for none"));
        }
        let weighted = &self.tenants[tenant as usize].weighted;
        if weight != 0 && !weighted.contains_key(&queue) && weighted.len() >= WEIGHTED_QUEUES_MAX {
            return Err(out_of_range(
                "queue",
                queue,
                &format!("at most {WEIGHTED_QUEUES_MAX} queues of a tenant with weights; take one away first"),
            ));
        }
        let number = self.queue_number(tenant, &queue);
        self.effects.note(
            Effect::QueueWeighed,
            u64::from(tenant) ^ text(&queue),
            u64::from(weight),
        );
        self.queues[number].weight = weight;
        let kept = self.queues[number].has_row();
        self.dirty.queues.mark((tenant, queue.clone()), kept);
        let weighted = &mut self.tenants[tenant as usize].weighted;
        if weight == 0 {
            weighted.remove(&queue);
            self.forget_line(tenant, &queue);
        } else {
            weighted.insert(queue, number);
        }
        let line = self.line_of(number);
        for i in 0..self.queues[number].lanes.len() {
            self.move_line(self.queues[number].lanes[i], line);
        }
        self.release_queue(number);
        Ok(Reply::Done)
    }

    /// Puts a lane into another line of its tenant.
    fn move_line(&mut self, number: u32, line: u32) {
        let lane = &self.lanes[number];
        let (before, slots, stand) = (lane.line, lane.slots, lane.stand);
        if before == line {
            return;
        }
        let Some(turn) = lane.head else {
            self.lanes[number].line = line;
            return;
        };
        let classes = lane.classes.clone();
        match stand {
            Stand::Shown => {
                for class in &classes {
                    self.move_head(*class, number, Some(turn), None);
                }
                self.lanes[number].line = line;
                for class in &classes {
                    self.move_head(*class, number, None, Some(turn));
                }
            }
            Stand::Parked(gate) => {
                let room = &mut self.gates[gate].room;
                for class in &classes {
                    room.remove((*class, slots, before), turn, number);
                    room.insert((*class, slots, line), turn, number);
                }
                self.lanes[number].line = line;
            }
            Stand::Never(_) => self.lanes[number].line = line,
        }
        // It stood for others, or is to be stood for, in rooms that are open.
        self.refill_rooms_of(number);
    }
}

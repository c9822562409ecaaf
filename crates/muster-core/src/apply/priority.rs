//! Other priorities for jobs that wait.

use std::sync::Arc;

use super::out_of_range;
use crate::core::Core;
use crate::defect::Defect;
use crate::hash::Effect;
use crate::ids::{JobId, Name};
use crate::job::{JobState, Priority};
use crate::reply::{Event, Refusal, Reply};

/// Most jobs of one command.
const JOBS_MAX: usize = 10_000;

impl Core {
    pub(super) fn set_priority(&mut self, tenant: Name, jobs: &[JobId], priority: Priority) -> Result<Reply, Refusal> {
        let tenant = self.tenant_number(&tenant)?;
        if jobs.len() > JOBS_MAX {
            return Err(out_of_range("ids", jobs.len(), &format!("at most {JOBS_MAX}")));
        }
        let mut changed = 0;
        for id in jobs {
            let Some(number) = self.live_number(*id) else { continue };
            let job = &self.jobs[number];
            if self.lanes[job.lane].tenant != tenant || job.spec.priority == priority {
                continue;
            }
            let word = (id.0 >> 64) as u64 ^ id.0 as u64;
            self.effects.note(Effect::PrioritySet, word, priority as u64);
            self.give_priority(number, priority);
            changed += 1;
        }
        Ok(Reply::Prioritised { changed })
    }

    fn give_priority(&mut self, number: u32, priority: Priority) {
        let kept = self.has(Defect::PriorityNotChanged);
        let job = &mut self.jobs[number];
        let (lane, place) = (job.lane, job.place(number));
        let given = if kept { job.spec.priority } else { priority };
        let before = std::mem::replace(&mut Arc::make_mut(&mut job.spec).priority, given);
        let (id, state, attempts) = (job.spec.id, job.state, job.attempts);
        if state == JobState::Available {
            self.lanes[lane].remove(before, place);
            self.lanes[lane].insert(given, place);
            self.refresh_lane(lane);
            self.refill_rooms_of(lane);
        }
        self.mark_job(number);
        let tenant = self.tenants[self.lanes[lane].tenant as usize].row.id;
        self.entry.events.push(Event::PriorityChanged {
            tenant,
            job: id,
            state,
            attempts,
        });
    }
}

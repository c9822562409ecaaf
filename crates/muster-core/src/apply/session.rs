//! Sessions: opening, credits, closing, losing.

use std::sync::Arc;

use crate::class::Class;
use crate::core::Core;
use crate::defect::Defect;
use crate::hash::Effect;
use crate::ids::{NodeId, SessionId};
use crate::job::{JobError, JobState};
use crate::lane::Stand;
use crate::reply::{Event, Refusal, Reply};
use crate::row::{ClosedSession, FleetKey, SessionRow};
use crate::session::Session;

use super::report::Ending;

/// Closed sessions remembered.
const CLOSED_MAX: usize = 1024;

/// How a session ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// In order.
    Closed,
    /// The worker vanished.
    Lost,
}

impl Core {
    pub(super) fn open_session(&mut self, spec: crate::command::SessionSpec) -> Result<Reply, Refusal> {
        let id = spec.session;
        if self.session_of.contains_key(&id) {
            return Ok(Reply::Done);
        }
        let closed = self.meta.closed.iter().any(|closed| closed.session == id);
        if closed || spec.proposed_after < self.meta.closed_floor {
            return Err(Refusal::SessionClosed);
        }
        let now = self.meta.now;
        let node = spec.node;
        let row = SessionRow {
            spec,
            opened_at: now,
            vouched_at: now,
            credit_total: 0,
            granted_total: 0,
            quiet: false,
            gathers: None,
        };
        let number = self.add_session(row, false);
        self.mark_session(number);
        self.note_session(Effect::SessionOpened, id, node);
        self.entry.events.push(Event::SessionOpened { session: id, node });
        Ok(Reply::Done)
    }

    fn note_session(&mut self, effect: Effect, id: SessionId, detail: u64) {
        self.effects.note(effect, (id.0 >> 64) as u64 ^ id.0 as u64, detail);
    }

    /// Puts a new or restored session into the indexes, and its class if it is the first of it.
    pub(crate) fn add_session(&mut self, row: SessionRow, written: bool) -> u32 {
        let class = self.class_number(&row.spec.class);
        let id = row.spec.session;
        self.classes[class].sessions += 1;
        let number = self.sessions.insert(Session {
            row,
            class,
            leases: Vec::new(),
            held: 0,
            dirty: false,
            written,
        });
        self.session_of.insert(id, number);
        if let Some(ready) = self.sessions[number].ready(number) {
            self.classes[class].ready.insert(ready);
            self.heat(class);
        }
        number
    }

    /// The class's number; one that is new is matched with every route and lane.
    fn class_number(&mut self, what: &crate::command::WorkerClass) -> u32 {
        if let Some(number) = self.class_of.get(what) {
            return *number;
        }
        let what = Arc::new(what.clone());
        let number = self.classes.insert(Class::new(Arc::clone(&what), 0));
        self.classes[number].fleet = self.join_fleet(FleetKey::of(&what), number);
        self.routes.add_class(number, &what);
        self.class_of.insert(what, number);
        let lanes: Vec<u32> = self.lanes.iter().map(|(lane, _)| lane).collect();
        for lane in lanes {
            let state = &self.lanes[lane];
            let name = &self.tenants[state.tenant as usize].row.name;
            if self.routes.get(state.route).classes.contains(&number) && self.serves_tenant(number, name) {
                self.serve_lane(number, lane);
            }
        }
        number
    }

    /// Whether workers of the class serve the tenant.
    pub(crate) fn serves_tenant(&self, class: u32, name: &str) -> bool {
        self.classes[class].accepts(name) || self.has(Defect::WorkerTenantIgnored)
    }

    /// The class serves this lane from now on.
    fn serve_lane(&mut self, class: u32, number: u32) {
        let lane = &mut self.lanes[number];
        lane.classes.push(class);
        let (tenant, stand, slots, line) = (lane.tenant, lane.stand, lane.slots, lane.line);
        let Some(turn) = lane.head else { return };
        self.compete(tenant, class, true);
        match stand {
            Stand::Shown => self.move_head(class, number, None, Some(turn)),
            Stand::Parked(gate) => {
                self.gates[gate].room.insert((class, slots, line), turn, number);
                if !self.is_closed(gate) {
                    // Those that stand for the room may not be served by this class.
                    self.show(number);
                }
            }
            Stand::Never(_) => {}
        }
    }

    fn release_class(&mut self, number: u32) {
        let class = &mut self.classes[number];
        class.sessions -= 1;
        if class.sessions > 0 {
            return;
        }
        self.hot.retain(|hot| *hot != number);
        self.routes.drop_class(number);
        let lanes: Vec<u32> = self.lanes.iter().map(|(lane, _)| lane).collect();
        for lane in lanes {
            self.leave_lane(number, lane);
        }
        let fleet = self.classes[number].fleet;
        let Some(class) = self.classes.remove(number) else {
            return;
        };
        self.leave_fleet(fleet, number);
        self.class_of.remove(&class.what);
    }

    /// The class, which is going, serves this lane no longer.
    fn leave_lane(&mut self, class: u32, number: u32) {
        let lane = &mut self.lanes[number];
        let Some(at) = lane.classes.iter().position(|own| *own == class) else {
            return;
        };
        lane.classes.remove(at);
        let (tenant, stand, slots, line) = (lane.tenant, lane.stand, lane.slots, lane.line);
        let unserved = lane.classes.is_empty();
        let Some(turn) = lane.head else { return };
        match stand {
            Stand::Shown => self.move_head(class, number, Some(turn), None),
            Stand::Parked(gate) => self.gates[gate].room.remove((class, slots, line), turn, number),
            Stand::Never(_) => {}
        }
        if unserved && matches!(stand, Stand::Parked(_)) {
            self.set_stand(number, Stand::Shown);
        }
        self.retire(tenant, class);
    }

    /// Changes what decides a session's place among the ready ones.
    pub(crate) fn change_session(&mut self, number: u32, change: impl FnOnce(&mut Session)) {
        let session = &mut self.sessions[number];
        let class = session.class;
        let before = session.ready(number);
        change(session);
        let after = session.ready(number);
        if before != after {
            let ready = &mut self.classes[class].ready;
            if let Some(before) = before {
                ready.remove(&before);
            }
            if let Some(after) = after {
                ready.insert(after);
            }
        }
        self.heat(class);
        self.mark_session(number);
    }

    /// A lease is granted: its slots are free no longer. Returns the session's id, its node and the lease's position with it.
    pub(super) fn use_credit(&mut self, number: u32, job: u32, slots: u32) -> (SessionId, NodeId, u32) {
        let taken = if self.has(Defect::SlotsNotCounted) {
            1
        } else {
            u64::from(slots)
        };
        self.change_session(number, |session| {
            session.row.granted_total += taken;
            session.held += u64::from(slots);
        });
        let session = &mut self.sessions[number];
        session.leases.push(job);
        (
            session.row.spec.session,
            session.row.spec.node,
            session.leases.len() as u32 - 1,
        )
    }

    pub(super) fn add_credits(&mut self, number: u32, credit_total: u64) {
        let before = self.sessions[number].row.credit_total;
        let credit_total = if self.has(Defect::CreditsAdded) {
            before + credit_total
        } else {
            credit_total
        };
        if credit_total > before {
            self.change_session(number, |session| session.row.credit_total = credit_total);
            let id = self.sessions[number].row.spec.session;
            self.note_session(Effect::Credits, id, credit_total);
        }
    }

    pub(super) fn quiet_session(&mut self, id: SessionId) -> Reply {
        if let Some(number) = self.session_of.get(&id).copied()
            && !self.sessions[number].row.quiet
            && !self.has(Defect::QuietIgnored)
        {
            self.make_quiet(number);
            self.note_session(Effect::Quiet, id, 0);
        }
        Reply::Done
    }

    /// No new leases for it, and none that it gathers slots for.
    fn make_quiet(&mut self, number: u32) {
        if self.sessions[number].row.gathers.is_some() {
            self.end_gather(self.sessions[number].class);
        }
        self.change_session(number, |session| session.row.quiet = true);
    }

    pub(super) fn vouch(&mut self, sessions: Vec<SessionId>) -> Reply {
        let now = self.meta.now;
        for id in sessions {
            if let Some(number) = self.session_of.get(&id).copied() {
                self.sessions[number].row.vouched_at = now;
                self.mark_session(number);
                self.note_session(Effect::Vouched, id, now);
            }
        }
        Reply::Done
    }

    /// Closes a session and takes its leases back, oldest first. One that is not open is remembered as closed all the
    /// same, so that an open still on its way does not bring it to life.
    pub(super) fn end_session(&mut self, id: SessionId, end: End) -> Reply {
        let Some(number) = self.session_of.get(&id).copied() else {
            if !self.meta.closed.iter().any(|closed| closed.session == id) {
                self.note_session(Effect::SessionClosed, id, 1);
                self.remember_closed(id);
            }
            return Reply::Done;
        };
        // No new leases for it while its own are taken back.
        self.make_quiet(number);
        let mut leases: Vec<_> = self.sessions[number]
            .leases
            .iter()
            .filter_map(|job| Some((self.jobs[*job].run.as_ref()?.lease, *job)))
            .collect();
        leases.sort_unstable();
        if self.has(Defect::LeaseLeftBehind) {
            leases.pop();
        }
        for (lease, job) in leases {
            let spec_id = self.jobs[job].spec.id;
            self.entry.events.push(Event::LeaseRevoked {
                session: id,
                job: spec_id,
                lease,
            });
            let ending = match end {
                End::Closed => Ending::Preempted,
                End::Lost => Ending::Crashed,
            };
            self.end_attempt(job, ending, None);
        }
        let Some(session) = self.sessions.remove(number) else {
            return Reply::Done;
        };
        self.session_of.remove(&id);
        self.release_class(session.class);
        self.dirty.sessions.gone(id, session.dirty, session.written);
        self.remember_closed(id);
        let node = session.row.spec.node;
        self.note_session(Effect::SessionClosed, id, node);
        self.entry.events.push(Event::SessionClosed { session: id, node });
        Reply::Done
    }

    fn remember_closed(&mut self, session: SessionId) {
        let closed = &mut self.meta.closed;
        if closed.len() >= CLOSED_MAX {
            let forgotten = closed.remove(0);
            self.meta.closed_floor = forgotten.index.saturating_add(1);
        }
        self.meta.closed.push(ClosedSession {
            index: self.entry.index,
            session,
        });
    }
}

/// What is kept with a job whose worker vanished too often.
pub(super) fn crashed(crashes: u32) -> JobError {
    JobError {
        class: "crashed".into(),
        message: format!("the worker vanished during {crashes} attempts").into(),
    }
}

/// State that a job waits in until `available_at`.
pub(super) fn waiting(available_at: u64, now: u64, otherwise: JobState) -> JobState {
    if available_at > now {
        otherwise
    } else {
        JobState::Available
    }
}

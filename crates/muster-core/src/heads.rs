//! Which lanes stand before which classes: the next job of a lane, and who is runnable for whom.
//!
//! A lane with an available job is *shown* to the classes that serve it, or *parked* at a gate that refused it
//! (`gates.rs`). A tenant is runnable for a class while a lane of it is shown there and its own gate is open.

use crate::core::Core;
use crate::lane::{Stand, Turn};

impl Core {
    /// Brings the lane's place up to date after its jobs or the tenant's aging changed.
    pub(crate) fn refresh_lane(&mut self, number: u32) {
        let head = self.next_head(number);
        self.set_head(number, head, true);
    }

    /// The turn at which the lane is to stand.
    pub(crate) fn next_head(&self, number: u32) -> Option<Turn> {
        let lane = &self.lanes[number];
        let aging = self.tenants[lane.tenant as usize].row.settings.aging;
        Some(lane.first(aging)?.0)
    }

    /// Moves the lane to its new turn. `join`: see [`Core::compete`].
    pub(crate) fn set_head(&mut self, number: u32, head: Option<Turn>, join: bool) {
        let lane = &mut self.lanes[number];
        let before = std::mem::replace(&mut lane.head, head);
        if before == head {
            return;
        }
        let (tenant, stand) = (lane.tenant, lane.stand);
        let classes = lane.classes.len();
        if before.is_none() {
            for i in 0..classes {
                self.compete(tenant, self.lanes[number].classes[i], join);
            }
        }
        match stand {
            Stand::Shown => self.move_shown(number, before, head),
            Stand::Parked(gate) => self.move_parked(number, gate, before, head),
            Stand::Never(gate) => {
                if head.is_none() {
                    self.gates[gate].room.never.remove(&number);
                    self.set_stand(number, Stand::Shown);
                }
            }
        }
        if head.is_none() {
            for i in 0..classes {
                self.retire(tenant, self.lanes[number].classes[i]);
            }
        }
    }

    fn move_shown(&mut self, number: u32, before: Option<Turn>, head: Option<Turn>) {
        if before.is_none()
            && head.is_some()
            && let Some(closed) = self.closed_gate(number)
            && !self.lanes[number].classes.is_empty()
        {
            // It need not be shown first only to be refused.
            self.enter_room(number, closed);
            return;
        }
        for i in 0..self.lanes[number].classes.len() {
            let class = self.lanes[number].classes[i];
            self.move_head(class, number, before, head);
        }
        if before.is_some() {
            // It stood for others that wait in open rooms, and may now come after them.
            self.refill_rooms_of(number);
        }
    }

    fn move_parked(&mut self, number: u32, gate: u32, before: Option<Turn>, head: Option<Turn>) {
        for i in 0..self.lanes[number].classes.len() {
            let lane = &self.lanes[number];
            let place = (lane.classes[i], lane.slots, lane.line);
            let room = &mut self.gates[gate].room;
            if let Some(turn) = before {
                room.remove(place, turn, number);
            }
            if let Some(turn) = head {
                room.insert(place, turn, number);
            }
        }
        if head.is_none() {
            self.set_stand(number, Stand::Shown);
        } else if head < before && !self.is_closed(gate) {
            // It may come before those that stand for the room.
            self.show(number);
        }
    }

    /// Moves a shown lane from one turn to another in one class.
    pub(crate) fn move_head(&mut self, class: u32, lane: u32, before: Option<Turn>, after: Option<Turn>) {
        let state = &self.lanes[lane];
        let (number, slots, line) = (state.tenant, state.slots, state.line);
        let open = self.tenant_is_open(number);
        let key = self.standing(number, self.classes[class].fleet);
        let tenant = &mut self.tenants[number as usize];
        let state = &mut self.classes[class];
        let shelf = state.shelf_mut(slots);
        let heads = shelf.heads.entry((number, line)).or_default();
        let was = !heads.is_empty();
        if let Some(turn) = before {
            heads.remove(&(turn, lane));
        }
        if let Some(turn) = after {
            heads.insert((turn, lane));
        }
        let is = !heads.is_empty();
        if !is {
            shelf.heads.remove(&(number, line));
        }
        if is && !was {
            tenant.places.push((class, slots, line));
            if open {
                shelf.runnable.insert(key);
                self.heat(class);
            }
        } else if was && !is {
            tenant.places.retain(|other| *other != (class, slots, line));
            if !tenant.places.iter().any(|other| (other.0, other.1) == (class, slots)) {
                shelf.runnable.remove(&key);
            }
            state.drop_shelf_if_empty(slots);
            // A session may have gathered slots for it.
            self.heat(class);
        }
    }

    /// Call after a tenant's gate may have opened or closed, with how it stood before.
    pub(crate) fn refresh_tenant(&mut self, number: u32, was_open: bool) {
        let open = self.tenant_is_open(number);
        if open == was_open {
            return;
        }
        for i in 0..self.tenants[number as usize].places.len() {
            let (class, slots, _) = self.tenants[number as usize].places[i];
            let key = self.standing(number, self.classes[class].fleet);
            let runnable = &mut self.classes[class].shelf_mut(slots).runnable;
            if open {
                runnable.insert(key);
            } else {
                runnable.remove(&key);
            }
            self.heat(class);
        }
    }

    /// Notes that a class may have something to assign.
    pub(crate) fn heat(&mut self, number: u32) {
        if !self.classes[number].hot && self.is_assignable(number) && !self.is_closed(crate::gate::CLUSTER) {
            self.classes[number].hot = true;
            self.hot.push(number);
        }
    }

    /// After a restore: as long as not all was there, nothing could be said of what is to be assigned.
    pub(crate) fn reheat(&mut self) {
        for class in std::mem::take(&mut self.hot) {
            self.classes[class].hot = false;
        }
        self.heat_all();
    }

    /// The gate of the cluster has opened.
    pub(crate) fn heat_all(&mut self) {
        let classes: Vec<u32> = self.classes.iter().map(|(class, _)| class).collect();
        for class in classes {
            self.heat(class);
        }
    }
}

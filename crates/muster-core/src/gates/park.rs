//! Lanes on their way between their classes and the rooms of gates.

use crate::core::Core;
use crate::lane::Stand;

impl Core {
    /// Takes a shown lane away from its classes; it waits where `stand` says.
    pub(crate) fn park(&mut self, number: u32, stand: Stand) {
        let Some(turn) = self.lanes[number].head else { return };
        for i in 0..self.lanes[number].classes.len() {
            let class = self.lanes[number].classes[i];
            self.move_head(class, number, Some(turn), None);
        }
        self.enter_room(number, stand);
        self.refill_rooms_of(number);
    }

    /// Notes where a lane stands; returns where it stood.
    pub(crate) fn set_stand(&mut self, number: u32, stand: Stand) -> Stand {
        let before = std::mem::replace(&mut self.lanes[number].stand, stand);
        self.parked += u32::from(stand != Stand::Shown);
        self.parked -= u32::from(before != Stand::Shown);
        before
    }

    /// Puts a lane that is not before its classes into a room.
    pub(crate) fn enter_room(&mut self, number: u32, stand: Stand) {
        let Some(turn) = self.lanes[number].head else { return };
        self.set_stand(number, stand);
        let lane = &self.lanes[number];
        match stand {
            Stand::Parked(gate) => {
                for class in &lane.classes {
                    self.gates[gate]
                        .room
                        .insert((*class, lane.slots, lane.line), turn, number);
                }
            }
            Stand::Never(gate) => {
                self.gates[gate].room.never.insert(number);
            }
            Stand::Shown => {}
        }
    }

    /// Lets a parked lane go, to stand before its classes.
    pub(crate) fn show(&mut self, number: u32) {
        let Some(turn) = self.lanes[number].head else { return };
        let before = self.set_stand(number, Stand::Shown);
        let lane = &self.lanes[number];
        match before {
            Stand::Shown => return,
            Stand::Parked(gate) => {
                for class in &lane.classes {
                    self.gates[gate]
                        .room
                        .remove((*class, lane.slots, lane.line), turn, number);
                }
            }
            Stand::Never(gate) => {
                self.gates[gate].room.never.remove(&number);
            }
        }
        for i in 0..self.lanes[number].classes.len() {
            let class = self.lanes[number].classes[i];
            self.move_head(class, number, None, Some(turn));
        }
    }

    /// If the gate is open, shows the first lane of each place that waits there.
    pub(crate) fn refill(&mut self, number: u32) {
        let room = &self.gates[number].room;
        if room.is_empty() || self.is_closed(number) {
            return;
        }
        // From the last on, since a place whose last lane goes is replaced by the last place. One that is met twice shows
        // a lane more than need be, which does no harm.
        for at in (0..room.places_len()).rev() {
            if let Some((_, lane)) = self.gates[number].room.first_of(at) {
                self.show(lane);
            }
        }
    }

    /// The same for all gates of a lane.
    pub(crate) fn refill_rooms_of(&mut self, lane: u32) {
        if self.parked == 0 {
            return;
        }
        let mut i = 0;
        while let Some((gate, _)) = self.gate_at(&self.lanes[lane], i) {
            i += 1;
            self.refill(gate);
        }
    }
}

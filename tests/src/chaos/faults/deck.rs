//! The order in which faults come: like cards of a deck, so that each comes early and about as often as it should.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Fault, Sort};

/// A shuffled deck; shuffled anew when it is used up.
pub(super) struct Deck {
    faults: Vec<Fault>,
    left: Vec<Fault>,
}

impl Deck {
    pub(super) fn new(faults: &[Fault]) -> Self {
        let faults = faults
            .iter()
            .flat_map(|fault| std::iter::repeat_n(*fault, fault.weight()));
        Self {
            faults: faults.collect(),
            left: Vec::new(),
        }
    }

    /// The next fault whose sort is not busy.
    pub(super) fn draw(&mut self, rng: &mut StdRng, busy: impl Fn(Sort) -> bool) -> Option<Fault> {
        for _ in 0..2 {
            if let Some(at) = self.left.iter().rposition(|fault| !busy(fault.sort())) {
                return Some(self.left.remove(at));
            }
            if !self.left.is_empty() && self.left.len() >= self.faults.len() {
                return None;
            }
            // What is left stays on top.
            let mut fresh = self.faults.clone();
            fresh.shuffle(rng);
            fresh.append(&mut self.left);
            self.left = fresh;
        }
        None
    }
}

//! The jobs of one lane and level in order.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::Timestamp;

/// Place of a job among its like: `available_at`, then sequence. The job's number comes last and never decides.
pub(crate) type Place = (Timestamp, u64, u32);

/// Mark of an entry whose job was taken out of the middle.
const GONE: u32 = u32::MAX;

/// An ordered queue, cheap for jobs that come in order (24 bytes each), right for all others.
#[derive(Debug, Default)]
pub(crate) struct Fifo {
    /// Jobs that came in order; the first is never `GONE`.
    line: VecDeque<Place>,
    /// Entries of `line` that are `GONE`.
    gone: usize,
    /// Jobs that came out of order: retried, handed back, delayed.
    aside: BTreeSet<Place>,
}

impl Fifo {
    pub(crate) fn len(&self) -> usize {
        self.line.len() - self.gone + self.aside.len()
    }

    pub(crate) fn insert(&mut self, place: Place) {
        if self
            .line
            .back()
            .is_none_or(|back| (back.0, back.1) < (place.0, place.1))
        {
            self.line.push_back(place);
        } else {
            self.aside.insert(place);
        }
    }

    pub(crate) fn first(&self) -> Option<Place> {
        match (self.line.front(), self.aside.first()) {
            (Some(line), Some(aside)) => Some(*line.min(aside)),
            (line, aside) => line.or(aside).copied(),
        }
    }

    /// How many come before `place`, and whether they were counted to the end: at most `looks` are looked at one by one.
    pub(crate) fn before(&self, place: Place, looks: usize) -> (u64, bool) {
        let earlier = self
            .line
            .partition_point(|entry| (entry.0, entry.1) < (place.0, place.1));
        let aside = self.aside.range(..(place.0, place.1, 0)).take(looks).count();
        let looked_at_all = aside < looks && (self.gone == 0 || earlier <= looks);
        let gone = if self.gone == 0 {
            0
        } else {
            self.line
                .iter()
                .take(earlier.min(looks))
                .filter(|entry| entry.2 == GONE)
                .count()
        };
        ((earlier - gone + aside) as u64, looked_at_all)
    }

    pub(crate) fn remove(&mut self, place: Place) {
        if self.line.front() == Some(&place) {
            self.line.pop_front();
            self.trim();
            return;
        }
        if self.aside.remove(&place) {
            return;
        }
        let found = self
            .line
            .binary_search_by(|entry| (entry.0, entry.1).cmp(&(place.0, place.1)));
        if let Ok(at) = found
            && self.line[at].2 == place.2
        {
            self.line[at].2 = GONE;
            self.gone += 1;
            if self.gone > 64 && self.gone * 2 > self.line.len() {
                self.line.retain(|entry| entry.2 != GONE);
                self.gone = 0;
            }
        }
    }

    /// Drops what is gone from the front, and room that is not needed any more.
    fn trim(&mut self) {
        while self.line.front().is_some_and(|front| front.2 == GONE) {
            self.line.pop_front();
            self.gone -= 1;
        }
        if self.line.is_empty() && self.line.capacity() > 4096 {
            self.line = VecDeque::new();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Place> {
        self.line
            .iter()
            .filter(|place| place.2 != GONE)
            .chain(&self.aside)
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_as_an_ordered_set() {
        let mut fifo = Fifo::default();
        let mut model = BTreeSet::new();
        let mut random = 1_u64;
        for step in 0..50_000_u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let pick = (random >> 33) as usize;
            match pick % 5 {
                0 | 1 => {
                    let place = (step / 3, step, step as u32);
                    fifo.insert(place);
                    model.insert(place);
                }
                2 => {
                    let place = (step / 4, step, step as u32);
                    fifo.insert(place);
                    model.insert(place);
                }
                3 if !model.is_empty() => {
                    let place = *model.iter().nth(pick % model.len().min(50)).unwrap();
                    fifo.remove(place);
                    model.remove(&place);
                }
                _ => {
                    if let Some(place) = model.pop_first() {
                        fifo.remove(place);
                    }
                }
            }
            assert_eq!(fifo.first(), model.first().copied());
            assert_eq!(fifo.len(), model.len());
            if step % 64 == 0 {
                let place = (step / 8, step / 2, 0);
                let before = model.range(..place).count() as u64;
                assert_eq!(fifo.before(place, usize::MAX), (before, true));
                let (some, exact) = fifo.before(place, 100);
                assert!(!exact || some == before, "{some} of {before}");
            }
        }
    }

    #[test]
    fn taking_out_from_the_back_leaves_the_front() {
        let mut fifo = Fifo::default();
        for i in 0..1000_u32 {
            fifo.insert((5, u64::from(i), i));
        }
        for i in (1..1000).rev() {
            fifo.remove((5, u64::from(i), i));
        }
        assert_eq!(fifo.len(), 1);
        assert_eq!(fifo.iter().count(), 1);
        fifo.insert((5, 3, 3));
        assert_eq!(fifo.first(), Some((5, 0, 0)));
        fifo.remove((5, 0, 0));
        assert_eq!(fifo.first(), Some((5, 3, 3)));
    }
}

//! The memory of administrative requests: a repeat is answered as the first time and changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::hash::FixedState;
use crate::ids::{LogIndex, RequestId};
use crate::reply::Reply;
use crate::row::{Changes, Row, RowKey};

/// Requests remembered.
const REQUESTS_MAX: usize = 4_096;

/// An administrative request that was done, and its reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRow {
    /// Log index of the entry that did it.
    pub index: LogIndex,
    /// Position among the requests of that entry.
    pub position: u32,
    /// Its id.
    pub request: RequestId,
    /// Tells a repeat from another command under the same id.
    pub fingerprint: u64,
    /// What it was answered.
    pub reply: Reply,
}

#[derive(Debug, Default)]
pub(crate) struct Requests {
    rows: BTreeMap<(LogIndex, u32), RequestRow>,
    places: HashMap<RequestId, (LogIndex, u32), FixedState>,
    fresh: BTreeSet<(LogIndex, u32)>,
    deleted: Vec<(LogIndex, u32)>,
}

impl Requests {
    pub(crate) fn find(&self, request: RequestId) -> Option<&RequestRow> {
        self.rows.get(self.places.get(&request)?)
    }

    /// Requests done at or after this index are remembered; 0: all.
    pub(crate) fn floor(&self) -> LogIndex {
        if self.rows.len() < REQUESTS_MAX {
            return 0;
        }
        self.rows.first_key_value().map_or(0, |((index, _), _)| *index)
    }

    pub(crate) fn remember(&mut self, row: RequestRow) {
        while self.rows.len() >= REQUESTS_MAX {
            let Some((place, oldest)) = self.rows.pop_first() else {
                break;
            };
            self.places.remove(&oldest.request);
            if !self.fresh.remove(&place) {
                self.deleted.push(place);
            }
        }
        let place = (row.index, row.position);
        self.fresh.insert(place);
        self.places.insert(row.request, place);
        self.rows.insert(place, row);
    }

    pub(crate) fn restore(&mut self, row: RequestRow) -> Result<(), String> {
        let (place, request) = ((row.index, row.position), row.request);
        if self.places.insert(request, place).is_some() || self.rows.insert(place, row).is_some() {
            return Err(format!("request {:032x} is there twice", request.0));
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.fresh.len() + self.deleted.len()
    }

    pub(crate) fn take_changes(&mut self, changes: &mut Changes) {
        let fresh = std::mem::take(&mut self.fresh);
        let fresh = fresh.iter().filter_map(|place| self.rows.get(place).cloned());
        changes.put.extend(fresh.map(Row::Request));
        let deleted = std::mem::take(&mut self.deleted).into_iter();
        changes
            .delete
            .extend(deleted.map(|(index, position)| RowKey::Request(index, position)));
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.rows.values().cloned().map(Row::Request)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.rows.len() != self.places.len() || self.rows.len() > REQUESTS_MAX {
            return Err(format!(
                "{} requests are remembered, {} of them by id, at most {REQUESTS_MAX} may be",
                self.rows.len(),
                self.places.len()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_the_floor_tells() {
        let mut requests = Requests::default();
        let row = |number: u64| RequestRow {
            index: number / 2,
            position: (number % 2) as u32,
            request: RequestId(u128::from(number)),
            fingerprint: number,
            reply: Reply::Done,
        };
        for number in 0..REQUESTS_MAX as u64 {
            assert_eq!(requests.floor(), 0, "nothing is forgotten yet");
            requests.remember(row(number));
        }
        let mut changes = Changes::default();
        requests.take_changes(&mut changes);
        assert_eq!((changes.put.len(), changes.delete.len()), (REQUESTS_MAX, 0));
        for number in 0..3 {
            requests.remember(row(REQUESTS_MAX as u64 + number));
        }
        assert_eq!(requests.floor(), 1);
        assert!(requests.find(RequestId(2)).is_none());
        assert_eq!(requests.find(RequestId(3)).map(|row| row.fingerprint), Some(3));
        let mut changes = Changes::default();
        requests.take_changes(&mut changes);
        assert_eq!((changes.put.len(), changes.delete.len()), (3, 3));
        requests.check().unwrap();
    }
}

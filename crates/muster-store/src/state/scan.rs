//! Reading all that is stored, to see that it can be read.

use rocksdb::IteratorMode;

use super::generation::Generation;
use super::history::history_key;
use crate::codec::{decode_job, decode_row, encode_key};
use crate::{Error, Result};

/// What a scan found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Rows of the state.
    pub rows: u64,
    /// Ended jobs.
    pub ended: u64,
}

pub(super) fn scan(state: &Generation) -> Result<Scanned> {
    let failed = || Error::database("reading the state");
    let mut scanned = Scanned::default();
    for item in state.db.iterator_cf(state.rows()?, IteratorMode::Start) {
        let (key, value) = item.map_err(failed())?;
        if *encode_key(&decode_row(&value)?.key()) != *key {
            return Err(Error::damaged("state row", "it lies under the key of another row"));
        }
        scanned.rows += 1;
    }
    for item in state.db.iterator_cf(state.history()?, IteratorMode::Start) {
        let (key, value) = item.map_err(failed())?;
        let row = decode_job(&value)?;
        if history_key(&row)[..] != *key {
            return Err(Error::damaged("ended job", "it lies under the key of another job"));
        }
        let id = row.spec.id;
        let found = state.db.get_cf(state.ids()?, id.0.to_be_bytes()).map_err(failed())?;
        if found.is_none() {
            return Err(Error::damaged("ended job", format!("job {id} is not found by its id")));
        }
        scanned.ended += 1;
    }
    Ok(scanned)
}

//! Reading everything of a state: every checksum is looked at, every record must decode and lie under its own key, every
//! index entry must lead to what it names.

use std::ops::ControlFlow;

use muster_core::Row;
use rocksdb::{ColumnFamily, IteratorMode, ReadOptions};

use super::generation::Generation;
use super::history::{self, history_key};
use crate::codec::{decode_job, decode_row, encode_key};
use crate::{Error, Result};

/// Readahead of a full scan.
const READAHEAD: usize = 2 << 20;

/// How much was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// Rows of the state.
    pub rows: u64,
    /// Ended jobs in the history.
    pub ended_jobs: u64,
    /// Entries of the index by job id.
    pub ids: u64,
    /// Entries of the index by idempotency key.
    pub keys: u64,
    /// Feature level by the row of counters.
    pub level: u32,
}

/// Told of each fault; says whether to go on.
pub(crate) type Report<'a> = &'a mut dyn FnMut(Error) -> ControlFlow<()>;

/// Looks at a key and its value.
type Look<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<()>;

/// Reads all records. `read` is called with every 1,000th record.
pub(super) fn records(state: &Generation, report: Report<'_>, read: &mut dyn FnMut(u64)) -> Result<StateCounts> {
    let mut counts = StateCounts::default();
    if let Err(error) = state.meta()
        && report(error).is_break()
    {
        return Ok(counts);
    }
    let mut ticks = Ticks { total: 0, read };
    let flow = scan(state, state.rows()?, report, &mut |key, value| {
        counts.rows += 1;
        ticks.tick();
        let row = decode_row(value)?;
        if let Row::Meta(meta) = &row {
            counts.level = meta.level;
        }
        if *encode_key(&row.key()) != *key {
            return Err(Error::damaged("state row", "it lies under the key of another row"));
        }
        Ok(())
    });
    if flow.is_continue() {
        ended_records(state, report, &mut ticks, &mut counts)?;
    }
    Ok(counts)
}

/// The records that [`super::load`] does not read: those of ended jobs.
pub(super) fn ended(state: &Generation, report: Report<'_>) -> Result<()> {
    let mut ticks = Ticks {
        total: 0,
        read: &mut |_| {},
    };
    ended_records(state, report, &mut ticks, &mut StateCounts::default())
}

/// Counts records that were read.
struct Ticks<'a> {
    total: u64,
    read: &'a mut dyn FnMut(u64),
}

impl Ticks<'_> {
    fn tick(&mut self) {
        self.total += 1;
        if self.total.is_multiple_of(1_000) {
            (self.read)(self.total);
        }
    }
}

fn ended_records(
    state: &Generation,
    report: Report<'_>,
    ticks: &mut Ticks<'_>,
    counts: &mut StateCounts,
) -> Result<()> {
    let mut flow = scan(state, state.history()?, report, &mut |key, value| {
        counts.ended_jobs += 1;
        ticks.tick();
        let row = decode_job(value)?;
        if history_key(&row) != *key {
            return Err(Error::damaged(
                "job in the history",
                "it lies under the key of another job",
            ));
        }
        Ok(())
    });
    if flow.is_continue() {
        flow = scan(state, state.ids()?, report, &mut |key, value| {
            counts.ids += 1;
            ticks.tick();
            history::decode_id(key, value).map(drop)
        });
    }
    if flow.is_continue() {
        let _last = scan(state, state.keys()?, report, &mut |_, value| {
            counts.keys += 1;
            ticks.tick();
            history::decode_holder(value).map(drop)
        });
    }
    Ok(())
}

/// Follows every index entry to its job, and every job back to its index entries.
pub(super) fn indexes(state: &Generation, report: Report<'_>) -> Result<()> {
    const BY_ID: &str = "index of the history by id";
    const BY_KEY: &str = "index of the history by idempotency key";
    let flow = scan(state, state.history()?, report, &mut |key, value| {
        let row = decode_job(value)?;
        let place = history::place_of(state, row.spec.id)?;
        match place {
            Some(place) if place.as_slice() == key => {}
            // The same job ended once more, later.
            Some(place) if place.as_slice() < key => {}
            _ => return Err(Error::damaged(BY_ID, format!("job {} is not in it", row.spec.id))),
        }
        if let Some(name) = &row.spec.idempotency_key
            && history::holder(state, row.tenant, name)?.is_none()
        {
            return Err(Error::damaged(
                BY_KEY,
                format!("the key of job {} is not in it", row.spec.id),
            ));
        }
        Ok(())
    });
    if flow.is_break() {
        return Ok(());
    }
    let flow = scan(state, state.ids()?, report, &mut |key, value| {
        let (id, _) = history::decode_id(key, value)?;
        history::job(state, id).map(drop)
    });
    if flow.is_continue() {
        let _last = scan(state, state.keys()?, report, &mut |_, value| {
            let holder = history::decode_holder(value)?;
            match history::job(state, holder.job)? {
                Some(_) => Ok(()),
                None => Err(Error::damaged(
                    BY_KEY,
                    format!("it leads to job {}, which is not there", holder.job),
                )),
            }
        });
    }
    Ok(())
}

/// Calls `look` with all pairs of a family. A fault of the database itself ends the scan of the family.
fn scan(state: &Generation, family: &ColumnFamily, report: Report<'_>, look: Look<'_>) -> ControlFlow<()> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_readahead_size(READAHEAD);
    for item in state.db.iterator_cf_opt(family, options, IteratorMode::Start) {
        match item {
            Ok((key, value)) => {
                if let Err(error) = look(&key, &value) {
                    report(error)?;
                }
            }
            Err(source) => return report(Error::database("reading the state")(source)),
        }
    }
    ControlFlow::Continue(())
}

//! Reading entries from the database, verified.

use std::path::Path;

use rocksdb::properties::{CUR_SIZE_ALL_MEM_TABLES, TOTAL_SST_FILES_SIZE};
use rocksdb::{DB, DBCompressionType, DBRawIterator, ReadOptions, WriteBatch, WriteOptions};

use super::record::{Link, PURGED_KEY, Record, VOTE_KEY, Vote, decode_link, entry_index, entry_key};
use crate::{Error, Result, database};

/// Opens the log's database. One that is missing is made only in a new directory: elsewhere it is lost.
pub(super) fn open(dir: &Path, buffer_bytes: usize, new: bool) -> Result<DB> {
    let mut options = database::options()?;
    options.create_if_missing(new);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(buffer_bytes);
    options.set_max_write_buffer_number(4);
    options.set_target_file_size_base(64 << 20);
    options.set_max_background_jobs(2);
    // A synced append then changes no file size, so the file system's journal has nothing to do.
    options.set_recycle_log_file_num(4);
    options.set_bytes_per_sync(1 << 20);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(4 << 20);
    options.set_stats_dump_period_sec(0);
    DB::open(&options, dir).map_err(Error::database("opening the log"))
}

/// Stores a vote in a new database, synced.
pub(super) fn put_vote(db: &DB, vote: Option<&Vote>) -> Result<()> {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    let mut batch = WriteBatch::default();
    if let Some(vote) = vote {
        batch.put(VOTE_KEY, vote.encode());
    }
    db.write_opt(batch, &options)
        .map_err(Error::database("writing the log"))
}

/// About how many bytes the database takes.
pub(super) fn bytes(db: &DB) -> Result<u64> {
    let mut bytes = 0;
    for property in [TOTAL_SST_FILES_SIZE, CUR_SIZE_ALL_MEM_TABLES] {
        let size = db.property_int_value(property);
        bytes += size.map_err(Error::database("measuring the log"))?.unwrap_or_default();
    }
    Ok(bytes)
}

/// Position up to which the log was purged, and the vote.
pub(super) fn purged_and_vote(db: &DB) -> Result<(Option<Link>, Option<Vote>)> {
    let get = |key: &[u8]| db.get(key).map_err(Error::database("reading the log"));
    let purged = get(PURGED_KEY)?.map(|bytes| decode_link(&bytes)).transpose()?;
    let vote = get(VOTE_KEY)?.map(|bytes| Vote::decode(&bytes)).transpose()?;
    Ok((purged, vote))
}

/// What a freshly opened log holds.
#[derive(Debug)]
pub(super) struct Recovered {
    pub purged: Option<Link>,
    pub end: Option<Link>,
    pub vote: Option<Vote>,
    /// The newest entries, oldest first.
    pub tail: Vec<Record>,
}

/// Finds the end of the log, verifies its newest `verify_bytes` and returns its newest `tail_bytes`.
pub(super) fn recover(db: &DB, verify_bytes: usize, tail_bytes: usize) -> Result<Recovered> {
    let (purged, vote) = purged_and_vote(db)?;
    let begin = purged.map_or(0, |link| link.position.index + 1);
    let mut tail = Vec::new();
    let mut above: Option<Record> = None;
    let mut end = None;
    let mut seen = 0;
    let mut iterator = db.raw_iterator_opt(range(begin, u64::MAX));
    iterator.seek_to_last();
    while let Some(record) = current(&iterator)? {
        if let Some(above) = &above {
            above.check_follows(&record.link())?;
        }
        end = end.or(Some(record.link()));
        seen += record.size();
        if seen <= tail_bytes {
            tail.push(record.clone());
        }
        above = Some(record);
        if seen >= verify_bytes {
            break;
        }
        iterator.prev();
    }
    // The oldest entry was reached: it must be the one that follows what was purged.
    if seen < verify_bytes
        && let (Some(first), Some(purged)) = (&above, &purged)
    {
        first.check_follows(purged)?;
    }
    tail.reverse();
    Ok(Recovered {
        purged,
        end: end.or(purged),
        vote,
        tail,
    })
}

/// Entries of `from..to`, contiguous from `from`, until `bytes_max` is reached. Empty if `from` is not there.
pub(super) fn read(db: &DB, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Record>> {
    let mut iterator = db.raw_iterator_opt(range(from, to));
    iterator.seek_to_first();
    let mut records: Vec<Record> = Vec::new();
    let mut bytes = 0;
    while let Some(record) = current(&iterator)? {
        match records.last() {
            None if record.entry.position.index != from => break,
            None => {}
            Some(before) => record.check_follows(&before.link())?,
        }
        bytes += record.entry.data.len();
        if bytes > bytes_max && !records.is_empty() {
            break;
        }
        records.push(record);
        iterator.next();
    }
    Ok(records)
}

/// One entry.
pub(super) fn read_one(db: &DB, index: u64) -> Result<Option<Record>> {
    db.get(entry_key(index))
        .map_err(Error::database("reading the log"))?
        .map(|bytes| Record::decode(index, &bytes))
        .transpose()
}

fn range(from: u64, to: u64) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(entry_key(from));
    options.set_iterate_upper_bound(entry_key(to));
    options
}

fn current(iterator: &DBRawIterator<'_>) -> Result<Option<Record>> {
    let Some((key, value)) = iterator.item() else {
        return iterator
            .status()
            .map(|()| None)
            .map_err(Error::database("reading the log"));
    };
    let index = entry_index(key).ok_or_else(|| Error::damaged("key of a log entry", format!("{key:02x?}")))?;
    Record::decode(index, value).map(Some)
}

/// The first entry on disk at or above `from`.
pub(super) fn first(db: &DB, from: u64) -> Result<Option<u64>> {
    let mut iterator = db.raw_iterator_opt(range(from, u64::MAX));
    iterator.seek_to_first();
    Ok(current(&iterator)?.map(|record| record.entry.position.index))
}

//! Reading the log of a stopped node, without changing a byte of it.

use std::ops::ControlFlow;
use std::path::Path;

use rocksdb::{DB, ReadOptions};

use super::disk;
use super::mark::Mark;
use super::record::{Link, Record, VOTE_BYTES_MAX};
use super::types::{EntryKind, LogEntry, LogPosition};
use crate::codec::decode_batch;
use crate::{Error, Result, database};

/// Readahead of a full scan.
const READAHEAD: usize = 2 << 20;
const _: () = assert!(VOTE_BYTES_MAX < 256, "its length stands in one byte of the mark");

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSummary {
    /// Everything up to here was purged.
    pub purged: Option<LogPosition>,
    /// The first entry.
    pub first: Option<LogPosition>,
    /// The last entry.
    pub last: Option<LogPosition>,
    /// Entries that were read.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Commands in them.
    pub commands: u64,
}

/// Opens the database so that nothing in it is changed; RocksDB's diary goes to `scratch`.
fn open(dir: &Path, scratch: &Path) -> Result<DB> {
    let mut options = database::options()?;
    options.set_db_log_dir(scratch);
    DB::open_for_read_only(&options, dir, false).map_err(Error::database("opening the log"))
}

/// Reads every block, also of entries that were purged and not yet compacted away: when it opens the log the database may
/// meet damage there, too.
#[expect(
    deprecated,
    reason = "it costs time when ranges were deleted, and to read those is what it is for"
)]
fn read_all(db: &DB) -> Result<()> {
    let mut options = ReadOptions::default();
    options.set_readahead_size(READAHEAD);
    options.fill_cache(false);
    options.set_ignore_range_deletions(true);
    let mut rows = db.raw_iterator_opt(options);
    rows.seek_to_first();
    while rows.valid() {
        rows.next();
    }
    rows.status().map_err(Error::database("reading the log"))
}

/// Entries of the log from `from` on, each by itself: one that is damaged is an error, and the next is read.
fn entries(db: &DB, from: u64) -> impl Iterator<Item = (u64, Result<Record>)> {
    let mut options = ReadOptions::default();
    options.set_readahead_size(READAHEAD);
    options.fill_cache(false);
    options.set_iterate_lower_bound(super::record::entry_key(from));
    options.set_iterate_upper_bound(super::record::entry_key(u64::MAX));
    let mut ended = false;
    let mut last = from;
    db.iterator_opt(rocksdb::IteratorMode::Start, options)
        .map_while(move |item| {
            if ended {
                return None;
            }
            match item {
                Ok((key, value)) => {
                    last = super::record::entry_index(&key).unwrap_or(last);
                    Some((last, Record::decode(last, &value)))
                }
                // The database cannot be read on from here.
                Err(source) => {
                    ended = true;
                    Some((last + 1, Err(Error::database("reading the log")(source))))
                }
            }
        })
}

/// Reads the whole log and holds it against its mark. `read` is called with each entry's bytes.
pub(crate) fn inspect(
    dir: &Path,
    scratch: &Path,
    mark: &Mark,
    report: &mut dyn FnMut(Error) -> ControlFlow<()>,
    read: &mut dyn FnMut(u64),
) -> LogSummary {
    let mut summary = LogSummary::default();
    // What is left out when the caller has seen enough is not counted.
    let _stopped = walk(dir, scratch, mark, &mut summary, report, read);
    summary
}

fn walk(
    dir: &Path,
    scratch: &Path,
    mark: &Mark,
    summary: &mut LogSummary,
    report: &mut dyn FnMut(Error) -> ControlFlow<()>,
    read: &mut dyn FnMut(u64),
) -> ControlFlow<()> {
    let opened = open(dir, scratch).and_then(|db| Ok((disk::purged_and_vote(&db)?, db)));
    let ((purged, vote), db) = match opened {
        Ok(opened) => opened,
        Err(error) => return report(error),
    };
    if let Err(error) = mark.check_vote(vote.as_ref()) {
        report(error)?;
    }
    summary.purged = purged.map(|link| link.position);
    let mut before: Option<Link> = purged;
    let mut marked = mark
        .end
        .is_none_or(|end| purged.is_some_and(|purged| end.position.index <= purged.position.index));
    let (mut damaged, mut unreadable) = (false, false);
    for (index, record) in entries(&db, purged.map_or(0, |link| link.position.index + 1)) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                unreadable = true;
                report(error)?;
                damaged = true;
                before = None;
                continue;
            }
        };
        if let Some(before) = &before {
            if let Err(error) = record.check_follows(before) {
                report(error)?;
            }
        } else if !damaged && index != 0 {
            report(Error::LogDamaged {
                index: 0,
                detail: format!("it is missing; entry {index} comes first"),
            })?;
        }
        damaged = false;
        marked |= mark.end == Some(record.link());
        summary.first = summary.first.or(Some(record.entry.position));
        summary.last = Some(record.entry.position);
        summary.entries += 1;
        summary.bytes += record.size() as u64;
        read(record.size() as u64);
        if record.entry.kind == EntryKind::Commands {
            match decode_batch(&record.entry.data) {
                Ok(batch) => summary.commands += batch.commands.len() as u64,
                Err(error) => report(Error::LogDamaged {
                    index,
                    detail: error.to_string(),
                })?,
            }
        }
        before = Some(record.link());
    }
    match mark.end {
        Some(expected) if !marked => report(Error::LogBelowMark {
            found: summary.last.or(summary.purged),
            expected: expected.position,
        }),
        _ => ControlFlow::Continue(()),
    }?;
    match read_all(&db) {
        Err(error) if !unreadable => report(error),
        _ => ControlFlow::Continue(()),
    }
}

/// Gives the entries of `from..=to` to `each`, until it says stop or one cannot be read. Returns how far the log is purged.
pub(crate) fn dump(
    dir: &Path,
    scratch: &Path,
    from: u64,
    to: u64,
    each: &mut dyn FnMut(LogEntry) -> ControlFlow<()>,
) -> Result<Option<LogPosition>> {
    let db = open(dir, scratch)?;
    let (purged, _) = disk::purged_and_vote(&db)?;
    for (index, record) in entries(&db, from) {
        if index > to {
            break;
        }
        if each(record?.entry).is_break() {
            break;
        }
    }
    Ok(purged.map(|link| link.position))
}

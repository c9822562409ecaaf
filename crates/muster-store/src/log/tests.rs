//! The log against a model, against damage, and against cut files.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use rocksdb::DB;
use tempfile::TempDir;

use super::record::{HEADER, entry_key};
use super::*;

fn options(dir: &Path) -> StoreOptions {
    StoreOptions::new(dir)
}

fn open(dir: &Path) -> Result<LogStore> {
    open_with(&options(dir))
}

fn open_with(options: &StoreOptions) -> Result<LogStore> {
    let (files, mark) = MarkFiles::open(&options.dir)?;
    LogStore::open(options, files, mark, Arc::new(Alarm::new(&options.dir)))
}

fn position(index: u64, term: u64) -> LogPosition {
    LogPosition { term, node: 1, index }
}

fn entry(index: u64, term: u64, size: usize) -> LogEntry {
    LogEntry {
        position: position(index, term),
        kind: EntryKind::Commands,
        data: vec![(index + term) as u8; size].into(),
    }
}

fn entries(range: std::ops::Range<u64>, term: u64) -> Vec<LogEntry> {
    range.map(|index| entry(index, term, 40)).collect()
}

fn append(log: &LogStore, entries: Vec<LogEntry>) -> Result<()> {
    let (done, wait) = sync_channel(1);
    log.append(entries, Box::new(move |result| drop(done.send(result))));
    wait.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn all(log: &LogStore) -> Vec<LogEntry> {
    let from = log.bounds().purged.map_or(0, |purged| purged.index + 1);
    log.read(from, u64::MAX, usize::MAX).unwrap()
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_into(from, to.path());
    to
}

/// A copy made when the mark has reached `end`: it is written right after the append is answered.
fn copy_marked(from: &Path, end: LogPosition) -> TempDir {
    for _ in 0..1_000 {
        let image = copy(from);
        let (_, mark) = MarkFiles::open(image.path()).unwrap();
        if mark.is_some_and(|mark| mark.end.is_some_and(|found| found.position == end)) {
            return image;
        }
    }
    panic!("the mark does not reach {end:?}");
}

fn copy_into(from: &Path, to: &Path) {
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let place = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            std::fs::create_dir(&place).unwrap();
            copy_into(&item.path(), &place);
        } else {
            std::fs::copy(item.path(), place).unwrap();
        }
    }
}

/// The write-ahead file of the log's database that is being written.
fn wal(dir: &Path) -> PathBuf {
    let logs = std::fs::read_dir(dir.join("log"))
        .unwrap()
        .map(|item| item.unwrap().path());
    logs.filter(|path| path.extension().is_some_and(|ending| ending == "log"))
        .max()
        .unwrap()
}

#[test]
fn what_was_appended_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    assert_eq!(log.bounds(), LogBounds::default());
    append(&log, entries(0..10, 1)).unwrap();
    log.save_vote(Bytes::from_static(b"first")).unwrap();
    log.save_vote(Bytes::from_static(b"second")).unwrap();
    append(&log, entries(10..12, 2)).unwrap();
    drop(log);
    let log = open(dir.path()).unwrap();
    assert_eq!(log.bounds().last, Some(position(11, 2)));
    assert_eq!(log.vote().unwrap().unwrap(), "second");
    let expected: Vec<_> = entries(0..10, 1).into_iter().chain(entries(10..12, 2)).collect();
    assert_eq!(all(&log), expected);
    assert_eq!(log.read(3, 5, usize::MAX).unwrap(), expected[3..5]);
    assert_eq!(log.read(3, 9, 0).unwrap().len(), 1, "at least one");
    assert_eq!(log.read(3, 9, 80).unwrap().len(), 2, "as many as fit");
    assert_eq!(log.position_at(11).unwrap(), Some(position(11, 2)));
    assert_eq!(log.position_at(12).unwrap(), None);
    assert!(log.read(12, 20, usize::MAX).unwrap().is_empty());
}

#[test]
fn an_append_that_does_not_follow_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    append(&log, entries(0..3, 1)).unwrap();
    for found in [0, 2, 4] {
        let result = append(&log, entries(found..found + 1, 1));
        assert!(matches!(result, Err(Error::NotContiguous { expected: 3, found: f }) if f == found));
    }
    assert_eq!(all(&log), entries(0..3, 1));
    append(&log, entries(3..4, 1)).unwrap();
}

fn table_files(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir.join(DIR))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    names
        .filter(|path| path.extension().is_some_and(|end| end == "sst"))
        .count()
}

#[test]
fn files_of_purged_entries_go_by_a_call_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        log_buffer_bytes: 64 << 10,
        ..options(dir.path())
    };
    let log = open_with(&options).unwrap();
    let mut last = 0;
    let deadline = Instant::now() + Duration::from_secs(30);
    while table_files(dir.path()) < 4 {
        assert!(Instant::now() < deadline, "the database writes no files");
        let more = (last + 1..last + 11).map(|index| entry(index, 1, 10_000));
        append(&log, more.collect()).unwrap();
        last += 10;
    }
    // Files go from below the level into which the database flushes.
    let db = &log.handle.shared.db;
    db.compact_range(None::<&[u8]>, None::<&[u8]>);
    assert!(!log.is_reclaimable(), "nothing was purged");
    log.purge(position(last, 1)).unwrap();
    append(&log, vec![entry(last + 1, 1, 40)]).unwrap();
    assert!(log.is_reclaimable());
    assert!(table_files(dir.path()) > 0, "files stay when entries are purged");
    log.reclaim().unwrap();
    assert!(!log.is_reclaimable());
    assert_eq!(table_files(dir.path()), 0);
    drop(log);
    let log = open_with(&options).unwrap();
    assert_eq!(all(&log), vec![entry(last + 1, 1, 40)]);
}

#[test]
fn truncation_and_purge_keep_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    append(&log, entries(0..10, 1)).unwrap();
    log.truncate_after(Some(position(5, 1))).unwrap();
    append(&log, entries(6..8, 2)).unwrap();
    log.purge(position(3, 1)).unwrap();
    assert!(matches!(
        log.read(3, 5, 100),
        Err(Error::Purged { index: 3, purged: 3 })
    ));
    append(&log, entries(8..9, 2)).unwrap();
    let expected: Vec<_> = entries(4..6, 1).into_iter().chain(entries(6..9, 2)).collect();
    assert_eq!(all(&log), expected);
    drop(log);
    let log = open(dir.path()).unwrap();
    assert_eq!(all(&log), expected);
    log.purge(position(100, 3)).unwrap();
    assert_eq!(log.bounds().last, Some(position(100, 3)));
    append(&log, entries(101..103, 3)).unwrap();
    drop(log);
    let log = open(dir.path()).unwrap();
    assert_eq!(all(&log), entries(101..103, 3));
    log.truncate_after(None).unwrap();
    assert_eq!(log.bounds().last, Some(position(100, 3)));
    drop(log);
    assert!(all(&open(dir.path()).unwrap()).is_empty());
}

#[test]
fn entries_outside_memory_are_read_from_disk_and_joined() {
    let dir = tempfile::tempdir().unwrap();
    let small = StoreOptions {
        tail_bytes_max: 10 * (40 + HEADER),
        ..options(dir.path())
    };
    let log = open_with(&small).unwrap();
    for at in 0..10 {
        append(&log, entries(at * 10..at * 10 + 10, 1)).unwrap();
    }
    assert!(log.handle.shared.index.lock().tail_bytes() <= small.tail_bytes_max);
    assert_eq!(all(&log), entries(0..100, 1));
    assert_eq!(log.read(85, 95, usize::MAX).unwrap(), entries(85..95, 1));
    log.truncate_after(Some(position(20, 1))).unwrap();
    append(&log, entries(21..30, 2)).unwrap();
    assert_eq!(log.read(19, 23, usize::MAX).unwrap().len(), 4);
    drop(log);
    assert_eq!(open(dir.path()).unwrap().bounds().last, Some(position(29, 2)));
}

#[test]
fn a_damaged_entry_is_named() {
    type Damage = fn(&mut Vec<u8>);
    let damage: [(&str, Damage); 4] = [
        ("a bit of the data", |bytes| bytes[HEADER + 3] ^= 4),
        ("a bit of the term", |bytes| bytes[3] ^= 1),
        ("the end is cut", |bytes| bytes.truncate(bytes.len() - 1)),
        ("only a header's part", |bytes| bytes.truncate(20)),
    ];
    for (what, damage) in damage {
        for at in [2_u64, 7] {
            let dir = tempfile::tempdir().unwrap();
            let log = open(dir.path()).unwrap();
            append(&log, entries(0..8, 1)).unwrap();
            drop(log);
            let db = DB::open_default(dir.path().join("log")).unwrap();
            let mut bytes = db.get(entry_key(at)).unwrap().unwrap();
            damage(&mut bytes);
            db.put(entry_key(at), bytes).unwrap();
            drop(db);
            match open(dir.path()) {
                Err(Error::LogDamaged { index, .. }) => assert_eq!(index, at, "{what}"),
                other => panic!("{what} at {at}: {other:?}"),
            }
            // Beyond what is verified on open, the read notices.
            let none = StoreOptions {
                verify_bytes: 1,
                tail_bytes_max: 0,
                ..options(dir.path())
            };
            if at == 2 {
                let log = open_with(&none).unwrap();
                assert!(
                    matches!(log.read(0, 8, usize::MAX), Err(Error::LogDamaged { index: 2, .. })),
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn a_swapped_or_missing_entry_breaks_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    append(&log, entries(0..8, 1)).unwrap();
    drop(log);
    // An entry that is whole in itself, of another history.
    let other = Record::new(entry(4, 1, 7), 12345);
    let mut bytes = Vec::new();
    other.encode_into(&mut bytes);
    let swapped = copy(dir.path());
    DB::open_default(swapped.path().join("log"))
        .unwrap()
        .put(entry_key(4), bytes)
        .unwrap();
    assert!(matches!(
        open(swapped.path()),
        Err(Error::LogDamaged { index: 4 | 5, .. })
    ));
    let missing = copy(dir.path());
    DB::open_default(missing.path().join("log"))
        .unwrap()
        .delete(entry_key(4))
        .unwrap();
    assert!(matches!(open(missing.path()), Err(Error::LogDamaged { index: 4, .. })));
}

#[test]
fn a_log_below_its_mark_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    append(&log, entries(0..8, 1)).unwrap();
    drop(log);
    let db = DB::open_default(dir.path().join("log")).unwrap();
    db.delete(entry_key(7)).unwrap();
    drop(db);
    match open(dir.path()) {
        Err(Error::LogBelowMark { found, expected }) => {
            assert_eq!((found, expected), (Some(position(6, 1)), position(7, 1)));
        }
        other => panic!("{other:?}"),
    }
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    let lost = open(dir.path()).unwrap_err();
    assert!(
        matches!(lost, Error::Database { .. }) && lost.is_damage(),
        "a log that is lost is not made anew: {lost}"
    );
}

#[test]
fn a_lost_vote_or_mark_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    log.save_vote(Bytes::from_static(b"one")).unwrap();
    let before = copy(dir.path());
    log.save_vote(Bytes::from_static(b"two")).unwrap();
    drop(log);
    for mark in ["mark-a", "mark-b"] {
        std::fs::copy(dir.path().join(mark), before.path().join(mark)).unwrap();
    }
    assert!(matches!(
        open(before.path()),
        Err(Error::VoteBelowMark { found: 1, expected: 2 })
    ));
    for mark in ["mark-a", "mark-b"] {
        std::fs::remove_file(dir.path().join(mark)).unwrap();
    }
    assert!(matches!(open(dir.path()), Err(Error::MarkLost { .. })));
}

#[test]
fn the_mark_holds_the_vote_itself_and_the_end_of_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    append(&log, entries(0..3, 1)).unwrap();
    log.save_vote(Bytes::from_static(b"one")).unwrap();
    let too_long = log.save_vote(Bytes::from(vec![0; VOTE_BYTES_MAX + 1]));
    assert!(matches!(
        too_long,
        Err(Error::TooLarge {
            max: VOTE_BYTES_MAX,
            ..
        })
    ));
    log.purge(position(90, 2)).unwrap();
    drop(log);
    let mark = MarkFiles::look(dir.path()).unwrap().unwrap();
    assert_eq!(mark.vote.unwrap().data, "one");
    assert_eq!(mark.end.unwrap().position, position(90, 2));
    assert_eq!(open(dir.path()).unwrap().bounds().last, Some(position(90, 2)));
}

#[test]
fn an_empty_log_with_a_vote_goes_on_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    append(&log, entries(0..3, 1)).unwrap();
    for vote in [b"one", b"two"] {
        log.save_vote(Bytes::copy_from_slice(vote)).unwrap();
    }
    drop(log);
    let (files, mark) = MarkFiles::open(dir.path()).unwrap();
    let mark = Mark {
        end: None,
        ..mark.unwrap()
    };
    files.sync(&mark).unwrap();
    std::fs::remove_dir_all(dir.path().join(DIR)).unwrap();
    LogStore::make_empty(dir.path(), mark.vote.as_ref()).unwrap();
    let log = open(dir.path()).unwrap();
    assert_eq!(
        (log.bounds(), log.vote().unwrap().unwrap()),
        (LogBounds::default(), "two".into())
    );
    log.save_vote(Bytes::from_static(b"three")).unwrap();
    append(&log, entries(7..9, 1)).unwrap();
    drop(log);
    assert_eq!(open(dir.path()).unwrap().vote().unwrap().unwrap(), "three");
}

/// Cuts the write-ahead file at every place of its last part. With the mark as of `marked` entries: what opens is a prefix
/// that reaches the mark, everything else is refused.
#[test]
fn a_tail_cut_anywhere_gives_a_prefix_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    append(&log, entries(0..3, 1)).unwrap();
    let marked = copy_marked(dir.path(), position(2, 1));
    let synced = std::fs::metadata(wal(dir.path())).unwrap().len();
    for at in 3..6 {
        append(&log, entries(at..at + 1, 1)).unwrap();
    }
    let cut = copy(dir.path());
    drop(log);
    let whole = std::fs::read(wal(cut.path())).unwrap();
    for mark in ["mark-a", "mark-b"] {
        std::fs::copy(marked.path().join(mark), cut.path().join(mark)).unwrap();
    }
    let (mut opened, mut refused) = (0, 0);
    for end in (synced - 60..whole.len() as u64).step_by(7) {
        let image = copy(cut.path());
        std::fs::write(wal(image.path()), &whole[..end as usize]).unwrap();
        match open(image.path()) {
            Ok(log) => {
                opened += 1;
                let found = all(&log);
                assert!(end >= synced, "cut at {end}");
                assert!(found.len() >= 3);
                assert_eq!(found, entries(0..found.len() as u64, 1), "cut at {end}");
                append(&log, entries(found.len() as u64..8, 2)).unwrap();
            }
            Err(Error::LogBelowMark { expected, .. }) => {
                refused += 1;
                assert!(end < synced, "cut at {end}");
                assert_eq!(expected, position(2, 1));
            }
            Err(error) => panic!("cut at {end}: {error}"),
        }
    }
    assert!(opened > 10 && refused > 5, "{opened} {refused}");
}

#[test]
fn a_failed_sync_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    append(&log, entries(0..3, 1)).unwrap();
    log.handle.shared.fail_next_sync.store(true, Ordering::Relaxed);
    assert!(matches!(append(&log, entries(3..4, 1)), Err(Error::Io { .. })));
    assert!(matches!(append(&log, entries(4..5, 1)), Err(Error::Failed { .. })));
    assert!(matches!(log.save_vote(Bytes::new()), Err(Error::Failed { .. })));
    assert!(matches!(log.vote(), Err(Error::Failed { .. })));
    assert!(matches!(log.read(0, 3, 100), Err(Error::Failed { .. })));
    assert!(matches!(log.truncate_after(None), Err(Error::Failed { .. })));
    assert!(matches!(log.purge(position(1, 1)), Err(Error::Failed { .. })));
    assert!(matches!(log.close(), Err(Error::Failed { .. })));
    drop(log);
    assert_eq!(all(&open(dir.path()).unwrap()), entries(0..3, 1));
}

#[test]
fn a_closed_log_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    log.close().unwrap();
    assert!(matches!(append(&log, entries(0..1, 1)), Err(Error::Closed)));
    assert!(matches!(log.save_vote(Bytes::new()), Err(Error::Closed)));
}

#[test]
fn the_newest_entries_stay_in_memory_while_they_are_not_synced() {
    let recovered = disk::Recovered {
        purged: None,
        end: None,
        vote: None,
        tail: Vec::new(),
    };
    let mut index = Index::new(recovered, 0);
    let first = index.push(&chain(&index, entries(0..5, 1)).unwrap());
    index.truncate(3, Some(index.get(2).unwrap().link()));
    let second = index.push(&chain(&index, entries(3..5, 2)).unwrap());
    index.note_synced(first, 0);
    assert_eq!(
        index.tail_first(),
        Some(3),
        "index 3 and 4 of the first append were synced, these were not"
    );
    index.note_synced(second, 0);
    assert_eq!(index.tail_first(), None);
}

#[derive(Clone, Debug)]
enum Step {
    Append(u8, u16),
    Truncate(u8),
    Purge(u8),
    Read(u8, u8, u16),
    Vote(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u8..6, 0_u16..300).prop_map(|(count, size)| Step::Append(count, size)),
        2 => (0_u8..12).prop_map(Step::Truncate),
        2 => (0_u8..12).prop_map(Step::Purge),
        4 => (any::<u8>(), any::<u8>(), 0_u16..2000).prop_map(|(from, to, bytes)| Step::Read(from, to, bytes)),
        1 => any::<u8>().prop_map(Step::Vote),
        1 => Just(Step::Reopen),
    ]
}

/// A log as a vector.
#[derive(Default)]
struct Model {
    purged: Option<LogPosition>,
    entries: Vec<LogEntry>,
    vote: Option<Bytes>,
}

impl Model {
    fn last(&self) -> Option<LogPosition> {
        self.entries.last().map(|entry| entry.position).or(self.purged)
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> Vec<LogEntry> {
        let mut bytes = 0;
        let wanted = self
            .entries
            .iter()
            .filter(|entry| (from..to).contains(&entry.position.index));
        let fits = wanted.enumerate().take_while(|(at, entry)| {
            bytes += entry.data.len();
            *at == 0 || bytes <= bytes_max
        });
        fits.map(|(_, entry)| entry.clone()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_vector(steps in proptest::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { tail_bytes_max: 1500, ..options(dir.path()) };
        let mut log = open_with(&options).unwrap();
        let mut model = Model::default();
        let mut term = 1;
        for step in steps {
            match step {
                Step::Append(count, size) => {
                    let from = model.last().map_or(0, |last| last.index + 1);
                    let new: Vec<_> =
                        (from..from + u64::from(count)).map(|index| entry(index, term, size.into())).collect();
                    append(&log, new.clone()).unwrap();
                    model.entries.extend(new);
                }
                Step::Truncate(back) => {
                    term += 1;
                    let keep = model.entries.len().saturating_sub(back.into());
                    model.entries.truncate(keep);
                    log.truncate_after(model.last()).unwrap();
                }
                Step::Purge(count) => {
                    let upto = usize::from(count).min(model.entries.len());
                    if let Some(last) = model.entries.drain(..upto).next_back() {
                        model.purged = Some(last.position);
                        log.purge(last.position).unwrap();
                    }
                }
                Step::Read(from, to, bytes) => {
                    let begin = model.purged.map_or(0, |purged| purged.index + 1);
                    let (from, to) = (begin + u64::from(from % 32), begin + u64::from(to % 32));
                    let found = log.read(from, to, bytes.into()).unwrap();
                    prop_assert_eq!(found, model.read(from, to, bytes.into()));
                }
                Step::Vote(byte) => {
                    let vote = Bytes::from(vec![byte; 9]);
                    log.save_vote(vote.clone()).unwrap();
                    model.vote = Some(vote);
                }
                Step::Reopen => {
                    drop(log);
                    log = open_with(&options).unwrap();
                }
            }
            prop_assert_eq!(log.bounds(), LogBounds { purged: model.purged, last: model.last() });
            prop_assert_eq!(log.vote().unwrap(), model.vote.clone());
        }
        prop_assert_eq!(all(&log), model.entries);
    }

    #[test]
    fn hostile_records_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Record::decode(1, &bytes).is_err());
        prop_assert!(record::decode_link(&bytes).is_err());
        prop_assert!(Vote::decode(&bytes).is_err());
    }
}

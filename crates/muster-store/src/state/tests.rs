//! Checkpoints, history, snapshots.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use muster_core::{Changes, JobState, Name, Row, RowKey};

use super::*;
use crate::samples;

fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        flush_interval: Duration::from_hours(1),
        ..StoreOptions::new(dir)
    }
}

fn open(dir: &Path) -> StateStore {
    open_with(&options(dir)).unwrap()
}

/// A directory without a pointer is taken for a new one.
fn open_with(options: &StoreOptions) -> Result<StateStore> {
    let new = !options.dir.join(generation::POINTER).exists();
    let space = Arc::new(SpaceGuard::new(&options.dir, options.disk_reserve));
    StateStore::open(options, new, Arc::new(Alarm::new(&options.dir)), space)
}

fn position(index: u64) -> LogPosition {
    LogPosition {
        term: 1,
        node: 1,
        index,
    }
}

fn rows() -> Vec<Row> {
    samples::rows().into_iter().map(|(_, row)| row).collect()
}

fn checkpoint(index: u64) -> Checkpoint {
    Checkpoint {
        applied: Some(position(index)),
        membership: Bytes::from(format!("members at {index}")),
        ..Checkpoint::default()
    }
}

fn with_rows(index: u64) -> Checkpoint {
    let changes = Changes {
        put: rows(),
        delete: Vec::new(),
    };
    Checkpoint {
        changes,
        ..checkpoint(index)
    }
}

fn with_ended(index: u64, ended: Vec<Arc<JobRow>>) -> Checkpoint {
    Checkpoint {
        ended,
        ..checkpoint(index)
    }
}

fn job(number: u64, index: u64) -> Arc<JobRow> {
    Arc::new(samples::job(number, index))
}

fn packed(snapshot: &PinnedSnapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot.pack(&mut bytes).unwrap();
    bytes
}

const TENANT: TenantId = TenantId(3);

#[test]
fn a_flushed_checkpoint_is_loaded_and_an_unflushed_one_is_not_half_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(store.load().unwrap(), Loaded::default());
    let stats = store.write(with_rows(5)).unwrap();
    assert_eq!((stats.put, stats.flushed), (rows().len(), false));
    assert_eq!(store.durable_applied(), None);
    store.flush().unwrap();
    assert_eq!(store.durable_applied(), Some(position(5)));
    let mut second = with_ended(6, vec![job(1, 6)]);
    second.changes.delete = vec![RowKey::Job(samples::spec(1).id)];
    store.write(second).unwrap();
    assert_eq!(store.load().unwrap().rows.len(), rows().len() - 1);

    // What a power cut leaves: a copy of the files beside the running database.
    let cut = tempfile::tempdir().unwrap();
    let number = generation::name(1);
    std::fs::create_dir(cut.path().join(&number)).unwrap();
    for item in std::fs::read_dir(dir.path().join(&number)).unwrap() {
        let item = item.unwrap();
        std::fs::copy(item.path(), cut.path().join(&number).join(item.file_name())).unwrap();
    }
    std::fs::copy(dir.path().join("state.current"), cut.path().join("state.current")).unwrap();
    let found = open(cut.path());
    let loaded = found.load().unwrap();
    assert_eq!(loaded.applied, Some(position(5)));
    assert_eq!(loaded.membership, "members at 5");
    assert_eq!(loaded.rows.len(), samples::rows().len());
    assert!(loaded.rows.iter().all(|row| rows().contains(row)));
    assert_eq!(found.history_job(samples::spec(1).id).unwrap(), None);
}

/// What changed while others were taken, or is gone, is not written as it was.
#[test]
fn rows_that_were_taken_ahead_are_overridden() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let row = |number, index| Row::Job(job(number, index));
    let written = store
        .write(Checkpoint {
            ahead: vec![row(1, 5), row(2, 5), row(3, 5)],
            changes: Changes {
                put: vec![row(2, 6)],
                delete: vec![row(1, 5).key()],
            },
            ..checkpoint(6)
        })
        .unwrap();
    assert_eq!((written.put, written.deleted), (4, 1));
    let mut rows = store.load().unwrap().rows;
    rows.sort_by_key(Row::key);
    assert_eq!(rows, [row(2, 6), row(3, 5)]);
}

#[test]
fn a_checkpoint_flushes_by_size_and_by_time() {
    for (flush_bytes, flush_interval) in [(1, Duration::MAX), (usize::MAX, Duration::ZERO)] {
        let dir = tempfile::tempdir().unwrap();
        let store = open_with(&StoreOptions {
            flush_bytes,
            flush_interval,
            ..options(dir.path())
        })
        .unwrap();
        assert!(store.write(with_rows(5)).unwrap().flushed);
        assert_eq!(store.durable_applied(), Some(position(5)));
        drop(store);
        assert_eq!(open(dir.path()).durable_applied(), Some(position(5)));
    }
}

#[test]
fn ended_jobs_are_readable_from_the_overlay_and_then_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let row = job(1, 60);
    let seen = |store: &StateStore| {
        assert_eq!(store.history_job(row.spec.id).unwrap(), Some(row.clone()));
        assert_eq!(store.history_key(TENANT, "key-1").unwrap(), Some(row.spec.id));
        assert_eq!(
            store.history_key_holder(TENANT, "key-1").unwrap().unwrap().enqueued_at,
            row.enqueued_at
        );
        assert_eq!(store.history_key(TenantId(4), "key-1").unwrap(), None);
        let (jobs, more) = store.history_list(TENANT, &JobFilter::default(), None, 10, 10).unwrap();
        assert_eq!((jobs, more), (vec![row.clone()], None));
    };
    assert_eq!(store.history_job(row.spec.id).unwrap(), None);
    store.note_ended(row.clone());
    seen(&store);
    store.write(with_ended(60, vec![row.clone()])).unwrap();
    assert_eq!(store.shared.overlay.lock().job(row.spec.id), None);
    seen(&store);
    store.flush().unwrap();
    // Replay after a restart notes it again.
    store.note_ended(row.clone());
    seen(&store);
    drop(store);
    seen(&open(dir.path()));
}

#[test]
fn the_later_enqueue_holds_a_key_whichever_ends_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let with_key = |number, index| {
        let mut row = samples::job(number, index);
        Arc::make_mut(&mut row.spec).idempotency_key = Some(Name::from("shared"));
        Arc::new(row)
    };
    let (early, late) = (with_key(1, 90), with_key(2, 80));
    store.write(with_ended(80, vec![late.clone()])).unwrap();
    store.note_ended(early.clone());
    assert_eq!(store.history_key(TENANT, "shared").unwrap(), Some(late.spec.id));
    store.write(with_ended(90, vec![early])).unwrap();
    assert_eq!(store.history_key(TENANT, "shared").unwrap(), Some(late.spec.id));
}

#[test]
fn a_listing_is_newest_first_over_overlay_and_disk_and_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let make = |number: u64| {
        let mut row = samples::job(number, 100 + number / 2);
        row.state = if number.is_multiple_of(3) {
            JobState::Succeeded
        } else {
            JobState::Dead
        };
        Arc::new(row)
    };
    let jobs: Vec<_> = (0..20).map(make).collect();
    store.write(with_ended(106, jobs[..12].to_vec())).unwrap();
    for row in &jobs[10..] {
        store.note_ended(row.clone());
    }
    let mut other = samples::job(50, 105);
    other.tenant = TenantId(4);
    store.note_ended(Arc::new(other));
    let newest: Vec<_> = jobs.iter().rev().cloned().collect();
    for (limit, budget) in [(1, 100), (3, 100), (100, 1), (100, 4), (7, 5), (100, 100)] {
        let mut found = Vec::new();
        let mut page = None;
        loop {
            let (part, next) = store
                .history_list(TENANT, &JobFilter::default(), page, limit, budget)
                .unwrap();
            assert!(part.len() <= limit.min(budget));
            found.extend(part);
            match next {
                Some(next) => page = Some(next),
                None => break,
            }
        }
        assert_eq!(found, newest, "{limit} {budget}");
    }
    let filter = JobFilter {
        states: vec![JobState::Succeeded],
        ..JobFilter::default()
    };
    let (found, more) = store.history_list(TENANT, &filter, None, 100, 100).unwrap();
    assert_eq!((found.len(), more), (7, None));
    assert!(found.iter().all(|row| row.state == JobState::Succeeded));
    let filter = JobFilter {
        queue: Some("other".into()),
        ..JobFilter::default()
    };
    assert_eq!(
        store.history_list(TENANT, &filter, None, 100, 100).unwrap(),
        (Vec::new(), None)
    );
}

#[test]
fn a_snapshot_carries_state_and_history_to_another_node() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(from.path());
    store.write(with_rows(60)).unwrap();
    store.write(with_ended(61, vec![job(1, 61)])).unwrap();
    let pinned = store.snapshot_with(61).unwrap().unwrap();
    assert_eq!(pinned.info.applied, Some(position(61)));
    store.write(with_ended(70, vec![job(5, 70)])).unwrap();

    let target = open(to.path());
    target.write(with_ended(3, vec![job(7, 3)])).unwrap();
    target.note_ended(job(8, 4));
    let path = target.receiving_path(1, pinned.id).unwrap();
    assert!(target.load_prepared(&path).is_err(), "nothing is prepared yet");
    std::fs::write(&path, packed(&pinned)).unwrap();
    target.prepare_snapshot(&path).unwrap();
    let prepared = target.load_prepared(&path).unwrap();
    assert_eq!(target.load_prepared(&path).unwrap(), prepared, "read again");
    assert_ne!(target.load().unwrap(), prepared, "nothing is installed yet");
    assert_eq!(target.install_snapshot(&path).unwrap(), pinned.info);
    assert_eq!(target.load().unwrap(), prepared);
    assert!(!path.exists());
    let check = |target: &StateStore| {
        let loaded = target.load().unwrap();
        assert_eq!((loaded.applied, loaded.rows.len()), (Some(position(61)), rows().len()));
        assert_eq!(loaded.membership, "members at 61");
        assert_eq!(target.durable_applied(), Some(position(61)));
        assert_eq!(target.history_key(TENANT, "key-1").unwrap(), Some(samples::spec(1).id));
        for gone in [7, 8] {
            assert_eq!(target.history_job(samples::spec(gone).id).unwrap(), None);
        }
    };
    check(&target);
    assert!(!to.path().join("state-1").exists());
    drop(target);
    let target = open(to.path());
    check(&target);
    target.write(with_ended(62, vec![job(9, 62)])).unwrap();
}

#[test]
fn a_snapshot_is_kept_for_transfers_as_long_as_it_covers_what_they_need() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let links = || std::fs::read_dir(dir.path().join("snapshots")).unwrap().count();
    assert!(store.snapshot_with(0).unwrap().is_none());
    store.write(with_rows(60)).unwrap();
    let first = store.snapshot_with(10).unwrap().unwrap();
    let (id, bytes) = (first.id, packed(&first));
    assert_eq!(bytes.len() as u64, first.bytes);
    store.write(with_ended(61, vec![job(1, 61)])).unwrap();
    let again = store.snapshot_with(60).unwrap().unwrap();
    assert_eq!(
        (again.id, packed(&again)),
        (id, bytes),
        "the same bytes, whatever was written since"
    );
    let newer = store.snapshot_with(61).unwrap().unwrap();
    assert_eq!((newer.info.applied, links()), (Some(position(61)), 2));
    drop((first, again));
    assert_eq!(links(), 1, "the links go with the last owner");
    drop(store.pin_snapshot().unwrap());
    assert_eq!(links(), 1);
}

#[test]
fn a_damaged_snapshot_changes_nothing() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(from.path());
    store.write(with_rows(60)).unwrap();
    let bytes = packed(&store.pin_snapshot().unwrap());
    let target = open(to.path());
    target.write(with_ended(3, vec![job(7, 3)])).unwrap();
    let path = target.receiving_path(1, 7).unwrap();
    let mut images = vec![
        Vec::new(),
        bytes[..bytes.len() - 1].to_vec(),
        [&bytes[..], b"x"].concat(),
    ];
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        images.push(bytes[..at].to_vec());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        images.push(flipped);
    }
    for image in images {
        std::fs::write(&path, image).unwrap();
        assert!(matches!(target.install_snapshot(&path), Err(Error::Damaged { .. })));
    }
    assert!(target.history_job(samples::spec(7).id).unwrap().is_some());
    target.write(checkpoint(4)).unwrap();
    std::fs::write(&path, bytes).unwrap();
    target.install_snapshot(&path).unwrap();
}

#[test]
fn a_crash_before_the_pointer_moved_leaves_the_old_state() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.write(with_rows(60)).unwrap();
    store.flush().unwrap();
    drop(store);
    // An install that had unpacked, but not yet pointed; and a file half received.
    std::fs::create_dir(dir.path().join("state-2")).unwrap();
    std::fs::write(dir.path().join("state-2").join("CURRENT"), "half").unwrap();
    std::fs::write(dir.path().join("snapshots").join("3-received"), "half").unwrap();
    let store = open(dir.path());
    assert_eq!(store.load().unwrap().applied, Some(position(60)));
    assert!(!dir.path().join("state-2").exists());
    assert_eq!(std::fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 0);
}

#[test]
fn a_pointer_that_was_changed_or_is_lost_does_not_point() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = dir.path().join(generation::POINTER);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(generation::decode_pointer(&bytes).unwrap(), 1);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(generation::decode_pointer(&changed).is_err(), "bit {bit}");
    }
    for cut in 0..bytes.len() {
        assert!(generation::decode_pointer(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    std::fs::remove_file(&path).unwrap();
    let alarm = Arc::new(Alarm::new(dir.path()));
    let space = Arc::new(SpaceGuard::new(dir.path(), None));
    let lost = StateStore::open(&options(dir.path()), false, alarm, space).unwrap_err();
    assert!(lost.is_damage(), "{lost}");
    assert!(dir.path().join("state-1").exists(), "nothing is removed");
}

#[test]
fn without_room_a_checkpoint_is_written_and_not_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = StoreOptions {
        flush_interval: Duration::ZERO,
        disk_reserve: Some(u64::MAX / 4),
        ..options(dir.path())
    };
    let store = open_with(&options).unwrap();
    assert_eq!(store.shared.space.look().unwrap().room, Room::Out);
    assert!(!store.write(with_rows(5)).unwrap().flushed);
    assert_eq!(store.load().unwrap().rows.len(), rows().len());
    assert_eq!(store.durable_applied(), None);
    drop(store);
    options.disk_reserve = Some(0);
    let store = open_with(&options).unwrap();
    assert_eq!(store.shared.space.look().unwrap().room, Room::Enough);
    assert!(store.write(with_rows(5)).unwrap().flushed);
}

//! Getting rid of damaged data so that the other nodes can bring it again.
//!
//! The high-water mark is what a node must not lose: who it is and how it voted. With it, everything else can be got from
//! the cluster, under one condition: until the node holds again all that it may have acknowledged, it must not vote. The
//! mark says so from the moment at which the old data goes.
//!
//! The old data is moved aside, not removed: should too many nodes be damaged at once, it may hold what is nowhere else.
//! It goes when the refill is complete. A crash at any moment leaves a directory whose next open goes on.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use muster_failpoint::failpoint;

use crate::identity::{self, Ownership};
use crate::log::mark::{Mark, MarkFiles, Refill};
use crate::state::{SNAPSHOTS, StateStore, generation};
use crate::{Error, Identity, LogStore, Result, Store, StoreOptions, alarm, files, log, members};

/// Where damaged data is put.
const ASIDE: &str = "damaged";

/// A data directory that [`Store::open`] found damaged, held by its lock. Nothing in it has been changed.
#[derive(Debug)]
pub struct DamagedStore {
    options: StoreOptions,
    identity: Identity,
    mark: Mark,
    files: MarkFiles,
    lock: File,
}

impl DamagedStore {
    /// Opens what is needed to refill a directory: its mark.
    ///
    /// [`Error::MarkLost`] if that is lost as well, or if the directory was never bound to a node.
    pub fn open(options: StoreOptions) -> Result<Self> {
        let lock = files::lock(&options.dir)?;
        let mark = MarkFiles::look(&options.dir)?;
        let Ownership { identity, .. } = identity::owner(&options.dir, mark.as_ref())?;
        let (Some(mark), Some(identity)) = (mark, identity) else {
            return Err(Error::MarkLost {
                detail: "they do not say to which node and cluster the data belongs".into(),
            });
        };
        if mark.level > options.level_max {
            return Err(Error::NewerLevel {
                found: mark.level,
                newest: options.level_max,
            });
        }
        let (files, _) = MarkFiles::open(&options.dir)?;
        Ok(Self {
            options,
            identity,
            mark,
            files,
            lock,
        })
    }

    /// Whose data it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Where the members were when the node last knew, itself among them; empty if that is not known any more.
    pub fn members(&self) -> BTreeMap<u64, String> {
        members::load(&self.options.dir)
    }

    /// Moves everything but mark, identity and members into `damaged/` and opens an empty store that knows this node's last vote
    /// and that it must not vote ([`Store::refilling`]). To be called only when the cluster can bring the data again.
    pub fn empty(mut self) -> Result<Store> {
        self.mark.refill = Refill::Emptying;
        self.mark.end = None;
        self.mark.sequence += 1;
        failpoint!("refill.begin.before_mark", Error::injected);
        self.files.sync(&self.mark)?;
        failpoint!("refill.begin.after_mark", Error::injected);
        alarm::forget(&self.options.dir, &aside(&self.options.dir)?)?;
        Store::open_locked(self.options, self.lock)
    }
}

/// Marks the stopped node of a data directory for a refill by its next start.
pub(crate) fn request(options: StoreOptions, reason: &str) -> Result<Identity> {
    let held = DamagedStore::open(options)?;
    alarm::note(&held.options.dir, reason)?;
    Ok(held.identity)
}

/// Does what [`Refill::Emptying`] says, from wherever an earlier try stopped.
pub(crate) fn empty(dir: &Path, files: &MarkFiles, mark: &mut Mark) -> Result<()> {
    let place = aside(dir)?;
    let mut names = vec![log::DIR.into(), generation::POINTER.into(), SNAPSHOTS.into()];
    names.extend(
        generation::all(dir)?
            .iter()
            .filter_map(|path| path.file_name().map(OsStr::to_owned)),
    );
    for name in names {
        let from = dir.join(&name);
        let to = place.join(&name);
        if to.exists() {
            // The first damage is kept; this is what arrived in a refill that was damaged in its turn.
            remove(&from)?;
            continue;
        }
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io(format!("moving {} aside", from.display()))(error));
            }
            _ => {}
        }
        failpoint!("refill.empty.between_moves", Error::injected);
    }
    failpoint!("refill.empty.before_dir_sync", Error::injected);
    files::sync_dir(&place)?;
    files::sync_dir(dir)?;
    failpoint!("refill.empty.before_state", Error::injected);
    StateStore::make_empty(dir)?;
    failpoint!("refill.empty.before_log", Error::injected);
    LogStore::make_empty(dir, mark.vote.as_ref())?;
    mark.refill = Refill::Filling;
    mark.end = None;
    mark.sequence += 1;
    failpoint!("refill.empty.before_mark", Error::injected);
    files.sync(mark)?;
    failpoint!("refill.empty.after_mark", Error::injected);
    Ok(())
}

/// Whether damaged data was put aside.
pub(crate) fn aside_exists(dir: &Path) -> bool {
    dir.join(ASIDE).exists()
}

fn aside(dir: &Path) -> Result<std::path::PathBuf> {
    let place = dir.join(ASIDE);
    files::make_dir(&place)?;
    Ok(place)
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Removes what was put aside; a failure does no harm, the next open tries again.
pub(crate) fn remove_aside(dir: &Path) {
    let place = dir.join(ASIDE);
    if let Err(error) = remove(&place) {
        tracing::warn!(%error, "the damaged data that was put aside stays");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{EntryKind, LogEntry, LogPosition};

    fn options(dir: &Path) -> StoreOptions {
        StoreOptions::new(dir)
    }

    fn append(store: &Store, range: std::ops::Range<u64>) {
        let entries = range.map(|index| LogEntry {
            position: LogPosition {
                term: 1,
                node: 1,
                index,
            },
            kind: EntryKind::Blank,
            data: Bytes::new(),
        });
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        store
            .log()
            .append(entries.collect(), Box::new(move |result| done.send(result).unwrap()));
        wait.recv().unwrap().unwrap();
    }

    fn noted() -> BTreeMap<u64, String> {
        BTreeMap::from([(1, "a:1".to_owned()), (6, "f:1".to_owned())])
    }

    /// A directory with entries and a vote, whose log's database is broken.
    fn damaged() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(options(dir.path())).unwrap();
        store.set_identity(Identity::new(7, 1)).unwrap();
        store.note_members(&noted()).unwrap();
        append(&store, 0..9);
        store.log().save_vote(Bytes::from_static(b"for 2")).unwrap();
        store.close().unwrap();
        std::fs::write(dir.path().join("log/CURRENT"), "nonsense").unwrap();
        dir
    }

    #[test]
    fn a_damaged_directory_is_emptied_refilled_and_forgets_the_damage() {
        let dir = damaged();
        assert!(Store::open(options(dir.path())).unwrap_err().is_damage());
        assert!(!dir.path().join(ASIDE).exists(), "a refusal changes nothing");
        let held = DamagedStore::open(options(dir.path())).unwrap();
        assert_eq!((held.identity().cluster, held.identity().node), (7, 1));
        assert_eq!(held.members(), noted(), "known although log and state are lost");
        assert!(matches!(Store::open(options(dir.path())), Err(Error::Locked { .. })));
        let store = held.empty().unwrap();
        assert!(store.refilling());
        assert_eq!(store.log().bounds().last, None);
        assert_eq!(store.log().vote().unwrap().unwrap(), "for 2");
        assert!(dir.path().join("damaged/log/CURRENT").exists());
        append(&store, 0..4);
        store.close().unwrap();

        // A restart goes on, and still must not vote.
        let store = Store::open(options(dir.path())).unwrap();
        assert!(store.refilling());
        assert_eq!(store.log().bounds().last.map(|last| last.index), Some(3));
        append(&store, 4..9);
        store.end_refill().unwrap();
        assert!(!store.refilling() && !dir.path().join(ASIDE).exists());
        store.close().unwrap();
        let store = Store::open(options(dir.path())).unwrap();
        assert!(!store.refilling());
        assert_eq!(store.log().vote().unwrap().unwrap(), "for 2");
        store.close().unwrap();
        // The mark is of the new log.
        std::fs::remove_dir_all(dir.path().join("log")).unwrap();
        assert!(Store::open(options(dir.path())).unwrap_err().is_damage());
    }

    #[test]
    fn emptying_goes_on_from_any_step() {
        for step in 0..5 {
            let dir = damaged();
            let (files, mark) = MarkFiles::open(dir.path()).unwrap();
            let mut mark = mark.unwrap();
            mark.refill = Refill::Emptying;
            mark.end = None;
            mark.sequence += 1;
            files.sync(&mark).unwrap();
            let place = aside(dir.path()).unwrap();
            let moved = ["log", "state.current", "snapshots", "state-1"];
            for name in moved.iter().take(step) {
                std::fs::rename(dir.path().join(name), place.join(name)).unwrap();
            }
            if step == 4 {
                StateStore::make_empty(dir.path()).unwrap();
            }
            let store = Store::open(options(dir.path())).unwrap();
            assert!(store.refilling(), "{step}");
            assert_eq!(store.log().vote().unwrap().unwrap(), "for 2");
            for name in moved {
                assert!(place.join(name).exists(), "{name} after {step}");
            }
            append(&store, 0..2);
            store.close().unwrap();
        }
    }

    #[test]
    fn damage_in_a_refill_begins_it_anew_and_keeps_the_first_damage() {
        let dir = damaged();
        let store = DamagedStore::open(options(dir.path())).unwrap().empty().unwrap();
        append(&store, 0..4);
        store.close().unwrap();
        std::fs::write(dir.path().join("log/CURRENT"), "other nonsense").unwrap();
        assert!(Store::open(options(dir.path())).unwrap_err().is_damage());
        let store = DamagedStore::open(options(dir.path())).unwrap().empty().unwrap();
        assert!(store.refilling());
        assert_eq!(store.log().bounds().last, None);
        let kept = std::fs::read(dir.path().join("damaged/log/CURRENT")).unwrap();
        assert_eq!(kept, b"nonsense");
    }

    #[test]
    fn a_request_is_honoured_by_the_next_open_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(options(dir.path())).unwrap();
        let unbound = request(options(dir.path()), "because");
        assert!(matches!(unbound, Err(Error::Locked { .. })), "{unbound:?}");
        store.close().unwrap();
        let unbound = request(options(dir.path()), "because");
        assert!(matches!(unbound, Err(Error::MarkLost { .. })), "{unbound:?}");
        let store = Store::open(options(dir.path())).unwrap();
        store.set_identity(Identity::new(7, 1)).unwrap();
        append(&store, 0..4);
        store.close().unwrap();
        assert_eq!(request(options(dir.path()), "because").unwrap().node, 1);
        let refused = Store::open(options(dir.path())).unwrap_err();
        assert!(
            matches!(&refused, Error::ToRefill { reason } if reason == "because") && refused.is_damage(),
            "{refused}"
        );
        let store = DamagedStore::open(options(dir.path())).unwrap().empty().unwrap();
        assert_eq!(store.log().bounds().last, None);
        assert!(dir.path().join("damaged/damage.json").exists());
        store.close().unwrap();
        assert!(Store::open(options(dir.path())).unwrap().refilling());
    }
}

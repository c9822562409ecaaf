//! The data directory as a whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use muster_failpoint::failpoint;
use parking_lot::Mutex;

use crate::alarm::{self, Alarm, Failure};
use crate::identity::{self, Ownership};
use crate::log::mark::{MarkFiles, Owner, Refill};
use crate::members;
use crate::refill;
use crate::space::{Room, Space, SpaceGuard};
use crate::{Error, Identity, LogPosition, LogStore, Result, StateStore, StoreOptions, files};

/// An open data directory. Cheap to clone; the directory is released when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Store {
    log: LogStore,
    state: StateStore,
    // Last, so that the lock outlives the databases.
    dir: Arc<Dir>,
}

struct Dir {
    path: PathBuf,
    identity: Mutex<Option<Identity>>,
    refilling: AtomicBool,
    alarm: Arc<Alarm>,
    space: Arc<SpaceGuard>,
    _lock: File,
}

impl std::fmt::Debug for Dir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dir").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or makes a data directory. Blocks on the disk.
    ///
    /// Refuses a directory that is in use ([`Error::Locked`]), newer than this program ([`Error::NewerFormat`]), or whose
    /// votes are not known any more ([`Error::MarkLost`]). When [`Error::is_damage`] holds, data is damaged, missing or
    /// rolled back: such a node must not vote, and [`crate::DamagedStore`] is the way to go on. A refusal changes nothing.
    pub fn open(options: StoreOptions) -> Result<Self> {
        files::make_dir(&options.dir)?;
        let lock = files::lock(&options.dir)?;
        Self::open_locked(options, lock)
    }

    pub(crate) fn open_locked(options: StoreOptions, lock: File) -> Result<Self> {
        let dir = &options.dir;
        let (files, mut mark) = MarkFiles::open(dir)?;
        if let Some(found) = mark
            .as_ref()
            .map(|mark| mark.level)
            .filter(|level| *level > options.level_max)
        {
            return Err(Error::NewerLevel {
                found,
                newest: options.level_max,
            });
        }
        let Ownership { identity, repaired } = identity::owner(dir, mark.as_ref())?;
        if let (Some(reason), None) = (alarm::diverged(dir)?, alarm::noted(dir)?) {
            return Err(Error::Diverged { reason });
        }
        if let Some(reason) = alarm::noted(dir)? {
            return Err(Error::ToRefill { reason });
        }
        if let Some(mark) = &mut mark
            && mark.refill == Refill::Emptying
        {
            refill::empty(dir, &files, mark)?;
        }
        if let (true, Some(identity)) = (repaired, &identity) {
            tracing::warn!(dir = %dir.display(), "the identity file was damaged or lost; it is restored from the high-water mark");
            identity::save(dir, identity)?;
        }
        let refilling = mark.as_ref().is_some_and(|mark| mark.refill != Refill::No);
        let bound = mark.as_ref().is_some_and(|mark| mark.owner.is_some());
        let alarm = Arc::new(Alarm::new(dir));
        let space = Arc::new(SpaceGuard::new(dir, options.disk_reserve));
        // A new directory has its databases before it has a mark.
        let state = StateStore::open(&options, mark.is_none(), alarm.clone(), space.clone())?;
        failpoint!("store.open.between_databases", Error::injected);
        let log = LogStore::open(&options, files, mark, alarm.clone())?;
        failpoint!("store.open.before_check", Error::injected);
        check_joined(&log, &state)?;
        if let (false, Some(identity)) = (bound, &identity) {
            // A crash came between the two writes of `set_identity`.
            log.bind(owner(identity))?;
        }
        if !refilling {
            refill::remove_aside(dir);
        }
        let dir = Dir {
            path: options.dir,
            identity: Mutex::new(identity),
            refilling: AtomicBool::new(refilling),
            alarm,
            space,
            _lock: lock,
        };
        Ok(Self {
            log,
            state,
            dir: Arc::new(dir),
        })
    }

    /// Marks the data of a stopped node for a refill by its next start, and says whose it is.
    pub fn request_refill(options: StoreOptions, reason: &str) -> Result<Identity> {
        refill::request(options, reason)
    }

    /// Who this data belongs to; `None` in a new directory.
    pub fn identity(&self) -> Option<Identity> {
        *self.dir.identity.lock()
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.dir.path
    }

    /// Binds a new data directory to a node, or checks that it is bound to it already
    /// ([`Error::OtherIdentity`]). Synced on return.
    pub fn set_identity(&self, identity: Identity) -> Result<()> {
        let mut held = self.dir.identity.lock();
        match *held {
            Some(found) if (found.cluster, found.node) == (identity.cluster, identity.node) => Ok(()),
            Some(found) => Err(Error::OtherIdentity {
                cluster: identity.cluster,
                node: identity.node,
                found_cluster: found.cluster,
                found_node: found.node,
            }),
            None => {
                identity::save(&self.dir.path, &identity)?;
                failpoint!("identity.bind.before_mark", Error::injected);
                self.log.bind(owner(&identity))?;
                failpoint!("identity.bind.after_mark", Error::injected);
                *held = Some(identity);
                Ok(())
            }
        }
    }

    /// Notes where the members are, for the day when this directory is damaged ([`crate::DamagedStore::members`]). Synced on
    /// return; cheap when nothing changed. Blocks on the disk.
    pub fn note_members(&self, members: &BTreeMap<u64, String>) -> Result<()> {
        members::save(&self.dir.path, members)
    }

    /// Where the members were when this node last noted it, itself among them; empty if that is not known any more.
    pub fn members(&self) -> BTreeMap<u64, String> {
        members::load(&self.dir.path)
    }

    /// Makes this directory the beginning of another cluster: its state, as written last, is that at `position`, and its
    /// log begins after it. Everything that the log holds is dropped, so all that matters must be in the state.
    ///
    /// For a working copy of a directory that no node uses: a crash in between leaves it unusable.
    pub fn refound(&self, identity: Identity, position: LogPosition, vote: Bytes) -> Result<()> {
        self.state.flush()?;
        if self.state.durable_applied() != Some(position) {
            return Err(Error::damaged(
                "state",
                format!("it is of {:?}, not of {position:?}", self.state.durable_applied()),
            ));
        }
        self.log.purge(position)?;
        self.log.save_vote(vote)?;
        let mut held = self.dir.identity.lock();
        identity::save(&self.dir.path, &identity)?;
        self.log.bind(owner(&identity))?;
        // There is nobody left to bring what an unfinished refill lacks.
        self.end_refill()?;
        *held = Some(identity);
        Ok(())
    }

    /// True while the data is being got anew from the other nodes: the node must neither vote nor lead.
    pub fn refilling(&self) -> bool {
        self.dir.refilling.load(Ordering::Acquire)
    }

    /// Notes that the log holds again all that this node may have acknowledged, after everything appended is synced, and
    /// removes the damaged data that was put aside. From here on the node may vote.
    pub fn end_refill(&self) -> Result<()> {
        failpoint!("refill.end.before_mark", Error::injected);
        self.log.end_refill()?;
        failpoint!("refill.end.after_mark", Error::injected);
        self.dir.refilling.store(false, Ordering::Release);
        refill::remove_aside(&self.dir.path);
        Ok(())
    }

    /// Notes that data of a feature level is about to be written, synced on return: a program that does not understand the
    /// level refuses the directory from then on ([`Error::NewerLevel`]).
    pub fn raise_level(&self, level: u32) -> Result<()> {
        failpoint!("level.raise.before_mark", Error::injected);
        self.log.raise_level(level)?;
        failpoint!("level.raise.after_mark", Error::injected);
        Ok(())
    }

    /// Calls `listener` with the first failure that must end the process: damage that was read, a write or sync that
    /// failed. At once if there was one. It must not block.
    pub fn on_failure(&self, listener: Box<dyn FnOnce(Failure) + Send>) {
        self.dir.alarm.listen(listener);
    }

    /// Reports damage that its reader found in what this store gave it, e.g. an entry that cannot be decoded.
    pub fn report_damage(&self, what: &'static str, detail: String) -> Error {
        let error = Error::Damaged { what, detail };
        // Passed on to the listeners; the caller has it as well.
        drop(self.dir.alarm.read::<()>(Err(error.clone())));
        error
    }

    /// Looks how much room the file system has, and makes or gives up the ballast. To be called several times a second;
    /// what it finds decides whether the state is flushed.
    pub fn look_at_space(&self) -> Result<Space> {
        self.dir.space.look()
    }

    /// What was found last.
    pub fn space(&self) -> Space {
        self.dir.space.last()
    }

    /// The room found last.
    pub fn room(&self) -> Room {
        self.space().room
    }

    /// The room there would be with so many bytes more on the disk.
    pub fn room_for(&self, bytes: u64) -> Room {
        self.dir.space.room_for(bytes)
    }

    /// Notes that the state of this node differs from that of a majority: [`Store::open`] refuses it from now on, until a
    /// refill is asked for.
    pub fn note_divergence(&self, reason: &str) -> Result<()> {
        alarm::note_divergence(&self.dir.path, reason)
    }

    /// The Raft log.
    pub fn log(&self) -> &LogStore {
        &self.log
    }

    /// The state and history.
    pub fn state(&self) -> &StateStore {
        &self.state
    }

    /// Flushes the state and ends the writer thread after what is queued was synced. Later operations of other
    /// clones fail with [`Error::Closed`].
    pub fn close(self) -> Result<()> {
        let log = self.log.close();
        self.state.flush()?;
        log
    }
}

fn owner(identity: &Identity) -> Owner {
    Owner {
        cluster: identity.cluster,
        node: identity.node,
        predecessor: identity.predecessor,
        instance: identity.instance,
    }
}

/// Entries below the log's beginning are nowhere but in the state, so it must reach there.
fn check_joined(log: &LogStore, state: &StateStore) -> Result<()> {
    let applied = state.durable_applied();
    match log.bounds().purged {
        Some(purged) if applied.is_none_or(|applied| applied.index < purged.index) => {
            Err(Error::StateBelowLog { applied, purged })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EntryKind, LogEntry, LogPosition};

    fn open(dir: &Path) -> Result<Store> {
        Store::open(StoreOptions::new(dir))
    }

    fn entry(index: u64) -> LogEntry {
        LogEntry {
            position: position(index),
            kind: EntryKind::Blank,
            data: Bytes::new(),
        }
    }

    fn position(index: u64) -> LogPosition {
        LogPosition {
            term: 1,
            node: 1,
            index,
        }
    }

    #[test]
    fn a_directory_is_open_once_and_belongs_to_one_node() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        assert!(matches!(open(dir.path()), Err(Error::Locked { .. })));
        assert_eq!(store.identity(), None);
        let identity = Identity::new(7, 1);
        store.set_identity(identity).unwrap();
        store.set_identity(identity).unwrap();
        let other = store.set_identity(Identity::new(7, 2));
        assert!(matches!(
            other,
            Err(Error::OtherIdentity {
                node: 2,
                found_node: 1,
                ..
            })
        ));
        store.close().unwrap();
        let store = open(dir.path()).unwrap();
        assert_eq!(store.identity(), Some(identity));
    }

    #[test]
    fn data_of_a_newer_level_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        store.raise_level(3).unwrap();
        store.raise_level(2).unwrap();
        store.close().unwrap();
        let mut options = StoreOptions::new(dir.path());
        options.level_max = 3;
        Store::open(options.clone()).unwrap().close().unwrap();
        options.level_max = 2;
        let refused = Store::open(options).unwrap_err();
        assert!(matches!(refused, Error::NewerLevel { found: 3, newest: 2 }) && !refused.is_damage());
    }

    #[test]
    fn a_directory_becomes_the_beginning_of_another_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        store.set_identity(Identity::new(7, 1)).unwrap();
        let position = |term, index| LogPosition { term, node: 1, index };
        let entry = |index| LogEntry {
            position: position(1, index),
            kind: EntryKind::Blank,
            data: Bytes::new(),
        };
        let (done, synced) = std::sync::mpsc::channel();
        let done = Box::new(move |result| done.send(result).unwrap());
        store.log().append((0..5).map(entry).collect(), done);
        synced.recv().unwrap().unwrap();
        let begin = position(2, 1_000);
        let identity = Identity {
            predecessor: Some(7),
            ..Identity::new(8, 1)
        };
        let early = store.refound(identity, begin, Bytes::from_static(b"vote"));
        assert!(
            matches!(early, Err(Error::Damaged { .. })),
            "the state must reach there: {early:?}"
        );
        store
            .state()
            .write(crate::Checkpoint {
                applied: Some(begin),
                ..crate::Checkpoint::default()
            })
            .unwrap();
        store.refound(identity, begin, Bytes::from_static(b"vote")).unwrap();
        store.close().unwrap();

        let store = open(dir.path()).unwrap();
        assert_eq!(store.identity(), Some(identity));
        let bounds = store.log().bounds();
        assert_eq!((bounds.purged, bounds.last), (Some(begin), Some(begin)));
        assert_eq!(store.log().vote().unwrap(), Some(Bytes::from_static(b"vote")));
        assert!(matches!(store.log().read(3, 5, 1), Err(Error::Purged { .. })));
        let (done, synced) = std::sync::mpsc::channel();
        let next = LogEntry {
            position: position(3, 1_001),
            ..entry(0)
        };
        store
            .log()
            .append(vec![next], Box::new(move |result| done.send(result).unwrap()));
        synced.recv().unwrap().unwrap();
        store.close().unwrap();
        assert_eq!(open(dir.path()).unwrap().log().bounds().last, Some(position(3, 1_001)));
    }

    #[test]
    fn a_state_that_ends_before_the_log_begins_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        store.log().append((0..5).map(entry).collect(), Box::new(|_| {}));
        store.log().purge(position(3)).unwrap();
        store.close().unwrap();
        assert!(matches!(
            open(dir.path()),
            Err(Error::StateBelowLog { applied: None, .. })
        ));
    }

    #[test]
    fn a_directory_that_lost_its_marks_is_not_taken_for_a_new_one() {
        for (what, gone) in [
            (
                "all but the identity",
                &["mark-a", "mark-b", "log", "state-1", "state.current"][..],
            ),
            ("the marks", &["mark-a", "mark-b"]),
            ("marks and log", &["mark-a", "mark-b", "log"]),
            ("marks and identity", &["mark-a", "mark-b", "identity.json"]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path()).unwrap();
            store.set_identity(Identity::new(7, 1)).unwrap();
            store.log().append(vec![entry(0)], Box::new(|_| {}));
            store.close().unwrap();
            for name in gone {
                let path = dir.path().join(name);
                let removed = if path.is_dir() {
                    std::fs::remove_dir_all(path)
                } else {
                    std::fs::remove_file(path)
                };
                removed.unwrap();
            }
            let refused = open(dir.path()).unwrap_err();
            assert!(matches!(refused, Error::MarkLost { .. }), "{what}: {refused}");
        }
    }
}

//! The data directory as a whole.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Error, Identity, LogPosition, LogStore, Result, StateStore, StoreOptions, files, identity};

/// An open data directory. Cheap to clone; the directory is released when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Store {
    log: LogStore,
    state: StateStore,
    // Last, so that the lock outlives the databases.
    dir: Arc<Dir>,
}

#[derive(Debug)]
struct Dir {
    path: PathBuf,
    identity: Mutex<Option<Identity>>,
    _lock: File,
}

impl Store {
    /// Opens or makes a data directory. Blocks on the disk.
    ///
    /// Refuses a directory that is in use ([`Error::Locked`]), newer than this program ([`Error::NewerFormat`]), or of
    /// which anything verified is damaged or missing ([`Error::LogBelowMark`] and others): such a node must not vote.
    pub fn open(options: StoreOptions) -> Result<Self> {
        files::make_dir(&options.dir)?;
        let lock = files::lock(&options.dir)?;
        let identity = identity::load(&options.dir)?;
        let log = LogStore::open(&options)?;
        let state = StateStore::open(&options)?;
        check_joined(&log, &state)?;
        let dir = Dir {
            path: options.dir,
            identity: Mutex::new(identity),
            _lock: lock,
        };
        Ok(Self {
            log,
            state,
            dir: Arc::new(dir),
        })
    }

    /// Who this data belongs to; `None` in a new directory.
    pub fn identity(&self) -> Option<Identity> {
        *self.dir.identity.lock()
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
                *held = Some(identity);
                Ok(())
            }
        }
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
        *held = Some(identity);
        Ok(())
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

    fn open(dir: &std::path::Path) -> Result<Store> {
        Store::open(StoreOptions::new(dir))
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
        drop(store);
        std::fs::write(dir.path().join("identity.json"), r#"{"format": 2}"#).unwrap();
        assert!(matches!(
            open(dir.path()),
            Err(Error::NewerFormat { found: 2, newest: 1 })
        ));
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
        let position = |index| LogPosition {
            term: 1,
            node: 1,
            index,
        };
        let entry = |index| LogEntry {
            position: position(index),
            kind: EntryKind::Blank,
            data: Bytes::new(),
        };
        store.log().append((0..5).map(entry).collect(), Box::new(|_| {}));
        store.log().purge(position(3)).unwrap();
        store.close().unwrap();
        assert!(matches!(
            open(dir.path()),
            Err(Error::StateBelowLog { applied: None, .. })
        ));
    }
}

//! What happens when stored data turns out to be damaged, or cannot be written any more, while the node runs.
//!
//! The first such failure is kept and told to whoever listens, so that the process ends at once. Damage is also noted in a
//! file: the next start refills the node instead of meeting the same damage again.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, files};

/// File in the data directory that asks for a refill.
const NOTE: &str = "damage.json";
/// File in the data directory that says that its state differs from that of a majority.
const DIVERGENCE: &str = "diverged.json";

/// Why a directory is to be refilled, for people and for the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    reason: String,
    /// When it was found, in milliseconds since the Unix epoch.
    found: u64,
}

/// The failure that ends a node.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What failed first.
    pub error: Error,
    /// Data is damaged, and the next start refills it. Else the next start finds out what is on disk.
    pub damage: bool,
}

type Listener = Box<dyn FnOnce(Failure) + Send>;

#[derive(Default)]
struct Raised {
    first: Option<Failure>,
    listeners: Vec<Listener>,
}

/// Shared by log and state of one data directory.
pub(crate) struct Alarm {
    dir: PathBuf,
    raised: Mutex<Raised>,
}

impl Alarm {
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            raised: Mutex::default(),
        }
    }

    /// Calls `listener` with the first failure, at once if there was one. It must not block.
    pub fn listen(&self, listener: Listener) {
        let mut raised = self.raised.lock();
        match &raised.first {
            Some(failure) => {
                let failure = failure.clone();
                drop(raised);
                listener(failure);
            }
            None => raised.listeners.push(listener),
        }
    }

    /// Passes the result of reading stored data on. Damage is noted for the next start.
    pub fn read<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && error.is_fatal()
        {
            self.raise(error, error.is_damage());
        }
        result
    }

    /// Passes the result of writing on. A refused write alone is no damage: the next start finds out what is there.
    pub fn write<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && error.is_fatal()
        {
            self.raise(error, error.is_corruption());
        }
        result
    }

    fn raise(&self, error: &Error, damage: bool) {
        let mut raised = self.raised.lock();
        if raised.first.is_some() {
            return;
        }
        let failure = Failure {
            error: error.clone(),
            damage,
        };
        raised.first = Some(failure.clone());
        let listeners = std::mem::take(&mut raised.listeners);
        drop(raised);
        if damage {
            tracing::error!(%error, "stored data is damaged; this node ends, and its next start refills it from the others");
            if let Err(failed) = note(&self.dir, &error.to_string()) {
                tracing::error!(error = %failed, "the damage could not be noted; the next start may meet it again");
            }
        } else {
            tracing::error!(%error, "stored data cannot be read or written; this node ends");
        }
        for listener in listeners {
            listener(failure.clone());
        }
    }
}

/// Marks a directory for a refill by its next start.
pub(crate) fn note(dir: &Path, reason: &str) -> Result<()> {
    write(dir, NOTE, reason)
}

fn write(dir: &Path, name: &str, reason: &str) -> Result<()> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let note = Note {
        reason: reason.to_owned(),
        found: since.map_or(0, |since| since.as_millis() as u64),
    };
    let bytes = serde_json::to_vec_pretty(&note).unwrap_or_default();
    files::replace(dir, name, &bytes)
}

/// Why a directory was marked for a refill. A mark that cannot be read counts as well.
pub(crate) fn noted(dir: &Path) -> Result<Option<String>> {
    read(dir, NOTE)
}

/// Notes that the state differs from that of a majority: the next start must not go on with it.
pub(crate) fn note_divergence(dir: &Path, reason: &str) -> Result<()> {
    write(dir, DIVERGENCE, reason)
}

/// How the state differs from that of a majority, if it was found to.
pub(crate) fn diverged(dir: &Path) -> Result<Option<String>> {
    read(dir, DIVERGENCE)
}

fn read(dir: &Path, name: &str) -> Result<Option<String>> {
    let bytes = files::read_small(&dir.join(name))?;
    Ok(bytes.map(|bytes| match serde_json::from_slice::<Note>(&bytes) {
        Ok(note) => note.reason,
        Err(_) => format!("{name} says so, and cannot be read"),
    }))
}

/// The notes are no longer needed. They are kept beside what was damaged.
pub(crate) fn forget(dir: &Path, aside: &Path) -> Result<()> {
    for name in [NOTE, DIVERGENCE] {
        let note = dir.join(name);
        match std::fs::rename(&note, aside.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("moving {} aside", note.display()))(error));
            }
            _ => {}
        }
    }
    files::sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_first_failure_is_told_once_and_damage_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let alarm = Alarm::new(dir.path());
        let told = Arc::new(Mutex::new(Vec::new()));
        let listener = |told: &Arc<Mutex<Vec<(bool, String)>>>| {
            let told = told.clone();
            Box::new(move |failure: Failure| told.lock().push((failure.damage, failure.error.to_string()))) as Listener
        };
        alarm.listen(listener(&told));
        assert!(alarm.read::<()>(Err(Error::Closed)).is_err());
        assert!(
            alarm
                .write::<()>(Err(Error::io("syncing")(std::io::Error::from_raw_os_error(5))))
                .is_err()
        );
        assert_eq!(noted(dir.path()).unwrap(), None, "a failed write is no damage");
        assert!(alarm.read::<()>(Err(Error::damaged("row", "bad"))).is_err());
        alarm.listen(listener(&told));
        let told = told.lock();
        assert_eq!(told.len(), 2);
        assert!(
            told.iter().all(|(damage, text)| !damage && text.starts_with("syncing")),
            "{told:?}"
        );

        let alarm = Alarm::new(dir.path());
        assert!(alarm.read::<()>(Err(Error::damaged("row", "bad"))).is_err());
        assert_eq!(noted(dir.path()).unwrap(), Some("row is damaged: bad".into()));
        std::fs::write(dir.path().join(NOTE), "{").unwrap();
        assert!(noted(dir.path()).unwrap().is_some());
        note_divergence(dir.path(), "another hash").unwrap();
        assert_eq!(diverged(dir.path()).unwrap(), Some("another hash".into()));
        let aside = dir.path().join("aside");
        std::fs::create_dir(&aside).unwrap();
        for _ in 0..2 {
            forget(dir.path(), &aside).unwrap();
            assert_eq!(
                (noted(dir.path()).unwrap(), diverged(dir.path()).unwrap()),
                (None, None)
            );
        }
        assert!(aside.join(NOTE).exists() && aside.join(DIVERGENCE).exists());
    }
}

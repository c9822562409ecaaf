//! The snapshot files of a node: built from the state, received from peers.

use std::path::{Path, PathBuf};

use super::pack;
use super::types::{SnapshotFile, SnapshotInfo};
use crate::codec::Meta;
use crate::{Error, Result, files};

const ENDING: &str = ".snapshot";

/// The directory of snapshot files and the one in force.
#[derive(Debug)]
pub(super) struct Snapshots {
    pub dir: PathBuf,
    pub current: Option<SnapshotFile>,
    number: u64,
}

impl Snapshots {
    /// Finds the newest snapshot and removes everything else: older ones, and what a crash left half done.
    pub fn open(dir: PathBuf) -> Result<Self> {
        files::make_dir(&dir)?;
        let io = || Error::io(format!("listing {}", dir.display()));
        let mut newest: Option<(u64, PathBuf)> = None;
        let mut others = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(io())? {
            let path = entry.map_err(io())?.path();
            match number_of(&path) {
                Some(number) if newest.as_ref().is_none_or(|(newest, _)| *newest < number) => {
                    others.extend(newest.replace((number, path)).map(|(_, path)| path));
                }
                _ => others.push(path),
            }
        }
        for path in others {
            remove(&path);
        }
        let mut snapshots = Self {
            dir,
            current: None,
            number: newest.as_ref().map_or(0, |(number, _)| *number),
        };
        if let Some((_, path)) = newest {
            match describe(&path) {
                Ok(file) => snapshots.current = Some(file),
                Err(error) => {
                    // It is only a copy of the state; a new one is built when it is needed.
                    tracing::warn!(%error, path = %path.display(), "removing an unreadable snapshot");
                    remove(&path);
                }
            }
        }
        Ok(snapshots)
    }

    /// A new path for a file or directory that is not a snapshot yet.
    pub fn scratch(&mut self, what: &str) -> PathBuf {
        self.number += 1;
        self.dir.join(format!("{}-{what}", self.number))
    }

    /// Puts a whole, synced file in force.
    pub fn adopt(&mut self, path: &Path) -> Result<SnapshotFile> {
        self.number += 1;
        let place = self.dir.join(format!("{:020}{ENDING}", self.number));
        std::fs::rename(path, &place).map_err(Error::io(format!("renaming {}", path.display())))?;
        files::sync_dir(&self.dir)?;
        let file = describe(&place)?;
        if let Some(old) = self.current.replace(file.clone()) {
            remove(&old.path);
        }
        Ok(file)
    }
}

pub(super) fn info(meta: Meta) -> SnapshotInfo {
    SnapshotInfo {
        applied: meta.applied,
        membership: meta.membership,
    }
}

fn describe(path: &Path) -> Result<SnapshotFile> {
    let meta = pack::read_meta(path)?;
    let bytes = std::fs::metadata(path)
        .map_err(Error::io(format!("reading {}", path.display())))?
        .len();
    Ok(SnapshotFile {
        info: info(meta),
        path: path.to_owned(),
        bytes,
    })
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(ENDING)?.parse().ok()
}

/// Removes a file or directory; one that stays is removed by the next open.
pub(super) fn remove(path: &Path) {
    let result = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    if let Err(error) = result
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove");
    }
}

//! The snapshots of a node: pinned ones, read by the node that sends them, and files received from peers.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::pack;
use super::types::SnapshotInfo;
use crate::codec::Meta;
use crate::{Error, Result, files};

/// A transfer that broke can go on with the same snapshot for this long.
pub(super) const KEPT: Duration = Duration::from_mins(10);

/// One file of a pinned snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Name within the snapshot.
    pub name: String,
    /// Where it can be read, for as long as the snapshot is there.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// The whole state and history as of one position: hard links to the files of the database, so it costs no copy. The
/// links go with the last owner.
#[derive(Debug)]
pub struct PinnedSnapshot {
    /// Names its bytes: two snapshots of one node never have the same.
    pub id: u64,
    /// What it contains.
    pub info: SnapshotInfo,
    /// Length of its packed form in bytes.
    pub bytes: u64,
    meta: Meta,
    dir: PathBuf,
}

impl PinnedSnapshot {
    pub(super) fn new(dir: PathBuf, meta: Meta) -> Result<Self> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self {
            id: since_epoch.map_or(0, |since| since.as_nanos() as u64),
            info: info(meta.clone()),
            bytes: pack::packed_bytes(&dir, &meta)?,
            meta,
            dir,
        })
    }

    /// Its files, by name. They never change; most are shared with other snapshots of this node.
    pub fn files(&self) -> Result<Vec<SnapshotFile>> {
        let file = |(name, bytes): (OsString, u64)| {
            let path = self.dir.join(&name);
            let name = name.into_string();
            let name =
                name.map_err(|name| Error::damaged("snapshot", format!("a file is named {}", name.display())))?;
            Ok(SnapshotFile { name, path, bytes })
        };
        pack::list(&self.dir)?.into_iter().map(file).collect()
    }

    /// Writes the packed form, always the same bytes. Blocks on the disk.
    pub fn pack(&self, to: &mut dyn Write) -> Result<()> {
        pack::pack(&self.dir, &self.meta, to)
    }
}

impl Drop for PinnedSnapshot {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

/// The directory of snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    dir: PathBuf,
    number: u64,
    kept: Option<(Arc<PinnedSnapshot>, Instant)>,
}

impl Snapshots {
    /// Removes what an earlier process left: links, and files half received.
    pub fn open(dir: PathBuf) -> Result<Self> {
        files::make_dir(&dir)?;
        let io = || Error::io(format!("listing {}", dir.display()));
        for entry in std::fs::read_dir(&dir).map_err(io())? {
            remove(&entry.map_err(io())?.path());
        }
        Ok(Self {
            dir,
            number: 0,
            kept: None,
        })
    }

    /// A new path for links.
    pub fn next_pin(&mut self) -> PathBuf {
        self.number += 1;
        self.dir.join(format!("{}-pinned", self.number))
    }

    /// Keeps a snapshot for later transfers.
    pub fn keep(&mut self, snapshot: &Arc<PinnedSnapshot>) {
        self.kept = Some((snapshot.clone(), Instant::now()));
    }

    /// The snapshot kept, if it contains the entry at `least`.
    pub fn kept(&self, least: u64) -> Option<Arc<PinnedSnapshot>> {
        let (snapshot, since) = self.kept.as_ref()?;
        let covers = snapshot.info.applied.is_some_and(|applied| applied.index >= least);
        (covers && since.elapsed() < KEPT).then(|| snapshot.clone())
    }

    /// Lets go of a snapshot that no transfer is likely to need: its links keep files from being removed.
    pub fn expire(&mut self) {
        if self.kept.as_ref().is_some_and(|(_, since)| since.elapsed() >= KEPT) {
            self.kept = None;
        }
    }

    /// Where the snapshot `id` of a node is received. Files of other snapshots are removed: only one is under way.
    pub fn receiving(&self, from: u64, id: u64) -> Result<PathBuf> {
        let place = self.dir.join(format!("{from}-{id:016x}.received"));
        let io = || Error::io(format!("listing {}", self.dir.display()));
        for entry in std::fs::read_dir(&self.dir).map_err(io())? {
            let path = entry.map_err(io())?.path();
            if path != place && path.extension().is_some_and(|extension| extension == "received") {
                remove(&path);
            }
        }
        Ok(place)
    }
}

pub(super) fn info(meta: Meta) -> SnapshotInfo {
    SnapshotInfo {
        applied: meta.applied,
        membership: meta.membership,
        level: 0,
    }
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

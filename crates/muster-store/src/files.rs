//! File operations that survive a power cut.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;

use muster_failpoint::failpoint;

use crate::{Error, Result};

/// Makes a directory and its parents.
pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::io(format!("making directory {}", dir.display())))
}

/// Makes entries of a directory (new, renamed, removed files) durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(Error::io(format!("syncing directory {}", dir.display())))
}

/// Replaces a small file: after a crash at any point it holds the old bytes or the new.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    let path = dir.join(name);
    let write = || {
        failpoint!("file.replace.before_write", std::io::Error::from);
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        failpoint!("file.replace.before_sync", std::io::Error::from);
        file.sync_all()?;
        failpoint!("file.replace.before_rename", std::io::Error::from);
        std::fs::rename(&temporary, &path)
    };
    write().map_err(Error::io(format!("writing {}", path.display())))?;
    failpoint!("file.replace.before_dir_sync", Error::injected);
    sync_dir(dir)
}

/// Removes a file, if there is one.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", path.display()))(err))
        }
        _ => Ok(()),
    }
}

/// A small file's bytes; `None` if there is none.
pub(crate) fn read_small(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Error::io(format!("reading {}", path.display()))(err)),
    }
}

/// Takes the lock of a data directory; held until the file is dropped, also over a crash of the process.
pub(crate) fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let doing = || format!("locking {}", path.display());
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::io(doing()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(err)) => Err(Error::io(doing())(err)),
    }
}

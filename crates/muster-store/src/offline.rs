//! Data directories that no node has open: looked at, copied, laid out anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::state::{FIRST, generation};
use crate::{Error, Result, files};

/// Where the state's files lie in a data directory that is laid out by hand, before [`adopt_state`] and its first open.
pub fn state_dir(data: &Path) -> PathBuf {
    data.join(generation::name(FIRST))
}

/// Puts the state that was laid out there in force; durable on return.
pub fn adopt_state(data: &Path) -> Result<()> {
    generation::point(data, FIRST)
}

/// Refuses a data directory in which there is anything at all; one that does not exist is empty.
pub fn require_empty(data: &Path) -> Result<()> {
    let found = match fs::read_dir(data) {
        Ok(mut entries) => entries.next(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io(format!("listing {}", data.display()))(error)),
    };
    match found {
        None => Ok(()),
        Some(_) => Err(Error::NotEmpty { dir: data.to_owned() }),
    }
}

/// Copies a data directory so that nothing done in the copy changes the original, while its lock is held. Tables never
/// change once written, so they are hard links where the file system allows it.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let _lock = files::lock(from)?;
    require_empty(to)?;
    copy_dir(from, to)
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    let doing = || Error::io(format!("copying {} to {}", from.display(), to.display()));
    files::make_dir(to)?;
    for entry in fs::read_dir(from).map_err(doing())? {
        let entry = entry.map_err(doing())?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(doing())?.is_dir() {
            copy_dir(&source, &target)?;
            continue;
        }
        let table = source.extension().is_some_and(|extension| extension == "sst");
        if table && fs::hard_link(&source, &target).is_ok() {
            continue;
        }
        fs::copy(&source, &target).map_err(doing())?;
        File::open(&target).and_then(|file| file.sync_all()).map_err(doing())?;
    }
    files::sync_dir(to)
}

/// Gives a finished working directory the place where a node looks for it; durable on return.
pub fn put_in_place(working: &Path, data: &Path) -> Result<()> {
    // An empty directory may be there: a mount point's, or one made by hand.
    if let Err(error) = fs::remove_dir(data)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(Error::io(format!("replacing {}", data.display()))(error));
    }
    rename(working, data)
}

/// Renames a directory within its file system; durable on return.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io(format!("renaming {} to {}", from.display(), to.display())))?;
    match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => files::sync_dir(parent),
        _ => files::sync_dir(Path::new(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_in_a_copy_leaves_the_original_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(from.join("log")).unwrap();
        fs::write(from.join("log/1.sst"), "table").unwrap();
        fs::write(from.join("log/2.log"), "entries").unwrap();
        copy(&from, &to).unwrap();
        let again = copy(&from, &to);
        assert!(matches!(again, Err(Error::NotEmpty { .. })), "{again:?}");
        let append = |path: PathBuf| {
            use std::io::Write;
            let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(b" and more").unwrap();
        };
        append(to.join("log/2.log"));
        assert_eq!(fs::read_to_string(from.join("log/2.log")).unwrap(), "entries");
        fs::remove_dir_all(&to).unwrap();
        assert_eq!(fs::read_to_string(from.join("log/1.sst")).unwrap(), "table");
    }

    #[test]
    fn a_directory_in_use_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("a");
        let store = crate::Store::open(crate::StoreOptions::new(&from)).unwrap();
        assert!(matches!(copy(&from, &dir.path().join("b")), Err(Error::Locked { .. })));
        drop(store);
        copy(&from, &dir.path().join("b")).unwrap();
        crate::Store::open(crate::StoreOptions::new(dir.path().join("b"))).unwrap();
    }

    #[test]
    fn a_working_directory_replaces_nothing_but_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let (working, data) = (dir.path().join("w"), dir.path().join("d"));
        for name in ["w", "d"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(working.join("x"), "new").unwrap();
        fs::write(data.join("x"), "old").unwrap();
        assert!(put_in_place(&working, &data).is_err());
        assert_eq!(fs::read_to_string(data.join("x")).unwrap(), "old");
        fs::remove_file(data.join("x")).unwrap();
        put_in_place(&working, &data).unwrap();
        assert_eq!(fs::read_to_string(data.join("x")).unwrap(), "new");
    }
}

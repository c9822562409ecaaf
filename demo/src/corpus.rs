//! The text files to index, grouped by folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Larger files are left out.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Directory entries looked at before the search is given up.
const ENTRIES_MAX: usize = 200_000;
/// Files of a group at most: a larger folder is merged in parts, so that a merge's payload stays far below 1 MiB.
const GROUP_MAX: usize = 200;

/// A folder, or a part of one.
#[derive(Debug)]
pub struct Group {
    pub name: String,
    /// Sorted.
    pub files: Vec<PathBuf>,
}

/// The first `limit` text files under `root` in the order of their names.
pub fn collect(root: &Path, limit: usize) -> Result<Vec<Group>> {
    let mut search = Search {
        limit,
        entries: 0,
        files: 0,
        groups: Vec::new(),
    };
    search
        .folder(root)
        .with_context(|| format!("reading the directory {}", root.display()))?;
    if search.files == 0 {
        bail!("there is no text file (UTF-8, at most 1 MiB) under {}", root.display());
    }
    Ok(search.groups)
}

struct Search {
    limit: usize,
    entries: usize,
    files: usize,
    groups: Vec<Group>,
}

impl Search {
    fn folder(&mut self, folder: &Path) -> std::io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(folder)?.filter_map(Result::ok).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        let mut here = Vec::new();
        let mut below = Vec::new();
        for entry in entries {
            self.entries += 1;
            if self.files >= self.limit || self.entries > ENTRIES_MAX {
                break;
            }
            // Links are not followed, so the walk ends.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => below.push(entry.path()),
                Ok(kind) if kind.is_file() && is_text(&entry.path()) => {
                    self.files += 1;
                    here.push(entry.path());
                }
                _ => {}
            }
        }
        let parts = here.len().div_ceil(GROUP_MAX);
        for (part, files) in here.chunks(GROUP_MAX).enumerate() {
            let name = folder.display().to_string();
            let name = if parts > 1 {
                format!("{name} ({} of {parts})", part + 1)
            } else {
                name
            };
            self.groups.push(Group {
                name,
                files: files.to_vec(),
            });
        }
        for folder in below {
            if self.files >= self.limit || self.entries > ENTRIES_MAX {
                break;
            }
            // A folder that may not be read is left out.
            let _ = self.folder(&folder);
        }
        Ok(())
    }
}

fn is_text(path: &Path) -> bool {
    path.to_str().is_some()
        && fs::metadata(path).is_ok_and(|about| (1..=FILE_BYTES_MAX).contains(&about.len()))
        && fs::read(path).is_ok_and(|bytes| !bytes.contains(&0) && std::str::from_utf8(&bytes).is_ok())
}

/// The installed Rust documentation when there is any, else `/usr/share`.
pub fn default_root() -> PathBuf {
    let docs = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .ok()
        .and_then(|output| {
            let sysroot = String::from_utf8(output.stdout).ok()?;
            let docs = Path::new(sysroot.trim()).join("share/doc/rust/html");
            docs.is_dir().then_some(docs)
        });
    docs.unwrap_or_else(|| PathBuf::from("/usr/share"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_files_are_found_by_folder_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        write("b.txt", b"b");
        write("a.txt", b"a");
        write("picture", &[0x89, 0, 1]);
        write("latin1", &[b'a', 0xe4]);
        write("empty", b"");
        write("sub/c.txt", b"c");
        let groups = collect(dir.path(), 10).unwrap();
        let names: Vec<Vec<_>> = groups
            .iter()
            .map(|group| {
                group
                    .files
                    .iter()
                    .filter_map(|file| file.file_name()?.to_str())
                    .collect()
            })
            .collect();
        assert_eq!(names, [vec!["a.txt", "b.txt"], vec!["c.txt"]]);
        assert_eq!(collect(dir.path(), 1).unwrap()[0].files.len(), 1);
    }

    #[test]
    fn a_large_folder_comes_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..=GROUP_MAX {
            fs::write(dir.path().join(format!("{number:04}")), b"x").unwrap();
        }
        let groups = collect(dir.path(), 10_000).unwrap();
        assert_eq!(
            groups.iter().map(|group| group.files.len()).collect::<Vec<_>>(),
            [GROUP_MAX, 1]
        );
    }

    #[test]
    fn a_directory_without_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(collect(dir.path(), 10).is_err());
        assert!(collect(&dir.path().join("missing"), 10).is_err());
    }
}

//! The same work again in one thread, without a cluster, and the comparison.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::jobs::{FileIndex, FolderIndex};
use crate::load::Results;

/// What the comparison found.
#[derive(Debug, Default)]
pub struct Verdict {
    pub wrong_files: u64,
    pub wrong_folders: u64,
    /// The first that differed.
    pub example: Option<PathBuf>,
}

impl Verdict {
    fn differs(&mut self, path: Option<&PathBuf>) {
        self.example = self.example.take().or_else(|| path.cloned());
    }
}

/// Reads every file again and compares with what the cluster said.
pub fn verify(results: &[Results]) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for results in results {
        for (path, index) in &results.files {
            if read(path)? != *index {
                verdict.wrong_files += 1;
                verdict.differs(Some(path));
            }
        }
        for (paths, folder) in &results.folders {
            let files = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
            if FolderIndex::of(&files) != *folder {
                verdict.wrong_folders += 1;
                verdict.differs(paths.first());
            }
        }
    }
    Ok(verdict)
}

fn read(path: &Path) -> Result<FileIndex> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {} again", path.display()))?;
    Ok(FileIndex::of(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "one two").unwrap();
        let index = FileIndex::of("one two");
        let mut results = Results::default();
        results.files.insert(path.clone(), index.clone());
        results.folders.push((vec![path.clone()], FolderIndex::of(&[index])));
        let verdict = verify(&[results]).unwrap();
        assert_eq!((verdict.wrong_files, verdict.wrong_folders), (0, 0));

        let mut results = Results::default();
        results.files.insert(path.clone(), FileIndex::of("one"));
        results.folders.push((vec![path.clone()], FolderIndex::of(&[])));
        let verdict = verify(&[results]).unwrap();
        assert_eq!((verdict.wrong_files, verdict.wrong_folders), (1, 1));
        assert_eq!(verdict.example, Some(path));
    }
}

//! The two kinds of job, and the plain functions that do their work. The check at the end calls the same functions.

use muster_client::Job;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Reads a text file and reports what is in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IndexFile {
    /// Where it lies.
    pub path: String,
}

impl Job for IndexFile {
    const KIND: &'static str = "index-file";
    const QUEUE: &'static str = "index";
    type Output = FileIndex;
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIndex {
    pub words: u64,
    pub lines: u64,
    /// In characters.
    pub longest_line: u64,
    /// In hexadecimal.
    pub sha256: String,
}

impl FileIndex {
    pub fn of(text: &str) -> Self {
        Self {
            words: text.split_whitespace().count() as u64,
            lines: text.lines().count() as u64,
            longest_line: text.lines().map(|line| line.chars().count() as u64).max().unwrap_or(0),
            sha256: hex(&Sha256::digest(text)),
        }
    }
}

/// Merges what is in the files of a folder, once all of them are read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MergeFolder {
    /// The folder, and which part of it if it has many files.
    pub folder: String,
    /// In the order of the files' names.
    pub files: Vec<FileIndex>,
}

impl Job for MergeFolder {
    const KIND: &'static str = "merge-folder";
    const QUEUE: &'static str = "index";
    type Output = FolderIndex;
}

/// What is in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderIndex {
    pub files: u64,
    pub words: u64,
    pub lines: u64,
    pub longest_line: u64,
    /// Of the files' hashes, one after another.
    pub sha256: String,
}

impl FolderIndex {
    pub fn of(files: &[FileIndex]) -> Self {
        let mut hash = Sha256::new();
        for file in files {
            hash.update(&file.sha256);
        }
        Self {
            files: files.len() as u64,
            words: files.iter().map(|file| file.words).sum(),
            lines: files.iter().map(|file| file.lines).sum(),
            longest_line: files.iter().map(|file| file.longest_line).max().unwrap_or(0),
            sha256: hex(&hash.finalize()),
        }
    }
}

/// A small job of the steady trickle that shows when the cluster acknowledges and when not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pulse {
    pub number: u64,
}

impl Job for Pulse {
    const KIND: &'static str = "pulse";
    type Output = u64;
}

impl Pulse {
    pub fn answer(&self) -> u64 {
        self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_counted() {
        let index = FileIndex::of("one two\nthree  ärger\n\nx");
        assert_eq!((index.words, index.lines, index.longest_line), (5, 4, 12));
        assert_eq!(
            FileIndex::of("abc").sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(FileIndex::of("").longest_line, 0);
    }

    #[test]
    fn folders_add_up() {
        let files = [FileIndex::of("a b"), FileIndex::of("longer line\nz")];
        let folder = FolderIndex::of(&files);
        assert_eq!(
            (folder.files, folder.words, folder.lines, folder.longest_line),
            (2, 5, 3, 11)
        );
        let swapped = FolderIndex::of(&[files[1].clone(), files[0].clone()]);
        assert_ne!(folder.sha256, swapped.sha256, "the order matters");
    }
}

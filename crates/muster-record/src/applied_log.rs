//! What a node writes of its own applied log.
//!
//! One file for each life of a node's process, one line an entry, written before anybody is told of the entry: a line
//! may be cut off when the process is killed, but no entry that was answered is missing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::{Applied, Malformed};

/// Lives of one node that a directory has room for.
const LIVES_MAX: u32 = 1_000_000;

/// Appends applied entries to the file of one life of a node.
pub struct AppliedLog {
    node: u64,
    life: u32,
    /// `None` after a write failed: a gap must not look like the end.
    file: Mutex<Option<File>>,
}

impl AppliedLog {
    /// Begins a new file for a node in a directory, which is made if it is not there.
    pub fn create(dir: &Path, node: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for life in 1..LIVES_MAX {
            let file = OpenOptions::new()
                .append(true)
                .create_new(true)
                .open(path(dir, node, life));
            match file {
                Ok(file) => {
                    let file = Mutex::new(Some(file));
                    return Ok(Self { node, life, file });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("node {node} has had {LIVES_MAX} lives")))
    }

    /// The node.
    pub fn node(&self) -> u64 {
        self.node
    }

    /// Which life of its process this is, from 1.
    pub fn life(&self) -> u32 {
        self.life
    }

    /// Appends an entry. After a failure nothing is written any more.
    pub fn append(&self, applied: &Applied) -> io::Result<()> {
        let mut line = serde_json::to_vec(applied)?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = file.as_mut() else { return Ok(()) };
        // One call to the system, so that a kill cuts off at most the last line.
        let written = open.write_all(&line);
        if written.is_err() {
            *file = None;
        }
        written
    }
}

fn path(dir: &Path, node: u64, life: u32) -> PathBuf {
    dir.join(format!("applied-{node}-{life}.jsonl"))
}

/// Reads what the lives of one node wrote, one after the other. A line cut off at the end of a life is left out.
pub struct AppliedReader {
    dir: PathBuf,
    node: u64,
    life: u32,
    file: Option<BufReader<File>>,
    line: u64,
}

impl AppliedReader {
    /// All lives of a node in this directory; none if it wrote nothing.
    pub fn open(dir: &Path, node: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            node,
            life: 0,
            file: None,
            line: 0,
        }
    }

    fn next_entry(&mut self) -> Result<Option<Applied>, Malformed> {
        let malformed = |line, fault: String| Malformed { line, reason: fault };
        loop {
            let Some(file) = &mut self.file else {
                self.life += 1;
                self.line = 0;
                match File::open(path(&self.dir, self.node, self.life)) {
                    Ok(file) => self.file = Some(BufReader::with_capacity(1 << 18, file)),
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(malformed(0, error.to_string())),
                }
                continue;
            };
            let mut text = Vec::new();
            let read = file.read_until(b'\n', &mut text);
            read.map_err(|error| malformed(self.line, error.to_string()))?;
            if text.last() != Some(&b'\n') {
                self.file = None;
                continue;
            }
            self.line += 1;
            let entry = serde_json::from_slice(&text).map_err(|error| malformed(self.line, error.to_string()))?;
            return Ok(Some(entry));
        }
    }
}

impl Iterator for AppliedReader {
    type Item = Result<Applied, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> Applied {
        Applied {
            at: index,
            node: 2,
            life: 1,
            index,
            term: 1,
            digest: 0,
            now: 0,
            hash: index,
            effects: Vec::new(),
        }
    }

    #[test]
    fn lives_follow_each_other_and_a_cut_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("applied");
        for (life, indexes) in [(1, 1..4), (2, 3..5)] {
            let log = AppliedLog::create(&dir, 2).unwrap();
            assert_eq!((log.node(), log.life()), (2, life));
            for index in indexes {
                log.append(&entry(index)).unwrap();
            }
            let mut file = OpenOptions::new().append(true).open(path(&dir, 2, life)).unwrap();
            file.write_all(br#"{"at":9,"node":2,"#).unwrap();
        }
        AppliedLog::create(&dir, 1).unwrap();
        let read = |node| {
            let entries = AppliedReader::open(&dir, node);
            entries.map(|entry| entry.unwrap().index).collect::<Vec<_>>()
        };
        assert_eq!(read(2), [1, 2, 3, 3, 4]);
        assert!(read(1).is_empty() && read(7).is_empty());
    }

    #[test]
    fn a_line_that_is_no_entry_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let log = AppliedLog::create(dir.path(), 1).unwrap();
        log.append(&entry(1)).unwrap();
        std::fs::write(path(dir.path(), 1, 2), "{}\n").unwrap();
        let all: Vec<_> = AppliedReader::open(dir.path(), 1).take(2).collect();
        assert!(all[0].is_ok());
        assert_eq!(all[1].as_ref().unwrap_err().line, 1);
    }
}

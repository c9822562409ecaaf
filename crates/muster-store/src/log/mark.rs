//! The high-water mark: how far the log had been synced, and the number of the last vote.
//!
//! RocksDB drops a damaged end of its write-ahead log silently. A node that comes back without entries it acknowledged,
//! or without a vote it gave, could break the cluster's promises; the mark lets it notice.
//!
//! Two copies, in files of their own beside the database. What is written when:
//! - after every sync of the log, copy A is overwritten without a sync: survives a crash of the process at once and a
//!   power cut as soon as the kernel has written it (or with the next synced round);
//! - at most once per [`crate::StoreOptions::mark_interval`] while entries arrive, and once after the last of them, both
//!   copies are written and synced, A before B, so that one is whole at any moment;
//! - before a vote is answered and before a truncation (which lowers the mark) is written, the same at once.
//!
//! So: loss of any vote, and of any entry synced longer ago than the interval, is detected always; loss of a younger entry
//! is detected unless a power cut hits within the interval. A mark is never ahead of the log.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::record::{Link, Vote, seal, take, unseal};
use super::types::LogPosition;
use crate::{Error, Result, files};

const WHAT: &str = "high-water mark";
const VERSION: u8 = 1;
const SIZE: usize = 1 + 8 + 1 + 24 + 16 + 8 + 8 + 4;

/// What the mark says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Counts writes of the mark; the greater of two copies holds.
    pub sequence: u64,
    /// End of the log as it was synced.
    pub end: Option<Link>,
    /// Number of the last vote; 0 = none.
    pub vote: u64,
    /// Its hash.
    pub vote_hash: u64,
}

impl Mark {
    pub fn encode(&self) -> Vec<u8> {
        let none = Link {
            position: LogPosition {
                term: 0,
                node: 0,
                index: 0,
            },
            hash: 0,
        };
        let end = self.end.unwrap_or(none);
        let mut out = vec![VERSION];
        out.extend(self.sequence.to_le_bytes());
        out.push(u8::from(self.end.is_some()));
        out.extend(end.position.term.to_le_bytes());
        out.extend(end.position.node.to_le_bytes());
        out.extend(end.position.index.to_le_bytes());
        out.extend(end.hash.to_le_bytes());
        out.extend(self.vote.to_le_bytes());
        out.extend(self.vote_hash.to_le_bytes());
        seal(out)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut rest = unseal(WHAT, bytes)?;
        let mut parts = || {
            let sequence = u64::from_le_bytes(take(&mut rest)?);
            let [some] = take(&mut rest)?;
            let term = u64::from_le_bytes(take(&mut rest)?);
            let node = u64::from_le_bytes(take(&mut rest)?);
            let index = u64::from_le_bytes(take(&mut rest)?);
            let hash = u128::from_le_bytes(take(&mut rest)?);
            let vote = u64::from_le_bytes(take(&mut rest)?);
            let vote_hash = u64::from_le_bytes(take(&mut rest)?);
            let position = LogPosition { term, node, index };
            Some(Self {
                sequence,
                end: (some == 1).then_some(Link { position, hash }),
                vote,
                vote_hash,
            })
        };
        parts().ok_or_else(|| Error::damaged(WHAT, format!("it has {} bytes", bytes.len())))
    }

    /// Checks a vote read from the log's database against the mark.
    pub fn check_vote(&self, vote: Option<&Vote>) -> Result<()> {
        let found = vote.map_or(0, |vote| vote.number);
        if found < self.vote {
            return Err(Error::VoteBelowMark {
                found,
                expected: self.vote,
            });
        }
        // A number above the mark's is a vote whose answer was never given: the crash came between the two writes.
        if found == self.vote && vote.is_some_and(|vote| vote.hash() != self.vote_hash) {
            return Err(Error::damaged("vote", "it differs from the one that was synced"));
        }
        Ok(())
    }
}

/// The two files.
#[derive(Debug)]
pub(super) struct MarkFiles {
    a: File,
    b: File,
}

impl MarkFiles {
    /// Opens or makes both and reads the mark in force; `None` when the files are new.
    pub fn open(dir: &Path) -> Result<(Self, Option<Mark>)> {
        let (a, bytes_a) = open(&dir.join("mark-a"))?;
        let (b, bytes_b) = open(&dir.join("mark-b"))?;
        files::sync_dir(dir)?;
        let copies: Vec<_> = [bytes_a, bytes_b]
            .into_iter()
            .filter(|bytes| !bytes.is_empty())
            .collect();
        let mut newest: Option<Mark> = None;
        let mut damage = None;
        for copy in &copies {
            match Mark::decode(copy) {
                Ok(mark) if newest.is_none_or(|newest| newest.sequence < mark.sequence) => newest = Some(mark),
                Ok(_) => {}
                Err(err @ Error::UnknownVersion { .. }) => return Err(err),
                Err(err) => damage = Some(err),
            }
        }
        match (newest, damage) {
            (None, Some(damage)) => Err(damage),
            (newest, _) => Ok((Self { a, b }, newest)),
        }
    }

    /// Overwrites copy A without a sync.
    pub fn note(&self, mark: &Mark) -> Result<()> {
        self.a
            .write_all_at(&mark.encode(), 0)
            .map_err(Error::io("writing the high-water mark"))
    }

    /// Writes and syncs both copies.
    pub fn sync(&self, mark: &Mark) -> Result<()> {
        let bytes = mark.encode();
        for file in [&self.a, &self.b] {
            file.write_all_at(&bytes, 0)
                .and_then(|()| file.sync_data())
                .map_err(Error::io("syncing the high-water mark"))?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<(File, Vec<u8>)> {
    let doing = || format!("opening {}", path.display());
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(Error::io(doing()))?;
    let mut bytes = vec![0; SIZE];
    let mut filled = 0;
    while filled < SIZE {
        match file
            .read_at(&mut bytes[filled..], filled as u64)
            .map_err(Error::io(doing()))?
        {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(sequence: u64) -> Mark {
        let position = LogPosition {
            term: 2,
            node: 1,
            index: 7 + sequence,
        };
        Mark {
            sequence,
            end: Some(Link { position, hash: 99 }),
            vote: 3,
            vote_hash: 4,
        }
    }

    #[test]
    fn survives_the_damage_of_one_copy() {
        for damaged in ["mark-a", "mark-b"] {
            for at in 0..SIZE {
                let dir = tempfile::tempdir().unwrap();
                let (files, found) = MarkFiles::open(dir.path()).unwrap();
                assert_eq!(found, None);
                files.sync(&mark(5)).unwrap();
                let path = dir.path().join(damaged);
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[at] ^= 1;
                std::fs::write(&path, &bytes).unwrap();
                let found = MarkFiles::open(dir.path()).unwrap().1;
                assert_eq!(found, Some(mark(5)), "{damaged} at {at}");
            }
        }
    }

    #[test]
    fn two_damaged_copies_are_an_error_and_the_newer_of_two_holds() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = MarkFiles::open(dir.path()).unwrap();
        files.sync(&mark(5)).unwrap();
        files.note(&mark(6)).unwrap();
        assert_eq!(MarkFiles::open(dir.path()).unwrap().1, Some(mark(6)));
        for name in ["mark-a", "mark-b"] {
            let path = dir.path().join(name);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..SIZE - 1]).unwrap();
        }
        assert!(matches!(MarkFiles::open(dir.path()), Err(Error::Damaged { .. })));
    }
}

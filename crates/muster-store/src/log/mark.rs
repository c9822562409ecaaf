//! The high-water mark: who the directory belongs to, how far the log had been synced, and the last vote.
//!
//! RocksDB drops a damaged end of its write-ahead log silently. A node that comes back without entries it acknowledged,
//! or without a vote it gave, could break the cluster's promises; the mark lets it notice. The vote itself stands in the
//! mark, so that a node whose log is lost still knows how it voted and may be refilled by its peers.
//!
//! Two copies, in files of their own beside the database. What is written when:
//! - after every sync of the log, copy A is overwritten without a sync: survives a crash of the process at once and a
//!   power cut as soon as the kernel has written it (or with the next synced round);
//! - at most once per [`crate::StoreOptions::mark_interval`] while entries arrive, and once after the last of them, both
//!   copies are written and synced, A before B, so that one is whole at any moment;
//! - before a vote is answered, before a truncation (which lowers the mark) is written, and for every step of a refill,
//!   the same at once.
//!
//! So: loss of any vote, and of any entry synced longer ago than the interval, is detected always; loss of a younger entry
//! is detected unless a power cut hits within the interval. A mark is never ahead of the log.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use muster_failpoint::failpoint;

use super::record::{Link, VOTE_BYTES_MAX, Vote, seal, take, unseal};
use super::types::LogPosition;
use crate::{Error, Result, files};

const WHAT: &str = "high-water mark";
const VERSION: u8 = 1;
const SIZE: usize = 1 + 8 + (16 + 8 + 16 + 16) + 4 + 1 + 1 + (24 + 16) + (8 + 1 + VOTE_BYTES_MAX) + 4;

/// The node of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub cluster: u128,
    pub node: u64,
    /// The cluster that this one took the place of.
    pub predecessor: Option<u128>,
    /// Random number of the directory of a node that joined with a token; 0: one of the first nodes.
    pub instance: u128,
}

/// Whether the data is being got anew from the other nodes. As long as it is, the node must not vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Refill {
    /// No: the data is this node's own.
    #[default]
    No = 0,
    /// The old data is being put aside.
    Emptying = 1,
    /// New data arrives.
    Filling = 2,
}

/// What the mark says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Counts writes of the mark; the greater of two copies holds.
    pub sequence: u64,
    /// `None` until the directory was bound to a node.
    pub owner: Option<Owner>,
    /// Highest feature level of which there is data here: a program that does not understand it must not even look.
    pub level: u32,
    pub refill: Refill,
    /// End of the log as it was synced.
    pub end: Option<Link>,
    /// The last vote.
    pub vote: Option<Vote>,
}

impl Mark {
    pub fn encode(&self) -> Vec<u8> {
        let owner = self.owner.unwrap_or(Owner {
            cluster: 0,
            node: 0,
            predecessor: None,
            instance: 0,
        });
        let mut out = vec![VERSION];
        out.extend(self.sequence.to_le_bytes());
        // A cluster's id is never 0.
        out.extend(owner.cluster.to_le_bytes());
        out.extend(owner.node.to_le_bytes());
        out.extend(owner.predecessor.unwrap_or(0).to_le_bytes());
        out.extend(owner.instance.to_le_bytes());
        out.extend(self.level.to_le_bytes());
        out.push(self.refill as u8);
        out.push(u8::from(self.end.is_some()));
        let none = LogPosition {
            term: 0,
            node: 0,
            index: 0,
        };
        let (position, hash) = self.end.map_or((none, 0), |end| (end.position, end.hash));
        out.extend(position.term.to_le_bytes());
        out.extend(position.node.to_le_bytes());
        out.extend(position.index.to_le_bytes());
        out.extend(hash.to_le_bytes());
        let (number, data) = self
            .vote
            .as_ref()
            .map_or((0, Bytes::new()), |vote| (vote.number, vote.data.clone()));
        let mut padded = [0; VOTE_BYTES_MAX];
        padded[..data.len()].copy_from_slice(&data);
        out.extend(number.to_le_bytes());
        out.push(data.len() as u8);
        out.extend(padded);
        seal(out)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut rest = unseal(WHAT, bytes)?;
        let mut parts = || {
            let sequence = u64::from_le_bytes(take(&mut rest)?);
            let cluster = u128::from_le_bytes(take(&mut rest)?);
            let node = u64::from_le_bytes(take(&mut rest)?);
            let predecessor = u128::from_le_bytes(take(&mut rest)?);
            let instance = u128::from_le_bytes(take(&mut rest)?);
            let level = u32::from_le_bytes(take(&mut rest)?);
            let [refill, some] = take(&mut rest)?;
            let refill = match refill {
                0 => Refill::No,
                1 => Refill::Emptying,
                2 => Refill::Filling,
                _ => return None,
            };
            let term = u64::from_le_bytes(take(&mut rest)?);
            let leader = u64::from_le_bytes(take(&mut rest)?);
            let index = u64::from_le_bytes(take(&mut rest)?);
            let hash = u128::from_le_bytes(take(&mut rest)?);
            let number = u64::from_le_bytes(take(&mut rest)?);
            let [length] = take(&mut rest)?;
            let padded: [u8; VOTE_BYTES_MAX] = take(&mut rest)?;
            let data = Bytes::copy_from_slice(padded.get(..usize::from(length))?);
            let position = LogPosition {
                term,
                node: leader,
                index,
            };
            rest.is_empty().then_some(Self {
                sequence,
                owner: (cluster != 0).then_some(Owner {
                    cluster,
                    node,
                    predecessor: (predecessor != 0).then_some(predecessor),
                    instance,
                }),
                level,
                refill,
                end: (some == 1).then_some(Link { position, hash }),
                vote: (number > 0).then_some(Vote { number, data }),
            })
        };
        parts().ok_or_else(|| Error::damaged(WHAT, format!("it has {} bytes of no known meaning", bytes.len())))
    }

    /// Checks a vote read from the log's database against the mark.
    pub fn check_vote(&self, found: Option<&Vote>) -> Result<()> {
        let Some(expected) = &self.vote else { return Ok(()) };
        let number = found.map_or(0, |vote| vote.number);
        if number < expected.number {
            return Err(Error::VoteBelowMark {
                found: number,
                expected: expected.number,
            });
        }
        // A number above the mark's is a vote whose answer was never given: the crash came between the two writes.
        if number == expected.number && found != Some(expected) {
            return Err(Error::damaged("vote", "it differs from the one that was synced"));
        }
        Ok(())
    }
}

/// The two files.
#[derive(Debug)]
pub(crate) struct MarkFiles {
    a: File,
    b: File,
}

impl MarkFiles {
    /// Opens or makes both and reads the mark in force; `None` when both files are new or empty.
    pub fn open(dir: &Path) -> Result<(Self, Option<Mark>)> {
        let (a, bytes_a) = open(&dir.join("mark-a"))?;
        let (b, bytes_b) = open(&dir.join("mark-b"))?;
        files::sync_dir(dir)?;
        let mark = choose([bytes_a, bytes_b])?;
        Ok((Self { a, b }, mark))
    }

    /// Reads the mark in force and changes nothing.
    pub fn look(dir: &Path) -> Result<Option<Mark>> {
        let read = |name| Ok(files::read_small(&dir.join(name))?.unwrap_or_default());
        choose([read("mark-a")?, read("mark-b")?])
    }

    /// Names of copies that are there and cannot be read.
    pub fn damaged_copies(dir: &Path) -> Result<Vec<&'static str>> {
        let mut damaged = Vec::new();
        for name in ["mark-a", "mark-b"] {
            let bytes = files::read_small(&dir.join(name))?.unwrap_or_default();
            if Mark::decode(&bytes).is_err() {
                damaged.push(name);
            }
        }
        Ok(damaged)
    }

    /// Overwrites copy A without a sync.
    pub fn note(&self, mark: &Mark) -> Result<()> {
        failpoint!("mark.note.before_write", Error::injected);
        self.a
            .write_all_at(&mark.encode(), 0)
            .map_err(Error::io("writing the high-water mark"))
    }

    /// Writes and syncs both copies.
    pub fn sync(&self, mark: &Mark) -> Result<()> {
        let bytes = mark.encode();
        failpoint!("mark.sync.before_write", Error::injected);
        for file in [&self.a, &self.b] {
            file.write_all_at(&bytes, 0)
                .and_then(|()| file.sync_data())
                .map_err(Error::io("syncing the high-water mark"))?;
            failpoint!("mark.sync.after_copy", Error::injected);
        }
        Ok(())
    }
}

/// The newer of two copies; one that is damaged is made good with the next write.
fn choose(copies: [Vec<u8>; 2]) -> Result<Option<Mark>> {
    let mut newest: Option<Mark> = None;
    let mut damage = None;
    for copy in copies.iter().filter(|copy| !copy.is_empty()) {
        match Mark::decode(copy) {
            Ok(mark) if newest.as_ref().is_none_or(|newest| newest.sequence < mark.sequence) => newest = Some(mark),
            Ok(_) => {}
            // Its checksum is right, so a newer program wrote it.
            Err(Error::UnknownVersion { found, newest, .. }) => {
                return Err(Error::NewerFormat {
                    found: found.into(),
                    newest: newest.into(),
                });
            }
            Err(error) => damage = Some(error),
        }
    }
    match (newest, damage) {
        (None, Some(damage)) => Err(Error::MarkLost {
            detail: damage.to_string(),
        }),
        (newest, _) => Ok(newest),
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
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            // A copy on a bad sector is a damaged copy.
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "a copy of the high-water mark cannot be read");
                return Ok((file, vec![0; SIZE]));
            }
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
            owner: Some(Owner {
                cluster: 77,
                node: 3,
                predecessor: Some(76),
                instance: 0xfeed,
            }),
            level: 6,
            refill: Refill::Filling,
            end: Some(Link { position, hash: 99 }),
            vote: Some(Vote {
                number: 3,
                data: Bytes::from_static(b"for node 2"),
            }),
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
                assert_eq!(bytes.len(), SIZE);
                bytes[at] ^= 1;
                std::fs::write(&path, &bytes).unwrap();
                let found = MarkFiles::open(dir.path()).unwrap().1;
                assert_eq!(found, Some(mark(5)), "{damaged} at {at}");
                assert_eq!(MarkFiles::look(dir.path()).unwrap(), Some(mark(5)));
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
        assert!(matches!(MarkFiles::open(dir.path()), Err(Error::MarkLost { .. })));
    }

    #[test]
    fn what_is_not_set_comes_back_unset() {
        let mark = Mark::default();
        assert_eq!(Mark::decode(&mark.encode()).unwrap(), mark);
    }
}

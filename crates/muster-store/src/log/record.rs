//! Bytes of log entries: a hash chain.
//!
//! Key: `e`, index (big endian). Value, little endian: version, kind, term, node, hash of the predecessor, own hash,
//! data. The own hash is XXH3-128 over all of the header before it, the index, and the XXH3-128 of the data. So it is
//! checksum and chain in one: an entry alone shows damage of its bytes, two neighbours show whether one follows the
//! other. It is meant against damage, not against forgery.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::types::{EntryKind, LogEntry, LogPosition};
use crate::{Error, Result};

const VERSION: u8 = 1;
pub(super) const HEADER: usize = 1 + 1 + 8 + 8 + 16 + 16;
const WHAT: &str = "log entry";

pub(super) const KEY_SIZE: usize = 9;
const ENTRY_TAG: u8 = b'e';
/// Position and hash up to which the log was purged.
pub(super) const PURGED_KEY: &[u8] = b"p";
/// The vote.
pub(super) const VOTE_KEY: &[u8] = b"v";

/// End of a stretch of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub position: LogPosition,
    pub hash: u128,
}

/// An entry with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub entry: LogEntry,
    /// Hash of the entry before; 0 for the first of all.
    pub previous: u128,
    pub hash: u128,
}

impl Record {
    /// Chains an entry to its predecessor.
    pub fn new(entry: LogEntry, previous: u128) -> Self {
        let hash = hash(&entry.position, entry.kind, previous, &entry.data);
        Self { entry, previous, hash }
    }

    pub fn link(&self) -> Link {
        Link {
            position: self.entry.position,
            hash: self.hash,
        }
    }

    /// Size as stored, without the key.
    pub fn size(&self) -> usize {
        HEADER + self.entry.data.len()
    }

    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.clear();
        out.reserve(self.size());
        out.extend([VERSION, self.entry.kind as u8]);
        out.extend(self.entry.position.term.to_le_bytes());
        out.extend(self.entry.position.node.to_le_bytes());
        out.extend(self.previous.to_le_bytes());
        out.extend(self.hash.to_le_bytes());
        out.extend_from_slice(&self.entry.data);
    }

    /// Decodes and verifies the entry's own hash.
    pub fn decode(index: u64, bytes: &[u8]) -> Result<Self> {
        let damaged = |detail: String| Error::LogDamaged { index, detail };
        let mut rest = bytes;
        let [version] = take(&mut rest).ok_or_else(|| damaged("it is empty".into()))?;
        if version != VERSION {
            return Err(Error::UnknownVersion {
                what: WHAT,
                found: version,
                newest: VERSION,
            });
        }
        let mut header = || {
            let [kind] = take(&mut rest)?;
            let term = u64::from_le_bytes(take(&mut rest)?);
            let node = u64::from_le_bytes(take(&mut rest)?);
            let previous = u128::from_le_bytes(take(&mut rest)?);
            let hash = u128::from_le_bytes(take(&mut rest)?);
            Some((kind, LogPosition { term, node, index }, previous, hash))
        };
        let (kind, position, previous, stored) =
            header().ok_or_else(|| damaged(format!("it has {} bytes, fewer than a header", bytes.len())))?;
        let kind = EntryKind::from_byte(kind).ok_or_else(|| damaged(format!("kind {kind} is not known")))?;
        if hash(&position, kind, previous, rest) != stored {
            return Err(damaged("its hash does not fit its bytes".into()));
        }
        let data = Bytes::copy_from_slice(rest);
        Ok(Self {
            entry: LogEntry { position, kind, data },
            previous,
            hash: stored,
        })
    }

    /// Checks that this entry follows another.
    pub fn check_follows(&self, before: &Link) -> Result<()> {
        let index = self.entry.position.index;
        if index != before.position.index + 1 {
            return Err(Error::LogDamaged {
                index: before.position.index + 1,
                detail: format!("it is missing; entry {index} comes next"),
            });
        }
        if self.previous != before.hash {
            return Err(Error::LogDamaged {
                index,
                detail: "it does not follow the entry before it".into(),
            });
        }
        Ok(())
    }
}

fn hash(position: &LogPosition, kind: EntryKind, previous: u128, data: &[u8]) -> u128 {
    let mut header = [0; 1 + 1 + 8 + 8 + 8 + 16 + 16];
    header[0] = VERSION;
    header[1] = kind as u8;
    header[2..10].copy_from_slice(&position.index.to_le_bytes());
    header[10..18].copy_from_slice(&position.term.to_le_bytes());
    header[18..26].copy_from_slice(&position.node.to_le_bytes());
    header[26..42].copy_from_slice(&previous.to_le_bytes());
    header[42..58].copy_from_slice(&xxh3_128(data).to_le_bytes());
    xxh3_128(&header)
}

/// Where the chain begins anew after everything was purged: above a snapshot whose entries this node never had.
pub(super) fn begin_at(position: LogPosition) -> Link {
    Link {
        position,
        hash: hash(&position, EntryKind::Blank, 0, b"snapshot"),
    }
}

pub(super) fn entry_key(index: u64) -> [u8; KEY_SIZE] {
    let mut key = [ENTRY_TAG; KEY_SIZE];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Index of an entry's key; `None` for other keys.
pub(super) fn entry_index(key: &[u8]) -> Option<u64> {
    let (tag, index) = key.split_first()?;
    let index = index.try_into().ok()?;
    (*tag == ENTRY_TAG).then(|| u64::from_be_bytes(index))
}

pub(super) fn encode_link(link: &Link) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend(link.position.term.to_le_bytes());
    out.extend(link.position.node.to_le_bytes());
    out.extend(link.position.index.to_le_bytes());
    out.extend(link.hash.to_le_bytes());
    seal(out)
}

pub(super) fn decode_link(bytes: &[u8]) -> Result<Link> {
    const WHAT: &str = "purge position of the log";
    let mut rest = unseal(WHAT, bytes)?;
    let mut parts = || {
        let term = u64::from_le_bytes(take(&mut rest)?);
        let node = u64::from_le_bytes(take(&mut rest)?);
        let index = u64::from_le_bytes(take(&mut rest)?);
        let hash = u128::from_le_bytes(take(&mut rest)?);
        let position = LogPosition { term, node, index };
        rest.is_empty().then_some(Link { position, hash })
    };
    parts().ok_or_else(|| Error::damaged(WHAT, format!("it has {} bytes", bytes.len())))
}

/// Most bytes of a vote: it stands in the mark as well, which is of one size.
pub(super) const VOTE_BYTES_MAX: usize = 64;

/// The vote as stored: opaque, numbered so that a lost one is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vote {
    /// Counts votes saved, from 1.
    pub number: u64,
    pub data: Bytes,
}

impl Vote {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend(self.number.to_le_bytes());
        out.extend_from_slice(&self.data);
        seal(out)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "vote";
        let mut rest = unseal(WHAT, bytes)?;
        let number = take(&mut rest).ok_or_else(|| Error::damaged(WHAT, format!("it has {} bytes", bytes.len())))?;
        Ok(Self {
            number: u64::from_le_bytes(number),
            data: Bytes::copy_from_slice(rest),
        })
    }
}

/// Appends a CRC-32 of all the bytes.
pub(super) fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&out);
    out.extend(crc.to_le_bytes());
    out
}

/// The bytes between version and CRC.
pub(super) fn unseal<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let (body, crc) = bytes
        .split_last_chunk::<4>()
        .ok_or_else(|| Error::damaged(what, format!("it has {} bytes", bytes.len())))?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(Error::damaged(what, "its checksum does not fit its bytes"));
    }
    match body.split_first() {
        Some((&VERSION, rest)) => Ok(rest),
        Some((&found, _)) => Err(Error::UnknownVersion {
            what,
            found,
            newest: VERSION,
        }),
        None => Err(Error::damaged(what, "it is empty")),
    }
}

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

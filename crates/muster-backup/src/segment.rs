//! A stretch of the archived log as one object.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use muster_core::LogIndex;
use muster_store::{EntryKind, LogEntry, LogPosition};
use serde::{Deserialize, Serialize};

use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::hex;
use crate::keys::{SigningKey, Trust};
use crate::manifest::Position;
use crate::sealed::{self, FORMAT};

/// Bytes of a stretch before packing; bounds what a hostile one makes a reader allocate. A single entry may be 32 MiB.
const RAW_BYTES_MAX: usize = 96 << 20;
const LEVEL: i32 = 1;
/// Length, term, node, kind.
const ENTRY_HEAD: usize = 4 + 8 + 8 + 1;

/// What a stretch says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentHead {
    pub format: u32,
    #[serde(with = "hex::id")]
    pub cluster: u128,
    /// First and last entry.
    pub first: Position,
    pub last: Position,
    /// Replicated time before the first entry and after the last.
    pub from_ms: u64,
    pub to_ms: u64,
    /// Values of the chain before the first entry and after the last.
    #[serde(with = "hex::digest")]
    pub chain_before: [u8; 32],
    #[serde(with = "hex::digest")]
    pub chain_after: [u8; 32],
    /// The archive begins here, or begins anew after a gap.
    pub begins: bool,
    /// The node that archived it, and when by its clock.
    pub node: u64,
    pub created: Timestamp,
    /// Length of the entries, and of their packed form.
    pub raw_bytes: u64,
    pub packed_bytes: u64,
    /// Of the packed form.
    #[serde(with = "hex::digest")]
    pub blake3: [u8; 32],
}

/// Where an archive goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArchiveEnd {
    /// The next entry to be archived.
    pub next: LogIndex,
    /// The last one that was.
    pub last: Option<Position>,
    pub chain: Chain,
    /// Replicated time up to there.
    pub time_ms: u64,
}

impl ArchiveEnd {
    /// A new archive, or one that begins anew after a gap.
    pub(crate) fn beginning(cluster: u128, next: LogIndex) -> Self {
        Self {
            next,
            last: None,
            chain: Chain::begin(cluster, next),
            time_ms: 0,
        }
    }

    pub(crate) fn after(head: &SegmentHead) -> Self {
        Self {
            next: head.last.index + 1,
            last: Some(head.last),
            chain: Chain(head.chain_after),
            time_ms: head.to_ms,
        }
    }
}

/// Packs entries that follow `end`. Returns the object and where the archive then ends.
pub(crate) fn encode(
    cluster: u128,
    node: u64,
    end: &ArchiveEnd,
    entries: &[LogEntry],
    key: Option<&SigningKey>,
) -> Result<(SegmentHead, Bytes)> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Err(Error::Invalid("a stretch of the log without entries".to_owned()));
    };
    let mut raw = BytesMut::new();
    let (mut chain, mut time) = (end.chain, end.time_ms);
    for entry in entries {
        chain = chain.next(entry);
        time = time.max(stamp(entry)?);
        raw.put_u32_le(entry.data.len() as u32);
        raw.put_u64_le(entry.position.term);
        raw.put_u64_le(entry.position.node);
        raw.put_u8(entry.kind as u8);
        raw.put_slice(&entry.data);
    }
    let packed = zstd::bulk::compress(&raw, LEVEL).map_err(Error::io("packing a stretch of the log"))?;
    let head = SegmentHead {
        format: FORMAT,
        cluster,
        first: first.position.into(),
        last: last.position.into(),
        from_ms: end.time_ms,
        to_ms: time,
        chain_before: end.chain.0,
        chain_after: chain.0,
        begins: end.last.is_none(),
        node,
        created: Timestamp::now(),
        raw_bytes: raw.len() as u64,
        packed_bytes: packed.len() as u64,
        blake3: *blake3::hash(&packed).as_bytes(),
    };
    let object = sealed::seal(&head, key, &packed)?;
    Ok((head, object))
}

/// The time that an entry brings.
pub(crate) fn stamp(entry: &LogEntry) -> Result<u64> {
    match entry.kind {
        EntryKind::Commands => muster_store::codec::batch_stamp(&entry.data)
            .map_err(Error::store(format!("log entry {}", entry.position.index))),
        EntryKind::Blank | EntryKind::Membership => Ok(0),
    }
}

/// Reads what a stretch says of itself, without its entries.
pub(crate) fn head(object: &str, bytes: &Bytes, cluster: u128, trust: &Trust) -> Result<(SegmentHead, Bytes)> {
    let opened = sealed::open::<SegmentHead>(object, bytes, trust)?;
    if opened.document.cluster != cluster {
        return Err(Error::Foreign {
            object: object.to_owned(),
            found: opened.document.cluster,
            expected: cluster,
        });
    }
    Ok((opened.document, opened.rest))
}

/// Reads a stretch and proves that its entries are those that were archived.
pub(crate) fn decode(
    object: &str,
    bytes: &Bytes,
    cluster: u128,
    trust: &Trust,
) -> Result<(SegmentHead, Vec<LogEntry>)> {
    let (head, packed) = head(object, bytes, cluster, trust)?;
    let wrong = |reason: &str| Error::tampered(object, reason);
    if packed.len() as u64 != head.packed_bytes || blake3::hash(&packed).as_bytes() != &head.blake3 {
        return Err(wrong("its entries are not those that its head names"));
    }
    let size = usize::try_from(head.raw_bytes)
        .ok()
        .filter(|size| *size <= RAW_BYTES_MAX);
    let size = size.ok_or_else(|| wrong("it is larger than any that is written"))?;
    let raw =
        zstd::bulk::decompress(&packed, size).map_err(|error| wrong(&format!("it cannot be unpacked: {error}")))?;
    let mut raw = Bytes::from(raw);
    let mut entries = Vec::new();
    let mut chain = Chain(head.chain_before);
    let mut index = head.first.index;
    while raw.has_remaining() {
        if raw.remaining() < ENTRY_HEAD {
            return Err(wrong("its last entry is cut off"));
        }
        let length = raw.get_u32_le() as usize;
        let (term, node) = (raw.get_u64_le(), raw.get_u64_le());
        let kind = EntryKind::from_byte(raw.get_u8()).ok_or_else(|| wrong("an entry is of an unknown kind"))?;
        if raw.remaining() < length {
            return Err(wrong("its last entry is cut off"));
        }
        let entry = LogEntry {
            position: LogPosition { term, node, index },
            kind,
            data: raw.split_to(length),
        };
        chain = chain.next(&entry);
        entries.push(entry);
        index += 1;
    }
    let ends = entries.first().zip(entries.last());
    let ends = ends.map(|(first, last)| (Position::from(first.position), Position::from(last.position)));
    if ends != Some((head.first, head.last)) || chain.0 != head.chain_after {
        return Err(wrong("its entries do not make the chain that its head names"));
    }
    Ok((head, entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn entry(index: u64, text: &str) -> LogEntry {
        LogEntry {
            position: LogPosition {
                term: 2,
                node: 1,
                index,
            },
            kind: EntryKind::Membership,
            data: Bytes::copy_from_slice(text.as_bytes()),
        }
    }

    #[test]
    fn stretches_of_different_nodes_fit_together() {
        let all: Vec<_> = (5..25).map(|index| entry(index, &format!("entry {index}"))).collect();
        let begin = ArchiveEnd::beginning(7, 5);
        let (first, object) = encode(7, 1, &begin, &all[..10], None).unwrap();
        let (read, entries) = decode("a", &object, 7, &Trust::Unsigned).unwrap();
        assert_eq!((&read, &entries[..]), (&first, &all[..10]));
        assert!(first.begins);
        // Another node goes on from an earlier end, so they overlap.
        let (early, _) = encode(7, 2, &begin, &all[..4], None).unwrap();
        let (longer, _) = encode(7, 2, &ArchiveEnd::after(&early), &all[4..], None).unwrap();
        let (rest, _) = encode(7, 1, &ArchiveEnd::after(&first), &all[10..], None).unwrap();
        assert_eq!(longer.chain_after, rest.chain_after);
        assert!(!rest.begins && rest.chain_before == first.chain_after);
    }

    #[test]
    fn what_was_changed_is_noticed() {
        let entries = [entry(1, "one"), entry(2, "two")];
        let (head, object) = encode(7, 1, &ArchiveEnd::beginning(7, 1), &entries, None).unwrap();
        let check = |bytes: Bytes| decode("it", &bytes, 7, &Trust::Unsigned);
        assert!(matches!(
            decode("it", &object, 8, &Trust::Unsigned),
            Err(Error::Foreign { found: 7, .. })
        ));
        let body = object.len() - head.packed_bytes as usize;
        for at in body..object.len() {
            let mut changed = object.to_vec();
            changed[at] ^= 1;
            assert!(check(changed.into()).is_err(), "at {at}");
        }
        assert!(check(object.slice(..object.len() - 1)).is_err());
        // A head that was written anew around other entries, unsigned.
        let (other, _) = encode(
            7,
            1,
            &ArchiveEnd::beginning(7, 1),
            &[entry(1, "eno"), entry(2, "two")],
            None,
        )
        .unwrap();
        let packed = object.slice(body..);
        let forged = SegmentHead {
            chain_after: other.chain_after,
            ..head
        };
        let forged = sealed::seal(&forged, None, &packed).unwrap();
        assert!(check(forged).unwrap_err().to_string().contains("chain"));
    }
}

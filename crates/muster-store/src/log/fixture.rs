//! Bytes of the log's records for the fixtures.

use super::mark::{Owner, Refill};
use super::record::{Record, Vote, begin_at, decode_link, encode_link};
use super::*;

type Decode = fn(&[u8]) -> String;

/// Name, value, bytes and decoder of each kind of record.
pub(crate) fn all(entry: LogEntry) -> Vec<(&'static str, String, Vec<u8>, Decode)> {
    let link = begin_at(entry.position);
    let vote = Vote {
        number: 6,
        data: Bytes::from_static(b"vote"),
    };
    let mark = Mark {
        sequence: 8,
        owner: Some(Owner {
            cluster: 0xabcd,
            node: 2,
            predecessor: Some(0xabcc),
            instance: 0xfeed,
        }),
        level: 4,
        refill: Refill::Filling,
        end: Some(link),
        vote: Some(vote.clone()),
    };
    let record = Record::new(entry, 0x55);
    let mut bytes = Vec::new();
    record.encode_into(&mut bytes);
    vec![
        ("log-entry-1", format!("{record:?}"), bytes, |bytes| {
            format!("{:?}", Record::decode(17, bytes).unwrap())
        }),
        ("log-purged-1", format!("{link:?}"), encode_link(&link), |bytes| {
            format!("{:?}", decode_link(bytes).unwrap())
        }),
        ("log-vote-1", format!("{vote:?}"), vote.encode(), |bytes| {
            format!("{:?}", Vote::decode(bytes).unwrap())
        }),
        ("log-mark-1", format!("{mark:?}"), mark.encode(), |bytes| {
            format!("{:?}", Mark::decode(bytes).unwrap())
        }),
    ]
}

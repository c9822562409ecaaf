//! Targets for the fuzzer.

use super::mark::Mark;
use super::record::{Record, Vote, decode_link, encode_link, seal};
use crate::fuzz::again;

/// The first byte chooses a kind of record, and whether the rest is sealed with a checksum first, without which nothing
/// gets past the checksum.
pub(crate) fn records(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let sealed = seal(rest.to_vec());
    let input = if choice & 0x80 == 0 { rest } else { &sealed };
    match choice & 3 {
        0 => again(
            input,
            |bytes| Record::decode(17, bytes),
            |record| {
                let mut out = Vec::new();
                record.encode_into(&mut out);
                Ok(out)
            },
        ),
        1 => again(input, decode_link, |link| Ok(encode_link(link))),
        2 => again(input, Vote::decode, |vote| Ok(vote.encode())),
        _ => again(input, Mark::decode, |mark| Ok(mark.encode())),
    }
}

/// Good records, as they stand and without their checksums.
#[cfg(test)]
pub(crate) fn seeds(entry: super::LogEntry) -> impl Iterator<Item = Vec<u8>> {
    let kind = |name: &str| {
        ["log-entry-1", "log-purged-1", "log-vote-1"]
            .iter()
            .position(|of| *of == name)
    };
    super::fixture::all(entry)
        .into_iter()
        .flat_map(move |(name, _, bytes, _)| {
            let choice = kind(name).unwrap_or(3) as u8;
            let body = &bytes[..bytes.len() - 4];
            [[&[choice], &bytes[..]].concat(), [&[choice | 0x80], body].concat()]
        })
}

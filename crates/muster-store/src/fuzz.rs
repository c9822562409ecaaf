//! Targets for the fuzzer: whatever the bytes, a decoder gives a value or an error, and a value comes back the same.

#![allow(clippy::expect_used, reason = "a failure is what the fuzzer looks for")]

use std::fmt::Debug;

use crate::codec::{
    decode_batch, decode_job, decode_key, decode_meta, decode_replies, decode_row, encode_batch, encode_job,
    encode_key, encode_meta, encode_replies, encode_row,
};
use crate::{Result, identity, log, state};

/// A name, and what is to do no harm with any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[
    ("store-batch", |bytes| again(bytes, decode_batch, encode_batch)),
    ("store-row", |bytes| again(bytes, decode_row, encode_row)),
    ("store-job", |bytes| again(bytes, decode_job, encode_job)),
    ("store-key", |bytes| again(bytes, decode_key, |key| Ok(encode_key(key)))),
    ("store-replies", |bytes| {
        again(bytes, decode_replies, |replies| encode_replies(replies));
    }),
    ("store-checkpoint", |bytes| again(bytes, decode_meta, encode_meta)),
    ("store-identity", |bytes| {
        again(bytes, identity::decode, identity::encode);
    }),
    ("store-log", log::fuzz::records),
    ("store-snapshot", state::fuzz::snapshot),
];

/// A value that was decoded is encoded and decoded to the same.
pub(crate) fn again<T: PartialEq + Debug, B: AsRef<[u8]>>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T>,
    encode: impl Fn(&T) -> Result<B>,
) {
    let Ok(value) = decode(bytes) else { return };
    let encoded = encode(&value).expect("what was decoded can be encoded");
    let decoded = decode(encoded.as_ref()).expect("what was encoded can be decoded");
    assert_eq!(decoded, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Meta;
    use crate::samples;

    include!("../../../fuzz/replay.rs");

    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let batch = samples::batch();
        let mut seeds = vec![("store-batch", encode_batch(&batch).unwrap().to_vec())];
        for command in &batch.commands {
            let one = muster_core::Batch {
                stamped_at: 1,
                commands: vec![command.clone()],
            };
            seeds.push(("store-batch", encode_batch(&one).unwrap().to_vec()));
        }
        for (_, row) in samples::rows() {
            seeds.push(("store-row", encode_row(&row).unwrap()));
            seeds.push(("store-key", encode_key(&row.key())));
        }
        let job = samples::job(1, 60);
        seeds.push(("store-job", encode_job(&job).unwrap()));
        let enqueued = muster_core::Enqueued {
            job: muster_core::JobId(1),
            state: muster_core::JobState::Available,
            existed: true,
        };
        let replies = [
            muster_core::Reply::Done,
            muster_core::Reply::Enqueued(enqueued),
            muster_core::Reply::EnqueuedMany(vec![
                Ok(enqueued),
                Err(muster_core::Refusal::OtherItemRefused { item: 0 }),
            ]),
            muster_core::Reply::Reported(vec![muster_core::ReportReply::Repeated]),
        ];
        seeds.push(("store-replies", encode_replies(&replies).unwrap().to_vec()));
        let meta = Meta {
            applied: Some(samples::log_entry().position),
            membership: bytes::Bytes::from_static(b"voters"),
        };
        seeds.push(("store-checkpoint", encode_meta(&meta).unwrap()));
        let identity = crate::Identity {
            cluster: 0xabcd,
            node: 2,
            format: crate::FORMAT,
            created: 7,
            predecessor: Some(0xabce),
            instance: 0xfeed,
        };
        seeds.push(("store-identity", identity::encode(&identity).unwrap()));
        seeds.extend(log::fuzz::seeds(samples::log_entry()).map(|seed| ("store-log", seed)));
        seeds.extend(state::fuzz::seeds(&meta).map(|seed| ("store-snapshot", seed)));
        seeds
    }
}

//! Replies to a batch, on their way from the leader to the node that forwarded it.

use bytes::Bytes;
use muster_core::Reply;

use crate::Result;
use crate::codec::value::{decode, encode_versioned, strip_version};

const WHAT: &str = "replies";
const VERSION: u8 = 1;

/// Encodes replies.
pub fn encode_replies(replies: &[Reply]) -> Result<Bytes> {
    encode_versioned(WHAT, VERSION, &replies).map(Bytes::from)
}

/// Decodes replies.
pub fn decode_replies(bytes: &[u8]) -> Result<Vec<Reply>> {
    decode(WHAT, strip_version(WHAT, VERSION, bytes)?)
}

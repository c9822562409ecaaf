//! What a checkpoint and a snapshot say of themselves.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::value::{decode, encode_versioned, strip_version};
use crate::{LogPosition, Result};

const WHAT: &str = "checkpoint position";
const VERSION: u8 = 1;

/// Position and membership of a saved state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub applied: Option<LogPosition>,
    pub membership: Bytes,
}

pub(crate) fn encode_meta(meta: &Meta) -> Result<Vec<u8>> {
    encode_versioned(WHAT, VERSION, meta)
}

pub(crate) fn decode_meta(bytes: &[u8]) -> Result<Meta> {
    decode(WHAT, strip_version(WHAT, VERSION, bytes)?)
}

//! Values of state rows.

use muster_core::Row;

use super::value::{decode, encode_versioned, strip_version};
use crate::Result;

const WHAT: &str = "state row";
const VERSION: u8 = 1;

/// Encodes a row of the state.
pub fn encode_row(row: &Row) -> Result<Vec<u8>> {
    encode_versioned(WHAT, VERSION, row)
}

/// Decodes a row of the state.
pub fn decode_row(bytes: &[u8]) -> Result<Row> {
    decode(WHAT, strip_version(WHAT, VERSION, bytes)?)
}

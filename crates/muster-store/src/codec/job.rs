//! Values of the history.

use muster_core::JobRow;

use super::value::{decode, encode_versioned, strip_version};
use crate::Result;

const WHAT: &str = "job row";
const VERSION: u8 = 1;

/// Encodes an ended job.
pub fn encode_job(row: &JobRow) -> Result<Vec<u8>> {
    encode_versioned(WHAT, VERSION, row)
}

/// Decodes an ended job.
pub fn decode_job(bytes: &[u8]) -> Result<JobRow> {
    decode(WHAT, strip_version(WHAT, VERSION, bytes)?)
}

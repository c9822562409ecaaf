//! A batch of commands: the data of a log entry.
//!
//! `version, packing, body`. Packing 0: the body is bincode. Packing 1: length of the bincode (u32, little endian),
//! then its LZ4 block.

use bytes::Bytes;
use muster_core::{Batch, Timestamp};

use super::value::{check_size, decode, decode_first, encode_into, strip_version};
use crate::{Error, Result};

/// Largest batch, before and after packing: 32 MiB. A batch is built far smaller than this.
pub const BATCH_BYTES_MAX: usize = 32 << 20;

const WHAT: &str = "batch of commands";
const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const LZ4: u8 = 1;
/// Below this size packing costs more than it saves.
const PACK_ABOVE: usize = 1024;
const HEADER: usize = 2;
const PACKED_HEADER: usize = HEADER + 4;

/// Encodes a batch once for log, peers and disk.
pub fn encode_batch(batch: &Batch) -> Result<Bytes> {
    let mut out = Vec::with_capacity(1024);
    out.extend([VERSION, PLAIN]);
    encode_into(WHAT, batch, &mut out)?;
    check_size(WHAT, out.len(), BATCH_BYTES_MAX)?;
    let body = &out[HEADER..];
    if body.len() > PACK_ABOVE {
        let mut packed = vec![0; PACKED_HEADER + lz4_flex::block::get_maximum_output_size(body.len())];
        let size = lz4_flex::block::compress_into(body, &mut packed[PACKED_HEADER..])
            .map_err(|err| Error::damaged(WHAT, format!("it cannot be packed: {err}")))?;
        if PACKED_HEADER + size < out.len() {
            packed[..HEADER].copy_from_slice(&[VERSION, LZ4]);
            packed[HEADER..PACKED_HEADER].copy_from_slice(&(body.len() as u32).to_le_bytes());
            packed.truncate(PACKED_HEADER + size);
            return Ok(fitted(packed));
        }
    }
    Ok(fitted(out))
}

/// Gives back the room that was not needed: the log's tail keeps these bytes for long, and counts only those that are used.
fn fitted(mut bytes: Vec<u8>) -> Bytes {
    bytes.shrink_to_fit();
    bytes.into()
}

/// Decodes a batch. Hostile bytes give an error and allocate no more than a few times [`BATCH_BYTES_MAX`].
pub fn decode_batch(bytes: &[u8]) -> Result<Batch> {
    check_size(WHAT, bytes.len(), BATCH_BYTES_MAX)?;
    let rest = strip_version(WHAT, VERSION, bytes)?;
    match rest.split_first() {
        Some((&PLAIN, body)) => decode(WHAT, body),
        Some((&LZ4, packed)) => decode(WHAT, &unpack(packed)?),
        Some((packing, _)) => Err(Error::damaged(WHAT, format!("packing {packing} is not known"))),
        None => Err(Error::damaged(WHAT, "it ends after its version")),
    }
}

/// The time stamp of an encoded batch, without decoding its commands.
pub fn batch_stamp(bytes: &[u8]) -> Result<Timestamp> {
    check_size(WHAT, bytes.len(), BATCH_BYTES_MAX)?;
    let rest = strip_version(WHAT, VERSION, bytes)?;
    // The stamp is the first field of a batch.
    match rest.split_first() {
        Some((&PLAIN, body)) => decode_first(WHAT, body),
        Some((&LZ4, packed)) => decode_first(WHAT, &unpack(packed)?),
        Some((packing, _)) => Err(Error::damaged(WHAT, format!("packing {packing} is not known"))),
        None => Err(Error::damaged(WHAT, "it ends after its version")),
    }
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let (size, block) = packed
        .split_first_chunk::<4>()
        .ok_or_else(|| Error::damaged(WHAT, "it ends before its size"))?;
    let size = u32::from_le_bytes(*size) as usize;
    check_size(WHAT, size, BATCH_BYTES_MAX)?;
    let body = lz4_flex::block::decompress(block, size)
        .map_err(|err| Error::damaged(WHAT, format!("it cannot be unpacked: {err}")))?;
    if body.len() != size {
        return Err(Error::damaged(
            WHAT,
            format!("it unpacks to {} bytes, not {size}", body.len()),
        ));
    }
    Ok(body)
}

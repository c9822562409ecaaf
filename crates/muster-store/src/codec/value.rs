//! Version byte and bincode: common to all stored values.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// No stored value is larger; also bounds what hostile bytes make the decoder allocate.
pub(super) const VALUE_BYTES_MAX: usize = 64 << 20;

fn config() -> Configuration<LittleEndian, Varint, Limit<VALUE_BYTES_MAX>> {
    bincode::config::standard().with_limit::<VALUE_BYTES_MAX>()
}

/// Appends the bincode of a value.
pub(super) fn encode_into<T: Serialize>(what: &'static str, value: &T, out: &mut Vec<u8>) -> Result<()> {
    bincode::serde::encode_into_std_write(value, out, config())
        .map(drop)
        .map_err(|err| Error::damaged(what, format!("it cannot be encoded: {err}")))
}

/// Decodes a value that takes all of the bytes.
pub(super) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|err| Error::damaged(what, format!("it cannot be decoded: {err}")))?;
    if used != bytes.len() {
        return Err(Error::damaged(
            what,
            format!("{} bytes follow its end", bytes.len() - used),
        ));
    }
    Ok(value)
}

/// Decodes a value that the bytes begin with.
pub(super) fn decode_first<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T> {
    bincode::serde::decode_from_slice(bytes, config())
        .map(|(value, _)| value)
        .map_err(|err| Error::damaged(what, format!("it cannot be decoded: {err}")))
}

/// A version byte and the bincode of a value.
pub(super) fn encode_versioned<T: Serialize>(what: &'static str, version: u8, value: &T) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(512);
    out.push(version);
    encode_into(what, value, &mut out)?;
    check_size(what, out.len(), VALUE_BYTES_MAX)?;
    Ok(out)
}

/// What follows the version byte, if that is the one version there is so far.
pub(super) fn strip_version<'a>(what: &'static str, version: u8, bytes: &'a [u8]) -> Result<&'a [u8]> {
    match bytes.split_first() {
        None => Err(Error::damaged(what, "it is empty")),
        Some((found, rest)) if *found == version => Ok(rest),
        Some((0, _)) => Err(Error::damaged(what, "its version byte is 0")),
        Some((found, _)) => Err(Error::UnknownVersion {
            what,
            found: *found,
            newest: version,
        }),
    }
}

pub(super) fn check_size(what: &'static str, size: usize, max: usize) -> Result<()> {
    if size > max {
        return Err(Error::TooLarge { what, size, max });
    }
    Ok(())
}

//! Keys of state rows: a tag byte, then the parts of the key, integers big endian, a name last and to the end.
//!
//! So keys order by kind of row, then as [`RowKey`] itself does.

use muster_core::{JobId, RowKey, SessionId, TenantId};

use crate::{Error, Result};

const WHAT: &str = "key of a state row";

const META: u8 = 1;
const TENANT: u8 = 2;
const QUEUE: u8 = 3;
const JOB: u8 = 4;
const SESSION: u8 = 5;
const ENDED: u8 = 6;
const KIND_COST: u8 = 7;

/// Encodes the key of a row.
pub fn encode_key(key: &RowKey) -> Vec<u8> {
    match key {
        RowKey::Meta => vec![META],
        RowKey::Tenant(id) => tagged(TENANT, &[&id.0.to_be_bytes()]),
        RowKey::Queue(id, queue) => tagged(QUEUE, &[&id.0.to_be_bytes(), queue.as_bytes()]),
        RowKey::Job(id) => tagged(JOB, &[&id.0.to_be_bytes()]),
        RowKey::Session(id) => tagged(SESSION, &[&id.0.to_be_bytes()]),
        RowKey::Ended(index) => tagged(ENDED, &[&index.to_be_bytes()]),
        RowKey::KindCost(id, kind) => tagged(KIND_COST, &[&id.0.to_be_bytes(), kind.as_bytes()]),
    }
}

/// Decodes the key of a row.
pub fn decode_key(bytes: &[u8]) -> Result<RowKey> {
    let (tag, rest) = bytes.split_first().ok_or_else(|| Error::damaged(WHAT, "it is empty"))?;
    match *tag {
        META if rest.is_empty() => Ok(RowKey::Meta),
        TENANT => Ok(RowKey::Tenant(TenantId(u64::from_be_bytes(exact(rest)?)))),
        QUEUE => named(rest).map(|(tenant, name)| RowKey::Queue(tenant, name.into())),
        JOB => Ok(RowKey::Job(JobId(u128::from_be_bytes(exact(rest)?)))),
        SESSION => Ok(RowKey::Session(SessionId(u128::from_be_bytes(exact(rest)?)))),
        ENDED => Ok(RowKey::Ended(u64::from_be_bytes(exact(rest)?))),
        KIND_COST => named(rest).map(|(tenant, name)| RowKey::KindCost(tenant, name.into())),
        _ => Err(Error::damaged(
            WHAT,
            format!("tag {tag} with {} bytes is not known", rest.len()),
        )),
    }
}

fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(tag);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes
        .try_into()
        .map_err(|_| Error::damaged(WHAT, format!("it has {} bytes where {N} are expected", bytes.len())))
}

fn named(bytes: &[u8]) -> Result<(TenantId, &str)> {
    let (id, name) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| Error::damaged(WHAT, "it ends within its tenant"))?;
    let name = std::str::from_utf8(name).map_err(|err| Error::damaged(WHAT, format!("its name is not text: {err}")))?;
    Ok((TenantId(u64::from_be_bytes(*id)), name))
}

//! Keys of state rows: a tag byte, then the parts of the key, integers big endian, a name last and to the end. A name
//! that is not last ends with a byte 0; a 0 within it is followed by 255, which is in no text.
//!
//! So keys order by kind of row, then as [`RowKey`] itself does.

use muster_core::{JobId, LimitLevel, LimitSelector, RowKey, SessionId, TenantId};

use crate::{Error, Result};

const WHAT: &str = "key of a state row";

const META: u8 = 1;
const TENANT: u8 = 2;
const QUEUE: u8 = 3;
const JOB: u8 = 4;
const SESSION: u8 = 5;
const ENDED: u8 = 6;
const KIND_COST: u8 = 7;
const LIMIT: u8 = 8;
const GATE: u8 = 9;
const ORDER: u8 = 10;
const FLEET: u8 = 11;
const NODE: u8 = 12;
const JOIN_TOKEN: u8 = 13;
const CHANGES: u8 = 14;
const REQUEST: u8 = 15;

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
        RowKey::Limit(selector) => {
            let level = [selector.level as u8];
            tagged(LIMIT, &[&level, &inner(&selector.tenants), selector.names.as_bytes()])
        }
        RowKey::Gate(level, id, name) => tagged(GATE, &[&[*level as u8], &id.0.to_be_bytes(), name.as_bytes()]),
        RowKey::Order(id, queue, key) => tagged(ORDER, &[&id.0.to_be_bytes(), &inner(queue), key.as_bytes()]),
        RowKey::Fleet(id) => tagged(FLEET, &[&id.to_be_bytes()]),
        RowKey::Node(node) => tagged(NODE, &[&node.to_be_bytes()]),
        RowKey::JoinToken(node, hash) => tagged(JOIN_TOKEN, &[&node.to_be_bytes(), hash]),
        RowKey::Changes => vec![CHANGES],
        RowKey::Request(index, position) => tagged(REQUEST, &[&index.to_be_bytes(), &position.to_be_bytes()]),
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
        LIMIT => {
            let (level, rest) = level(rest)?;
            let (tenants, rest) = split_inner(rest)?;
            Ok(RowKey::Limit(LimitSelector {
                level,
                tenants: tenants.into(),
                names: text(rest)?.into(),
            }))
        }
        GATE => {
            let (level, rest) = level(rest)?;
            named(rest).map(|(tenant, name)| RowKey::Gate(level, tenant, name.into()))
        }
        ORDER => {
            let (id, rest) = tenant(rest)?;
            let (queue, rest) = split_inner(rest)?;
            Ok(RowKey::Order(id, queue.into(), text(rest)?.into()))
        }
        FLEET => Ok(RowKey::Fleet(u64::from_be_bytes(exact(rest)?))),
        NODE => Ok(RowKey::Node(u64::from_be_bytes(exact(rest)?))),
        JOIN_TOKEN => {
            let (node, hash) = number(rest)?;
            Ok(RowKey::JoinToken(node, exact(hash)?))
        }
        CHANGES if rest.is_empty() => Ok(RowKey::Changes),
        REQUEST => {
            let (index, position) = number(rest)?;
            Ok(RowKey::Request(index, u32::from_be_bytes(exact(position)?)))
        }
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

/// An integer, and what follows it.
fn number(bytes: &[u8]) -> Result<(u64, &[u8])> {
    let (number, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| Error::damaged(WHAT, "it ends within its first number"))?;
    Ok((u64::from_be_bytes(*number), rest))
}

fn tenant(bytes: &[u8]) -> Result<(TenantId, &[u8])> {
    let (id, rest) = number(bytes)?;
    Ok((TenantId(id), rest))
}

fn named(bytes: &[u8]) -> Result<(TenantId, &str)> {
    let (tenant, name) = tenant(bytes)?;
    Ok((tenant, text(name)?))
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|err| Error::damaged(WHAT, format!("its name is not text: {err}")))
}

fn level(bytes: &[u8]) -> Result<(LimitLevel, &[u8])> {
    let (number, rest) = bytes
        .split_first()
        .ok_or_else(|| Error::damaged(WHAT, "it ends before its level"))?;
    let level = LimitLevel::ALL
        .get(usize::from(*number))
        .ok_or_else(|| Error::damaged(WHAT, format!("level {number} is not known")))?;
    Ok((*level, rest))
}

/// A name that is not the last part.
fn inner(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 1);
    for byte in name.bytes() {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(u8::MAX);
        }
    }
    bytes.push(0);
    bytes
}

/// The name at the beginning, and what follows it.
fn split_inner(bytes: &[u8]) -> Result<(String, &[u8])> {
    let mut name = Vec::new();
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        if *byte != 0 {
            name.push(*byte);
            continue;
        }
        if rest.as_slice().first() != Some(&u8::MAX) {
            return Ok((text(&name)?.to_owned(), rest.as_slice()));
        }
        rest.next();
        name.push(0);
    }
    Err(Error::damaged(WHAT, "it ends within its first name"))
}

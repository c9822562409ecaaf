//! Ended jobs: their keys and how they are looked up. Overlay first, then disk: a job moves only that way.

use std::sync::Arc;

use muster_core::{JobFilter, JobId, JobRow, TenantId};
use rocksdb::{DBRawIterator, ReadOptions, WriteBatch};

use super::generation::Generation;
use super::types::{HistoryCursor, KeyHolder};
use crate::codec::{decode_job, encode_job};
use crate::{Error, Result};

/// Tenant, inverted log index of the end, inverted sequence; big endian. So a tenant's jobs lie together, newest first.
pub(super) type HistoryKey = [u8; 24];

pub(super) fn history_key(row: &JobRow) -> HistoryKey {
    place(row.tenant, row.changed_index, row.sequence)
}

fn place(tenant: TenantId, ended_index: u64, sequence: u64) -> HistoryKey {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&tenant.0.to_be_bytes());
    key[8..16].copy_from_slice(&(!ended_index).to_be_bytes());
    key[16..].copy_from_slice(&(!sequence).to_be_bytes());
    key
}

fn cursor(key: &HistoryKey) -> HistoryCursor {
    let part = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&key[at..at + 8]);
        !u64::from_be_bytes(bytes)
    };
    HistoryCursor {
        ended_index: part(8),
        sequence: part(16),
    }
}

/// First and one-after-last key of a page: all of a tenant after the cursor.
pub(super) fn page_range(tenant: TenantId, page: Option<HistoryCursor>) -> (HistoryKey, HistoryKey) {
    let mut from = [0; 24];
    from[..8].copy_from_slice(&tenant.0.to_be_bytes());
    if let Some(page) = page {
        from = place(tenant, page.ended_index, page.sequence);
        let next = u128::from_be_bytes(from[8..].try_into().unwrap_or([0xff; 16])).saturating_add(1);
        from[8..].copy_from_slice(&next.to_be_bytes());
    }
    let mut to = [0xff; 24];
    if let Some(next) = tenant.0.checked_add(1) {
        to = [0; 24];
        to[..8].copy_from_slice(&next.to_be_bytes());
    }
    (from, to)
}

fn key_key(tenant: TenantId, key: &str) -> Vec<u8> {
    let mut out = tenant.0.to_be_bytes().to_vec();
    out.extend_from_slice(key.as_bytes());
    out
}

fn encode_holder(holder: &KeyHolder) -> [u8; 24] {
    let mut out = [0; 24];
    out[..16].copy_from_slice(&holder.job.0.to_be_bytes());
    out[16..].copy_from_slice(&holder.enqueued_at.to_be_bytes());
    out
}

pub(super) fn decode_holder(bytes: &[u8]) -> Result<KeyHolder> {
    let parts = bytes
        .split_first_chunk::<16>()
        .and_then(|(job, at)| Some((job, at.try_into().ok()?)));
    let (job, at) =
        parts.ok_or_else(|| Error::damaged("holder of an idempotency key", format!("it has {} bytes", bytes.len())))?;
    Ok(KeyHolder {
        job: JobId(u128::from_be_bytes(*job)),
        enqueued_at: u64::from_be_bytes(at),
    })
}

/// Decodes an entry of the index by job id.
pub(super) fn decode_id(key: &[u8], value: &[u8]) -> Result<(JobId, HistoryKey)> {
    let parts = || Some((u128::from_be_bytes(key.try_into().ok()?), value.try_into().ok()?));
    parts().map(|(id, place)| (JobId(id), place)).ok_or_else(|| {
        Error::damaged(
            "index of the history by id",
            format!("an entry has {} and {} bytes", key.len(), value.len()),
        )
    })
}

/// Adds an ended job and its index entries to a batch.
pub(super) fn put(state: &Generation, batch: &mut WriteBatch, row: &JobRow) -> Result<()> {
    let place = history_key(row);
    batch.put_cf(state.history()?, place, encode_job(row)?);
    batch.put_cf(state.ids()?, row.spec.id.0.to_be_bytes(), place);
    let Some(key) = &row.spec.idempotency_key else {
        return Ok(());
    };
    // A key may be taken anew after its time by a job that ends before the first one does.
    if holder(state, row.tenant, key)?.is_none_or(|held| held.enqueued_at <= row.enqueued_at) {
        let holder = KeyHolder {
            job: row.spec.id,
            enqueued_at: row.enqueued_at,
        };
        batch.put_cf(state.keys()?, key_key(row.tenant, key), encode_holder(&holder));
    }
    Ok(())
}

pub(super) fn holder(state: &Generation, tenant: TenantId, key: &str) -> Result<Option<KeyHolder>> {
    let bytes = state
        .db
        .get_cf(state.keys()?, key_key(tenant, key))
        .map_err(Error::database("reading history"))?;
    bytes.map(|bytes| decode_holder(&bytes)).transpose()
}

pub(super) fn job(state: &Generation, id: JobId) -> Result<Option<Arc<JobRow>>> {
    let Some(place) = place_of(state, id)? else {
        return Ok(None);
    };
    let bytes = state
        .db
        .get_cf(state.history()?, place)
        .map_err(Error::database("reading history"))?;
    let Some(bytes) = bytes else {
        // Both are written and removed in one batch: it was removed just now, or is lost.
        return if place_of(state, id)?.is_none() {
            Ok(None)
        } else {
            Err(Error::damaged("index of the history by id", "it leads to no job"))
        };
    };
    let row = decode_job(&bytes)?;
    if row.spec.id != id {
        return Err(Error::damaged("index of the history by id", "it leads to another job"));
    }
    Ok(Some(Arc::new(row)))
}

pub(super) fn place_of(state: &Generation, id: JobId) -> Result<Option<HistoryKey>> {
    let key = id.0.to_be_bytes();
    let place = state
        .db
        .get_cf(state.ids()?, key)
        .map_err(Error::database("reading history"))?;
    place
        .map(|place| decode_id(&key, &place).map(|(_, place)| place))
        .transpose()
}

/// Merges the overlay's part of a page with the disk's.
pub(super) fn list(
    state: &Generation,
    overlay: Vec<(HistoryKey, Arc<JobRow>)>,
    (from, to): (HistoryKey, HistoryKey),
    filter: &JobFilter,
    limit: usize,
    budget: usize,
) -> Result<(Vec<Arc<JobRow>>, Option<HistoryCursor>)> {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    let mut disk = state.db.raw_iterator_cf_opt(state.history()?, options);
    disk.seek_to_first();
    let mut overlay = overlay.into_iter().peekable();
    let mut found = Vec::new();
    let mut last: Option<HistoryKey> = None;
    let mut looked = 0;
    loop {
        let on_disk = disk_key(&disk)?;
        let Some(next) = [overlay.peek().map(|(key, _)| *key), on_disk]
            .into_iter()
            .flatten()
            .min()
        else {
            return Ok((found, None));
        };
        if found.len() >= limit || looked >= budget {
            return Ok((found, last.map(|key| cursor(&key))));
        }
        let in_overlay = overlay.next_if(|(key, _)| *key == next);
        let row = match in_overlay {
            Some((_, row)) => row,
            None => Arc::new(decode_job(disk.value().unwrap_or_default())?),
        };
        if on_disk == Some(next) {
            disk.next();
        }
        looked += 1;
        last = Some(next);
        if matches(filter, &row) {
            found.push(row);
        }
    }
}

fn disk_key(disk: &DBRawIterator<'_>) -> Result<Option<HistoryKey>> {
    let Some(key) = disk.key() else {
        return disk.status().map(|()| None).map_err(Error::database("reading history"));
    };
    let key = key
        .try_into()
        .map_err(|_| Error::damaged("key of the history", format!("it has {} bytes", key.len())))?;
    Ok(Some(key))
}

fn matches(filter: &JobFilter, row: &JobRow) -> bool {
    filter.queue.as_ref().is_none_or(|queue| *queue == row.spec.queue)
        && filter.kind.as_ref().is_none_or(|kind| *kind == row.spec.kind)
        && (filter.states.is_empty() || filter.states.contains(&row.state))
}

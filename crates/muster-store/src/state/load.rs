//! Loading all rows: read on one thread, decoded on another.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use muster_core::Row;
use rocksdb::{IteratorMode, ReadOptions};

use super::generation::Generation;
use super::types::Loaded;
use crate::codec::{Meta, decode_row, encode_key};
use crate::{Error, Result};

/// Rows handed over at a time.
const CHUNK: usize = 2_048;
/// Chunks read ahead of the decoder.
const AHEAD: usize = 16;

type Raw = Vec<(Box<[u8]>, Box<[u8]>)>;

/// Everything of the queue.
pub(super) fn all(state: &Generation) -> Result<Loaded> {
    let Meta { applied, membership } = state.meta()?;
    Ok(Loaded {
        rows: rows(state)?,
        applied,
        membership,
    })
}

/// All rows, in key order. Each must decode and lie under its own key.
pub(super) fn rows(state: &Generation) -> Result<Vec<Row>> {
    let (chunks, read) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        let decoding = scope.spawn(move || decode(read));
        let outcome = send(state, chunks);
        let rows = decoding
            .join()
            .unwrap_or_else(|_| Err(Error::damaged("state row", "decoding it panicked")));
        // What the decoder found wrong is why nothing more was read.
        let rows = rows?;
        outcome.map(|()| rows)
    })
}

/// Ends early when the decoder has given up.
fn send(state: &Generation, chunks: SyncSender<Raw>) -> Result<()> {
    let mut options = ReadOptions::default();
    // Each row is read once: the cache is for those that are looked up.
    options.fill_cache(false);
    options.set_readahead_size(2 << 20);
    let mut chunk = Vec::with_capacity(CHUNK);
    for item in state.db.iterator_cf_opt(state.rows()?, options, IteratorMode::Start) {
        chunk.push(item.map_err(Error::database("loading the state"))?);
        if chunk.len() == CHUNK
            && chunks
                .send(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK)))
                .is_err()
        {
            return Ok(());
        }
    }
    let _gave_up = chunks.send(chunk);
    Ok(())
}

fn decode(chunks: Receiver<Raw>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (key, value) in chunks.into_iter().flatten() {
        let row = decode_row(&value)?;
        if *encode_key(&row.key()) != *key {
            return Err(Error::damaged("state row", "it lies under the key of another row"));
        }
        rows.push(row);
    }
    Ok(rows)
}

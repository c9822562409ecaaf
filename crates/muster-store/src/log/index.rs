//! What is known of the log without asking the disk: its bounds and its newest entries.

use std::collections::VecDeque;
use std::time::Instant;

use super::disk::Recovered;
use super::extent::Extent;
use super::record::{Link, Record, Vote};
use super::types::LogBounds;

/// A record and the number of the append that brought it.
#[derive(Clone, Debug)]
struct Kept {
    record: Record,
    append: u64,
}

/// The log as its callers see it: ahead of the disk by what is queued.
#[derive(Debug)]
pub(super) struct Index {
    /// Everything up to here is gone.
    pub purged: Option<Link>,
    /// The last entry, or `purged`.
    pub end: Option<Link>,
    /// The vote saved last.
    pub vote: Option<Vote>,
    tail: VecDeque<Kept>,
    tail_bytes: usize,
    /// Number of the last append made, and of the last one synced. Indexes would not do: after a truncation an index
    /// comes twice, and the entry that was not synced must stay.
    appends: u64,
    synced: u64,
    /// How much there is, on disk and in memory.
    pub extent: Extent,
}

impl Index {
    /// As found on disk, where it takes `bytes`.
    pub fn new(recovered: Recovered, bytes: u64) -> Self {
        let purged = recovered.purged.map(|link| link.position);
        let end = recovered
            .end
            .map(|link| link.position)
            .filter(|end| Some(*end) != purged);
        let tail_bytes = recovered.tail.iter().map(Record::size).sum();
        let kept = |record| Kept { record, append: 0 };
        Self {
            purged: recovered.purged,
            end: recovered.end,
            vote: recovered.vote,
            tail: recovered.tail.into_iter().map(kept).collect(),
            tail_bytes,
            appends: 0,
            synced: 0,
            extent: Extent::new(end, bytes, Instant::now()),
        }
    }

    pub fn bounds(&self) -> LogBounds {
        LogBounds {
            purged: self.purged.map(|link| link.position),
            last: self.end.map(|link| link.position),
        }
    }

    /// The only index that may be appended; `None` = any, the log never had an entry.
    pub fn next(&self) -> Option<u64> {
        self.end.map(|end| end.position.index + 1)
    }

    /// Takes records that follow the end; returns the number of this append.
    pub fn push(&mut self, records: &[Record]) -> u64 {
        self.appends += 1;
        let now = Instant::now();
        for record in records {
            self.tail_bytes += record.size();
            self.extent.push(record.entry.position, record.size() as u64, now);
            self.end = Some(record.link());
            self.tail.push_back(Kept {
                record: record.clone(),
                append: self.appends,
            });
        }
        self.appends
    }

    /// Notes that appends up to this number are synced, and keeps no more than `bytes_max` of the oldest synced entries.
    pub fn note_synced(&mut self, append: u64, bytes_max: usize) {
        self.synced = self.synced.max(append);
        while self.tail_bytes > bytes_max
            && let Some(front) = self.tail.front()
            && front.append <= self.synced
        {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(front) = self.tail.pop_front() {
            self.tail_bytes -= front.record.size();
        }
    }

    /// Index of the oldest entry in memory.
    pub fn tail_first(&self) -> Option<u64> {
        self.tail.front().map(|kept| kept.record.entry.position.index)
    }

    /// Hash of the predecessor of the oldest entry in memory.
    pub fn tail_previous(&self) -> Option<u128> {
        self.tail.front().map(|kept| kept.record.previous)
    }

    /// An entry in memory.
    pub fn get(&self, index: u64) -> Option<&Record> {
        let offset = index.checked_sub(self.tail_first()?)?;
        self.tail.get(usize::try_from(offset).ok()?).map(|kept| &kept.record)
    }

    /// Drops entries from `index` on; the log then ends at `end`.
    pub fn truncate(&mut self, index: u64, end: Option<Link>) {
        while self
            .tail
            .back()
            .is_some_and(|kept| kept.record.entry.position.index >= index)
        {
            if let Some(back) = self.tail.pop_back() {
                self.tail_bytes -= back.record.size();
            }
        }
        self.end = end;
        self.extent.truncate(end.map(|end| end.position.index));
    }

    /// Drops entries up to `purged`.
    pub fn purge(&mut self, purged: Link) {
        while self.tail_first().is_some_and(|first| first <= purged.position.index) {
            self.pop_front();
        }
        self.purged = Some(purged);
        self.extent.purge(purged.position.index);
        if self.end.is_none_or(|end| end.position.index <= purged.position.index) {
            self.end = Some(purged);
        }
    }

    #[cfg(test)]
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }
}

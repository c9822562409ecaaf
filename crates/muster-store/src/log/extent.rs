//! How much the log holds, in strides: enough to say how far it may be purged.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::types::LogPosition;

/// A stride ends when it has so many bytes or took so long.
const STRIDE_BYTES: u64 = 1 << 20;
const STRIDE_TIME: Duration = Duration::from_secs(10);

/// Entries that follow each other.
#[derive(Clone, Copy, Debug)]
struct Stride {
    /// The last of them.
    last: LogPosition,
    bytes: u64,
    begun: Instant,
    ended: Instant,
}

/// Bytes of the log, by stride.
#[derive(Debug, Default)]
pub(super) struct Extent {
    strides: VecDeque<Stride>,
    bytes: u64,
}

impl Extent {
    /// What was found on opening is one full stride: where in it the bytes lie is not known.
    pub fn new(end: Option<LogPosition>, bytes: u64, now: Instant) -> Self {
        let mut extent = Self::default();
        if let Some(end) = end {
            extent.push(end, bytes.max(STRIDE_BYTES), now);
        }
        extent
    }

    /// Bytes of all entries.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts an entry that follows the last one.
    pub fn push(&mut self, position: LogPosition, bytes: u64, now: Instant) {
        self.bytes += bytes;
        match self.strides.back_mut() {
            Some(open) if open.bytes < STRIDE_BYTES && now.duration_since(open.begun) < STRIDE_TIME => {
                open.last = position;
                open.bytes += bytes;
                open.ended = now;
            }
            _ => self.strides.push_back(Stride {
                last: position,
                bytes,
                begun: now,
                ended: now,
            }),
        }
    }

    /// Entries above `last` are gone. A stride that is cut in two is no longer counted; its rest is small.
    pub fn truncate(&mut self, last: Option<u64>) {
        while self
            .strides
            .back()
            .is_some_and(|stride| last.is_none_or(|last| stride.last.index > last))
        {
            if let Some(stride) = self.strides.pop_back() {
                self.bytes -= stride.bytes;
            }
        }
    }

    /// Entries up to `purged` are gone.
    pub fn purge(&mut self, purged: u64) {
        while self.strides.front().is_some_and(|stride| stride.last.index <= purged) {
            if let Some(stride) = self.strides.pop_front() {
                self.bytes -= stride.bytes;
            }
        }
    }

    /// The last entry above which at least `keep_bytes` lie, or which is at least `keep_for` old.
    pub fn purge_point(&self, keep_bytes: u64, keep_for: Duration, now: Instant) -> Option<LogPosition> {
        let mut above = 0;
        for stride in self.strides.iter().rev() {
            if above >= keep_bytes || now.duration_since(stride.ended) >= keep_for {
                return Some(stride.last);
            }
            above += stride.bytes;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn position(index: u64) -> LogPosition {
        LogPosition {
            term: 1,
            node: 1,
            index,
        }
    }

    /// Entries 1 to 100 of 100 KiB each, one a second.
    fn extent(start: Instant) -> Extent {
        let mut extent = Extent::new(None, 0, start);
        for index in 1..=100 {
            extent.push(position(index), 100 << 10, start + Duration::from_secs(index));
        }
        extent
    }

    fn point(extent: &Extent, keep_bytes: u64, keep_for: Duration, now: Instant) -> Option<u64> {
        extent.purge_point(keep_bytes, keep_for, now).map(|at| at.index)
    }

    #[test]
    fn what_is_kept_is_at_least_so_much_and_at_most_a_stride_more() {
        let start = Instant::now();
        let (extent, now) = (extent(start), start + Duration::from_secs(100));
        for kept in [1_u64, 30, 77] {
            let purged = point(&extent, kept * (100 << 10), HOUR, now).expect("more is there");
            assert!((100 - purged) >= kept && (100 - purged) < kept + 12, "{kept}: {purged}");
        }
        assert_eq!(point(&extent, 100 * (100 << 10), HOUR, now), None);
        let old = point(&extent, u64::MAX, Duration::from_secs(50), now).expect("half is older");
        assert!((40..=50).contains(&old), "{old}");
    }

    #[test]
    fn what_is_gone_no_longer_counts() {
        let start = Instant::now();
        let (mut extent, now) = (extent(start), start + Duration::from_secs(100));
        extent.purge(50);
        assert!(extent.bytes() <= 60 * (100 << 10) && extent.bytes() >= 50 * (100 << 10));
        extent.truncate(Some(80));
        assert!(extent.bytes() <= 40 * (100 << 10) && point(&extent, 1, HOUR, now).is_some_and(|at| at <= 80));
        extent.truncate(None);
        assert_eq!((extent.bytes(), point(&extent, 0, HOUR, now)), (0, None));
    }

    #[test]
    fn what_was_there_on_opening_goes_as_a_whole() {
        let now = Instant::now();
        let mut extent = Extent::new(Some(position(9)), 5 << 20, now);
        assert_eq!(point(&extent, 1, HOUR, now), None);
        extent.push(position(10), 2 << 20, now);
        extent.push(position(11), 2 << 20, now);
        assert_eq!(point(&extent, 3 << 20, HOUR, now), Some(9));
        assert_eq!(extent.bytes(), 9 << 20);
    }
}

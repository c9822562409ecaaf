//! How a store is set up.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`crate::Store`].
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The data directory; made if it does not exist.
    pub dir: PathBuf,
    /// Bytes of the newest log entries kept in memory. Entries that are not yet synced are kept beyond it.
    /// Default 48 MiB.
    pub tail_bytes_max: usize,
    /// Bytes of appends waiting for their sync before `append` blocks its caller. Default 64 MiB.
    pub queue_bytes_max: usize,
    /// Bytes of appends that share one write and sync at most; one append may be larger. Default 4 MiB.
    pub group_bytes_max: usize,
    /// Bytes of the log's newest entries that are verified on open. Older ones are verified when read.
    /// Default 64 MiB.
    pub verify_bytes: usize,
    /// The high-water mark is synced at most this often (and always for a vote or a truncation). It bounds the time
    /// before a power cut in which lost entries go unnoticed. Default 200 ms.
    pub mark_interval: Duration,
    /// Checkpoint bytes written since the last flush of the state that cause the next. Default 32 MiB.
    pub flush_bytes: usize,
    /// Time since the last flush of the state after which a checkpoint flushes: bounds the replay after a restart.
    /// Default 10 s.
    pub flush_interval: Duration,
    /// Bytes that are to stay free on the file system. With less, the cluster takes no new jobs; with less than a fourth, this
    /// node accepts no entries. `None`: 512 MiB, at most 5 % of the file system. 0: not watched. Default `None`.
    pub disk_reserve: Option<u64>,
    /// Highest feature level of data that may be opened. Default [`muster_core::LEVEL_MAX`].
    pub level_max: u32,
    /// Memory for cached blocks of rows and history. Default 64 MiB.
    pub cache_bytes: usize,
    /// Bytes of the log that its database gathers in memory before it writes a file; up to four times that while the disk is
    /// slow. Default 64 MiB.
    pub log_buffer_bytes: usize,
}

impl StoreOptions {
    /// The defaults for a data directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            tail_bytes_max: 48 << 20,
            queue_bytes_max: 64 << 20,
            group_bytes_max: 4 << 20,
            verify_bytes: 64 << 20,
            mark_interval: Duration::from_millis(200),
            flush_bytes: 32 << 20,
            flush_interval: Duration::from_secs(10),
            disk_reserve: None,
            level_max: muster_core::LEVEL_MAX,
            cache_bytes: 64 << 20,
            log_buffer_bytes: 64 << 20,
        }
    }
}

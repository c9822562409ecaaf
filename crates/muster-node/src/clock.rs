//! Wall-clock time as the log's stamps have it.

use std::time::{SystemTime, UNIX_EPOCH};

use muster_core::Timestamp;

/// Milliseconds since the Unix epoch.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as Timestamp)
}

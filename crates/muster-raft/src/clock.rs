//! The time with which a leader stamps entries.
//!
//! Replicated time never goes back, wall clocks do: a node's clock was ahead and is corrected, or the lead moves to a node
//! whose clock is behind. Stamping the wall clock would then stop replicated time, and with it every delay, timeout and
//! limit, until the wall clock has caught up. Instead time goes on at half speed until then.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use muster_core::Timestamp;
use parking_lot::Mutex;

/// An estimate of replicated time on this node.
#[derive(Debug)]
pub(crate) struct ReplicatedClock(Mutex<Anchor>);

/// A replicated time and when this node heard of it.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    time: Timestamp,
    at: Instant,
}

impl Anchor {
    fn now(self, wall: Timestamp, at: Instant) -> Timestamp {
        let since = at.saturating_duration_since(self.at);
        wall.max(self.time.saturating_add(millis(since / 2)))
    }

    /// Takes over a time that is ahead of the estimate.
    fn saw(&mut self, time: Timestamp, at: Instant) {
        if time > self.now(0, at) {
            *self = Self { time, at };
        }
    }
}

impl ReplicatedClock {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Anchor {
            time: 0,
            at: Instant::now(),
        }))
    }

    /// An entry with this time was applied here.
    pub(crate) fn saw(&self, time: Timestamp) {
        self.0.lock().saw(time, Instant::now());
    }

    /// Milliseconds since the Unix epoch, not before what was applied here.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.lock().now(wall_clock(), Instant::now())
    }

    /// A stamp for the next entry, not before the last one.
    pub(crate) fn stamp(&self) -> Timestamp {
        let (mut anchor, at) = (self.0.lock(), Instant::now());
        let time = anchor.now(wall_clock(), at);
        anchor.saw(time, at);
        time
    }
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, millis)
}

fn millis(time: Duration) -> Timestamp {
    Timestamp::try_from(time.as_millis()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    #[test]
    fn time_goes_on_at_half_speed_until_the_wall_clock_has_caught_up() {
        let start = Instant::now();
        let after = |ms: u64| start + Duration::from_millis(ms);
        let mut anchor = Anchor { time: 0, at: start };
        let wall = 1_000 * MINUTE;
        // An entry of a leader whose clock is a minute ahead.
        anchor.saw(wall + MINUTE, start);
        assert_eq!(anchor.now(wall, start), wall + MINUTE);
        assert_eq!(anchor.now(wall + 2_000, after(2_000)), wall + MINUTE + 1_000);
        // A stamp in between changes nothing about it.
        anchor.saw(wall + MINUTE + 1_000, after(2_000));
        assert_eq!(anchor.now(wall + 4_000, after(4_000)), wall + MINUTE + 2_000);
        // After two minutes the wall clock is right again.
        let later = 2 * MINUTE + 500;
        assert_eq!(anchor.now(wall + later, after(later)), wall + later);
    }

    #[test]
    fn stamps_never_go_back() {
        let clock = ReplicatedClock::new();
        let first = clock.stamp();
        clock.saw(first + MINUTE);
        let second = clock.stamp();
        assert!(second >= first + MINUTE);
        clock.saw(first);
        assert!(clock.stamp() >= second && clock.now() >= second);
    }
}

//! A bound on the bandwidth that backups take.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Lets so many bytes through in a second, for all its users together.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// 0: no bound.
    bytes_per_second: u64,
    free_at: Mutex<Instant>,
}

impl Throttle {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// Waits for the turn of `bytes`. A burst is no more than what one caller takes at once.
    pub(crate) async fn take(&self, bytes: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let turn = turn(&mut *self.free_at.lock().await, Instant::now(), takes);
        tokio::time::sleep_until(turn).await;
    }
}

/// When it is the turn of work that takes so long; the next one's comes after it.
fn turn(free_at: &mut Instant, now: Instant, takes: Duration) -> Instant {
    let turn = (*free_at).max(now);
    *free_at = turn + takes;
    turn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_for_those_before_it() {
        let start = Instant::now();
        let after = |ms: u64| start + Duration::from_millis(ms);
        let mut free_at = start;
        let mut at = |now: u64, takes: u64| turn(&mut free_at, after(now), Duration::from_millis(takes));
        assert_eq!(at(0, 500), after(0));
        assert_eq!(at(0, 500), after(500));
        assert_eq!(at(200, 100), after(1_000));
        // Time in which nothing was sent is not made up for.
        assert_eq!(at(5_000, 500), after(5_000));
        assert_eq!(at(5_000, 500), after(5_500));
    }
}

//! How often a crashed actor is started again: at most so many times in a window, each time after a longer wait.
//!
//! ractor tells a supervisor of a crash and leaves the rest to it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::options::RestartOptions;

/// Crashes of one actor.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    crashes: VecDeque<Instant>,
}

/// What to do about a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start it again after this wait.
    Restart(Duration),
    /// It crashes too often for a restart to help.
    GiveUp,
}

impl Restarts {
    /// Notes a crash at `now`.
    pub(crate) fn crashed(&mut self, options: &RestartOptions, now: Instant) -> Verdict {
        while self
            .crashes
            .front()
            .is_some_and(|first| now.saturating_duration_since(*first) >= options.window)
        {
            self.crashes.pop_front();
        }
        if self.crashes.len() >= options.max as usize {
            return Verdict::GiveUp;
        }
        let doublings = self.crashes.len().min(16) as u32;
        self.crashes.push_back(now);
        let wait = options.backoff_min.saturating_mul(1 << doublings);
        Verdict::Restart(wait.min(options.backoff_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_the_window_forgets() {
        let options = RestartOptions {
            max: 3,
            window: Duration::from_secs(10),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(30),
        };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let restart = |millis| Verdict::Restart(Duration::from_millis(millis));
        let mut restarts = Restarts::default();
        assert_eq!(restarts.crashed(&options, at(0)), restart(10));
        assert_eq!(restarts.crashed(&options, at(1)), restart(20));
        assert_eq!(restarts.crashed(&options, at(2)), restart(30));
        assert_eq!(restarts.crashed(&options, at(3)), Verdict::GiveUp);
        assert_eq!(restarts.crashed(&options, at(11)), restart(20));
    }
}

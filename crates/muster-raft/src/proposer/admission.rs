//! The bound on what waits. New jobs leave some of it to the reports, cancels and settings that make room again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Waits;
use crate::proposer::call::Full;

/// What new jobs may take of a bound: an eighth is left.
pub(crate) fn for_jobs(max: usize) -> usize {
    max - max / 8
}

/// Counts commands and bytes that wait for their reply on this node.
#[derive(Debug)]
pub(crate) struct Admission {
    commands: AtomicUsize,
    bytes: AtomicUsize,
    commands_max: usize,
    bytes_max: usize,
}

/// Room taken by one call; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    commands: usize,
    bytes: usize,
}

impl Admission {
    pub(crate) fn new(commands_max: usize, bytes_max: usize) -> Self {
        Self {
            commands: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            commands_max,
            bytes_max,
        }
    }

    /// Takes room, or says what is full. `jobs`: the commands bring new jobs.
    pub(crate) fn admit(self: &Arc<Self>, commands: usize, bytes: usize, jobs: bool) -> Result<Permit, Full> {
        let part = |max: usize| if jobs { for_jobs(max) } else { max };
        let had_commands = self.commands.fetch_add(commands, Ordering::Relaxed);
        let had_bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let permit = Permit {
            admission: self.clone(),
            commands,
            bytes,
        };
        // Over a bound the permit is dropped, which takes the addition back.
        for (what, had, more, max) in [
            (Waits::Commands, had_commands, commands, part(self.commands_max)),
            (Waits::Bytes, had_bytes, bytes, part(self.bytes_max)),
        ] {
            if had + more > max {
                return Err(Full::Waiting {
                    what,
                    value: had as u64,
                    limit: max as u64,
                });
            }
        }
        Ok(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.commands.fetch_sub(self.commands, Ordering::Relaxed);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_jobs_leave_room_for_what_ends_them() {
        let admission = Arc::new(Admission::new(16, 1_600));
        let jobs: Vec<_> = (0..16).map_while(|_| admission.admit(1, 100, true).ok()).collect();
        assert_eq!(jobs.len(), 14);
        assert!(admission.admit(2, 200, false).is_ok());
    }

    #[test]
    fn room_is_bounded_by_count_and_bytes_and_comes_back() {
        let admission = Arc::new(Admission::new(3, 100));
        let first = admission.admit(2, 50, true);
        assert!(first.is_ok());
        let full = |what, value, limit| Some(Full::Waiting { what, value, limit });
        assert_eq!(admission.admit(2, 1, true).err(), full(Waits::Commands, 2, 3));
        assert_eq!(admission.admit(1, 51, false).err(), full(Waits::Bytes, 50, 100));
        let second = admission.admit(1, 50, false);
        assert!(second.is_ok());
        drop((first, second));
        assert!(admission.admit(3, 100, false).is_ok());
    }
}

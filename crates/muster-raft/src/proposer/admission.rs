//! The bound on what waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// Takes room, or `None` when there is not enough.
    pub(crate) fn admit(self: &Arc<Self>, commands: usize, bytes: usize) -> Option<Permit> {
        let had_commands = self.commands.fetch_add(commands, Ordering::Relaxed);
        let had_bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let permit = Permit {
            admission: self.clone(),
            commands,
            bytes,
        };
        // Over the bound the permit is dropped, which takes the addition back.
        (had_commands + commands <= self.commands_max && had_bytes + bytes <= self.bytes_max).then_some(permit)
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
    fn room_is_bounded_by_count_and_bytes_and_comes_back() {
        let admission = Arc::new(Admission::new(3, 100));
        let first = admission.admit(2, 50);
        assert!(first.is_some());
        assert!(admission.admit(2, 1).is_none(), "count");
        assert!(admission.admit(1, 51).is_none(), "bytes");
        let second = admission.admit(1, 50);
        assert!(second.is_some());
        drop((first, second));
        assert!(admission.admit(3, 100).is_some());
    }
}

//! When a leader was last heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When this node last heard a leader of its cluster. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Contact(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    born: Instant,
    /// Milliseconds after `born`.
    heard: AtomicU64,
}

impl Contact {
    /// A node that starts has just heard: so it gets the time to be found.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            born: Instant::now(),
            heard: AtomicU64::new(0),
        }))
    }

    pub(crate) fn touch(&self) {
        let since = self.0.born.elapsed().as_millis() as u64;
        self.0.heard.store(since, Ordering::Relaxed);
    }

    /// For how long nothing was heard.
    pub(crate) fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.0.heard.load(Ordering::Relaxed));
        self.0.born.elapsed().saturating_sub(heard)
    }
}

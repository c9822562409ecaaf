//! Bounds on what is under way, so that a flood is refused early instead of filling the memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::errors::Error;

/// Permits of one sort of call.
pub(crate) struct Gate {
    what: &'static str,
    limit: usize,
    retry_after: Duration,
    permits: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new(what: &'static str, limit: usize, retry_after: Duration) -> Self {
        Self {
            what,
            limit,
            retry_after,
            permits: Arc::new(Semaphore::new(limit)),
        }
    }

    /// A permit to hold while the call is under way.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| Error::Overloaded {
                what: self.what,
                limit: self.limit,
                retry_after: self.retry_after,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[test]
    fn what_is_over_the_limit_is_told_when_to_come_back() {
        let gate = Gate::new("calls", 1, Duration::from_millis(100));
        let first = gate.enter().expect("room for one");
        let error = gate.enter().expect_err("full");
        assert_eq!(error.reason(), Reason::Overloaded);
        assert_eq!(error.retry_after(), Some(Duration::from_millis(100)));
        drop(first);
        assert!(gate.enter().is_ok());
    }
}

//! Bounds on what is under way, so that a flood is refused early instead of filling the memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::errors::Error;

/// Permits of one sort of call. Cheap to clone.
#[derive(Clone)]
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
        self.enter_with(1)
    }

    /// The same for a call that weighs so much. One that weighs more than all that is admitted enters alone.
    pub(crate) fn enter_with(&self, weight: usize) -> Result<OwnedSemaphorePermit, Error> {
        let weight = u32::try_from(weight.min(self.limit)).unwrap_or(u32::MAX);
        Arc::clone(&self.permits)
            .try_acquire_many_owned(weight)
            .map_err(|_| Error::Overloaded {
                what: self.what,
                value: self.limit.saturating_sub(self.permits.available_permits()),
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

    #[test]
    fn weights_add_up() {
        let gate = Gate::new("bytes of jobs", 100, Duration::from_millis(100));
        let first = gate.enter_with(60).expect("room");
        let error = gate.enter_with(41).expect_err("101");
        assert_eq!(
            error.to_string(),
            "this node has 60 bytes of jobs under way and admits 100"
        );
        assert!(gate.enter_with(40).is_ok());
        drop(first);
        assert!(gate.enter_with(1_000).is_ok(), "alone");
    }
}

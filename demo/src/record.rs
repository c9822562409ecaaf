//! What happened, and when: acknowledgements and executions, as this process saw them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use muster_client::{Context, JobId};

/// Shared by producers and workers.
#[derive(Clone)]
pub struct Record {
    /// Times count from here.
    begun: Instant,
    events: Arc<Mutex<Events>>,
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub struct Events {
    pub acknowledged: Vec<Acknowledged>,
    pub executions: Vec<Execution>,
    /// Calls that were repeated by the demo with the same id, because their outcome was unknown or no node answered.
    pub repeats: u64,
}

/// An enqueue that the cluster acknowledged.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub job: JobId,
    pub tenant: String,
    pub at: Duration,
}

/// One run of a handler.
#[derive(Clone, Debug)]
pub struct Execution {
    pub job: JobId,
    pub tenant: String,
    pub from: Duration,
    /// `None`: it was dropped (its lease was lost).
    pub to: Option<Duration>,
}

impl Record {
    pub fn new(begun: Instant) -> Self {
        Self {
            begun,
            events: Arc::default(),
        }
    }

    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub fn acknowledged(&self, job: JobId, tenant: &str) {
        let at = self.now();
        self.lock().acknowledged.push(Acknowledged {
            job,
            tenant: tenant.to_owned(),
            at,
        });
    }

    pub fn repeated(&self) {
        self.lock().repeats += 1;
    }

    /// The begin of an execution; returns its number for [`Self::ran`].
    pub fn runs(&self, context: &Context) -> usize {
        let from = self.now();
        let mut events = self.lock();
        events.executions.push(Execution {
            job: context.job_id(),
            tenant: context.tenant().to_owned(),
            from,
            to: None,
        });
        events.executions.len() - 1
    }

    pub fn ran(&self, number: usize) {
        let to = self.now();
        if let Some(execution) = self.lock().executions.get_mut(number) {
            execution.to = Some(to);
        }
    }

    /// When the last enqueue was acknowledged.
    pub fn last_acknowledged(&self) -> Option<Duration> {
        self.lock()
            .acknowledged
            .iter()
            .map(|acknowledged| acknowledged.at)
            .max()
    }

    /// Everything so far.
    pub fn events(&self) -> Events {
        self.lock().clone()
    }

    /// The lists stay true if a thread panics between two pushes.
    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

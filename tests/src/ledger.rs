//! What workers did, written down outside the cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// One execution of a job.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Fencing token.
    pub fence: u64,
    /// Attempt number as the worker was told.
    pub attempt: u32,
    /// When the handler began, by this process's clock.
    pub began: Instant,
    /// When it returned; `None`: it was dropped or still runs.
    pub ended: Option<Instant>,
}

/// All executions by job id. Clones share one book.
#[derive(Clone, Default)]
pub struct Ledger {
    runs: Arc<Mutex<BTreeMap<String, Vec<Run>>>>,
}

impl Ledger {
    /// Notes that an execution begins.
    pub fn begin(&self, job: &str, fence: u64, attempt: u32) {
        let run = Run {
            fence,
            attempt,
            began: Instant::now(),
            ended: None,
        };
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.entry(job.to_owned()).or_default().push(run);
    }

    /// Notes that it ended.
    pub fn end(&self, job: &str, fence: u64) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let run = runs
            .get_mut(job)
            .and_then(|runs| runs.iter_mut().find(|run| run.fence == fence));
        if let Some(run) = run {
            run.ended = Some(Instant::now());
        }
    }

    /// Executions of one job in the order in which they began.
    pub fn of(&self, job: &str) -> Vec<Run> {
        self.all().remove(job).unwrap_or_default()
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, Vec<Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

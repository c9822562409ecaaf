//! Waiting for changes of a job.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use muster_core::{JobId, JobRow, JobState};
use parking_lot::Mutex;
use tokio::sync::watch;

/// What became of a watched job.
#[derive(Clone, Debug)]
pub enum JobChange {
    /// It is live, in another state.
    State {
        /// The state.
        state: JobState,
        /// Attempts begun.
        attempts: u32,
    },
    /// It ended.
    Ended(Arc<JobRow>),
    /// The whole state was replaced: read the job again.
    LookAgain,
}

/// Who waits for which job. Costs one atomic read per entry when nobody does.
#[derive(Debug, Default)]
pub(crate) struct JobWatches {
    waiting: AtomicUsize,
    jobs: Mutex<HashMap<JobId, watch::Sender<Option<JobChange>>>>,
}

impl JobWatches {
    pub(crate) fn watch(self: &Arc<Self>, job: JobId) -> JobWatch {
        let mut jobs = self.jobs.lock();
        let changes = jobs.entry(job).or_insert_with(|| watch::Sender::new(None)).subscribe();
        self.waiting.store(jobs.len(), Ordering::Release);
        JobWatch {
            job,
            changes: Some(changes),
            watches: Arc::clone(self),
        }
    }

    /// True when nobody waits for anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    pub(crate) fn notify(&self, job: JobId, change: impl FnOnce() -> JobChange) {
        if let Some(sender) = self.jobs.lock().get(&job) {
            sender.send_replace(Some(change()));
        }
    }

    pub(crate) fn look_again(&self) {
        for sender in self.jobs.lock().values() {
            sender.send_replace(Some(JobChange::LookAgain));
        }
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        self.jobs.lock().clear();
        self.waiting.store(0, Ordering::Release);
    }

    fn unwatch(&self, job: JobId) {
        let mut jobs = self.jobs.lock();
        if jobs.get(&job).is_some_and(|sender| sender.receiver_count() == 0) {
            jobs.remove(&job);
        }
        self.waiting.store(jobs.len(), Ordering::Release);
    }
}

/// Changes of one job from the moment of the call on; a slow reader sees the latest only.
///
/// Watch first and read the job then: what changes between the two is not missed.
#[derive(Debug)]
pub struct JobWatch {
    job: JobId,
    changes: Option<watch::Receiver<Option<JobChange>>>,
    watches: Arc<JobWatches>,
}

impl JobWatch {
    /// The job.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Waits for the next change. `None` when the node stops. Safe to cancel.
    pub async fn next(&mut self) -> Option<JobChange> {
        let changes = self.changes.as_mut()?;
        changes.changed().await.ok()?;
        changes.borrow_and_update().clone()
    }
}

impl Drop for JobWatch {
    fn drop(&mut self) {
        // The receiver goes first, so that it is not counted among those who still wait.
        self.changes = None;
        self.watches.unwatch(self.job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_latest_change_wins_and_nothing_stays_behind() {
        let watches = Arc::new(JobWatches::default());
        assert!(watches.is_idle());
        let job = JobId(7);
        let mut first = watches.watch(job);
        let second = watches.watch(job);
        assert!(!watches.is_idle());
        for attempts in 1..=3 {
            watches.notify(job, || JobChange::State {
                state: JobState::Running,
                attempts,
            });
        }
        let change = first.next().await;
        assert!(
            matches!(change, Some(JobChange::State { attempts: 3, .. })),
            "{change:?}"
        );
        watches.look_again();
        assert!(matches!(first.next().await, Some(JobChange::LookAgain)));
        drop(first);
        assert!(!watches.is_idle());
        drop(second);
        assert!(watches.is_idle());
        assert!(watches.jobs.lock().is_empty());
    }
}

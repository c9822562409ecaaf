//! What a worker has done.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counts since the worker was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Attempts begun.
    pub started: u64,
    /// Attempts whose success is durable.
    pub succeeded: u64,
    /// Attempts whose failure is durable, panics included.
    pub failed: u64,
    /// Attempts whose handler panicked.
    pub panicked: u64,
    /// Attempts put off by their handler.
    pub snoozed: u64,
    /// Attempts put off because a service throttles.
    pub throttled: u64,
    /// Attempts stopped because a cancel was asked for.
    pub cancelled: u64,
    /// Attempts handed back by a shutdown.
    pub preempted: u64,
    /// Attempts that lost their lease: stopped, or reported too late. They run again elsewhere.
    pub leases_lost: u64,
    /// Streams opened after the first.
    pub reconnects: u64,
    /// Attempts running now.
    pub running: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub started: AtomicU64,
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    pub panicked: AtomicU64,
    pub snoozed: AtomicU64,
    pub throttled: AtomicU64,
    pub cancelled: AtomicU64,
    pub preempted: AtomicU64,
    pub leases_lost: AtomicU64,
    pub reconnects: AtomicU64,
    pub running: AtomicU64,
}

impl Counters {
    pub(super) fn snapshot(&self) -> WorkerStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WorkerStats {
            started: get(&self.started),
            succeeded: get(&self.succeeded),
            failed: get(&self.failed),
            panicked: get(&self.panicked),
            snoozed: get(&self.snoozed),
            throttled: get(&self.throttled),
            cancelled: get(&self.cancelled),
            preempted: get(&self.preempted),
            leases_lost: get(&self.leases_lost),
            reconnects: get(&self.reconnects),
            running: get(&self.running),
        }
    }
}

pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

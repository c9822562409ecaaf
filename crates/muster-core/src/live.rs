//! A live job in memory: slim, its description shared.

use std::sync::Arc;

use bytes::Bytes;

use crate::fifo::Place;
use crate::ids::{JobId, LeaseId, LogIndex, Millis, SessionId, TenantId, Timestamp};
use crate::job::{JobError, JobRow, JobSpec, JobState, Lease};
use crate::timer::{Timer, What};

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) spec: Arc<JobSpec>,
    pub(crate) fingerprint: u64,
    pub(crate) enqueued_at: Timestamp,
    pub(crate) available_at: Timestamp,
    pub(crate) sequence: u64,
    pub(crate) changed_index: LogIndex,
    pub(crate) started_at: Timestamp,
    pub(crate) run: Option<Box<Run>>,
    pub(crate) rare: Option<Box<Rare>>,
    pub(crate) lane: u32,
    /// Number of its ordering key, or `NO_ORDER`.
    pub(crate) order: u32,
    pub(crate) attempts: u32,
    pub(crate) failures: u32,
    pub(crate) crashes: u32,
    pub(crate) state: JobState,
    pub(crate) cancel_asked: bool,
    /// Changed since rows were taken.
    pub(crate) dirty: bool,
    /// A row of it has been taken, so its end must delete one.
    pub(crate) written: bool,
}

/// The attempt in progress.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) lease: LeaseId,
    pub(crate) deadline: Timestamp,
    pub(crate) charged: Millis,
    /// It began below the guarantee.
    pub(crate) guaranteed: bool,
    pub(crate) holder: SessionId,
    pub(crate) session: u32,
    /// Position among the session's leases.
    pub(crate) held: u32,
}

/// What most jobs never have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rare {
    pub(crate) error: Option<JobError>,
    pub(crate) last_report: Option<LeaseId>,
    pub(crate) redriven_from: Option<JobId>,
}

impl Run {
    /// What the hash of the state tells of it: its lease and who holds it.
    pub(crate) fn digest(&self) -> u64 {
        let holder = (self.holder.0 >> 64) as u64 ^ self.holder.0 as u64;
        self.lease.fence() ^ holder.rotate_left(32)
    }
}

impl Job {
    pub(crate) fn place(&self, number: u32) -> Place {
        (self.available_at, self.sequence, number)
    }

    /// The one timer that its state calls for.
    pub(crate) fn timer(&self, number: u32) -> Option<Timer> {
        let (at, what) = match self.state {
            JobState::Scheduled | JobState::Retrying => (self.available_at, What::Due),
            JobState::Available | JobState::Blocked => {
                let expires_in = self.spec.options.expires_in;
                if expires_in == 0 || self.started_at != 0 {
                    return None;
                }
                (self.spec.available_at.saturating_add(expires_in), What::Expiry)
            }
            JobState::Running => (self.run.as_ref()?.deadline, What::Timeout),
            _ => return None,
        };
        // An instant that never comes needs no timer; 0 is "never" for a deadline.
        (at != u64::MAX && (what != What::Timeout || at != 0)).then_some(Timer {
            at,
            what,
            order: self.sequence,
            target: number,
        })
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(crate) fn last_report(&self) -> Option<LeaseId> {
        self.rare.as_ref()?.last_report
    }

    /// As persisted and shown.
    pub(crate) fn row(&self, tenant: TenantId) -> JobRow {
        let rare = self.rare.as_deref().cloned().unwrap_or_default();
        JobRow {
            spec: Arc::clone(&self.spec),
            tenant,
            fingerprint: self.fingerprint,
            state: self.state,
            enqueued_at: self.enqueued_at,
            available_at: self.available_at,
            sequence: self.sequence,
            attempts: self.attempts,
            failures: self.failures,
            crashes: self.crashes,
            lease: self.run.as_ref().map(|run| Lease {
                id: run.lease,
                session: run.holder,
                deadline: run.deadline,
                charged: run.charged,
                guaranteed: run.guaranteed,
            }),
            last_report: rare.last_report,
            cancel_asked: self.cancel_asked,
            changed_index: self.changed_index,
            started_at: self.started_at,
            ended_at: 0,
            error: rare.error,
            result: Bytes::new(),
            redriven_from: rare.redriven_from,
        }
    }
}

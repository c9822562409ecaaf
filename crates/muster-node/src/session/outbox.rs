//! What a worker is to be told and has not taken yet, and the leases it holds.
//!
//! Bounded without a limit of its own: jobs by the credits the worker gave, acknowledgements by the reports that were let
//! in, stops by the leases held.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use muster_core::{Assignment, JobId, LeaseId};

use super::types::{ReportAck, SessionOutput, Stop, StopReason};

/// Most jobs in one output.
const JOBS_MAX: usize = 1_000;
/// Payload bytes in one output after which no further job is added.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Most acknowledgements, and most stops, in one output.
const NOTES_MAX: usize = 10_000;

/// What one log entry brought for a session.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub jobs: Vec<Assignment>,
    pub stops: Vec<Stop>,
    pub closed: bool,
}

/// A lease that the worker holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub job: JobId,
    pub since: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    jobs: VecDeque<Assignment>,
    acks: VecDeque<ReportAck>,
    stops: VecDeque<Stop>,
    held: HashMap<LeaseId, Held>,
    leave: bool,
    closed: bool,
}

impl Outbox {
    pub(crate) fn deliver(&mut self, jobs: Vec<Assignment>, stops: Vec<Stop>, now: Instant) {
        if self.closed {
            return;
        }
        for job in jobs {
            let held = Held {
                job: job.spec.id,
                since: now,
            };
            // A lease that is known already came by reconciliation first; the worker gets it once.
            if self.held.insert(job.lease, held).is_none() {
                self.jobs.push_back(job);
            }
        }
        for stop in stops {
            let known = match stop.reason {
                StopReason::Cancel => self.held.contains_key(&stop.lease),
                StopReason::LeaseLost => self.held.remove(&stop.lease).is_some(),
            };
            if known {
                self.stops.push_back(stop);
            }
        }
    }

    /// Queues answers; returns how long each of the attempts ran that ended by them.
    pub(crate) fn acknowledge(&mut self, acks: Vec<ReportAck>, now: Instant) -> Vec<std::time::Duration> {
        let mut runs = Vec::with_capacity(acks.len());
        for ack in acks {
            if let Some(held) = self.held.remove(&ack.lease) {
                runs.push(now.saturating_duration_since(held.since));
            }
            self.acks.push_back(ack);
        }
        runs
    }

    /// The next output, cut to a size that a stream can carry. `None`: nothing now.
    pub(crate) fn take(&mut self) -> Option<SessionOutput> {
        let mut output = SessionOutput {
            leave: std::mem::take(&mut self.leave),
            ..SessionOutput::default()
        };
        let mut bytes = 0;
        while output.jobs.len() < JOBS_MAX && bytes < PAYLOAD_BYTES_MAX {
            let Some(next) = self.jobs.front() else { break };
            bytes += next.spec.payload.data.len();
            if bytes > PAYLOAD_BYTES_MAX && !output.jobs.is_empty() {
                break;
            }
            output.jobs.extend(self.jobs.pop_front());
        }
        let acks = self.acks.len().min(NOTES_MAX);
        output.acks.extend(self.acks.drain(..acks));
        // A stop must not overtake its job.
        if self.jobs.is_empty() {
            let stops = self.stops.len().min(NOTES_MAX);
            output.stops.extend(self.stops.drain(..stops));
        }
        (!output.is_empty()).then_some(output)
    }

    /// Tells the worker to go elsewhere.
    pub(crate) fn ask_leave(&mut self) {
        self.leave = true;
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn held(&self) -> &HashMap<LeaseId, Held> {
        &self.held
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use muster_core::SessionId;

    use super::*;
    use crate::testing::spec;

    fn assignment(index: u64, payload: usize) -> Assignment {
        let mut spec = spec(u128::from(index), "work");
        spec.payload.data = Bytes::from(vec![0; payload]);
        Assignment {
            session: SessionId(1),
            node: 1,
            lease: LeaseId { index, position: 0 },
            deadline: 0,
            attempt: 1,
            available_at: 0,
            sequence: 0,
            spec: Arc::new(spec),
        }
    }

    fn stop(index: u64) -> Stop {
        Stop {
            job: JobId(u128::from(index)),
            lease: LeaseId { index, position: 0 },
            reason: StopReason::LeaseLost,
        }
    }

    #[test]
    fn outputs_are_cut_and_a_stop_never_overtakes_its_job() {
        let mut outbox = Outbox::default();
        let jobs = (0..5).map(|index| assignment(index, 400 << 10)).collect();
        outbox.deliver(jobs, vec![stop(4)], Instant::now());
        let sizes: Vec<_> = std::iter::from_fn(|| outbox.take())
            .map(|output| (output.jobs.len(), output.stops.len()))
            .collect();
        assert_eq!(sizes, [(2, 0), (2, 0), (1, 1)]);
    }

    #[test]
    fn a_worker_is_told_once_to_leave() {
        let mut outbox = Outbox::default();
        outbox.ask_leave();
        assert!(outbox.take().is_some_and(|output| output.leave));
        assert!(outbox.take().is_none());
    }

    #[test]
    fn one_job_larger_than_an_output_still_goes() {
        let mut outbox = Outbox::default();
        outbox.deliver(vec![assignment(1, 8 << 20)], Vec::new(), Instant::now());
        assert_eq!(outbox.take().map(|output| output.jobs.len()), Some(1));
        assert!(outbox.take().is_none());
    }

    #[test]
    fn a_lease_is_handed_out_once_and_unknown_ones_are_not_stopped() {
        let mut outbox = Outbox::default();
        let now = Instant::now();
        outbox.deliver(vec![assignment(1, 0)], Vec::new(), now);
        outbox.deliver(vec![assignment(1, 0)], vec![stop(2)], now);
        let output = outbox.take().unwrap_or_default();
        assert_eq!((output.jobs.len(), output.stops.len()), (1, 0));
    }
}

//! What one caller waits for.

use std::time::Duration;

use muster_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use tonic::Code;

use crate::error::{Attempt, Error, Reason, Result, local, settle};
use crate::id::JobId;
use crate::jobs::Enqueued;
use crate::members::jittered;

/// What a job weighs besides its payload: ids, names, framing.
const OVERHEAD: usize = 256;
/// First wait of jobs that were turned away, doubled with each further time.
const RETRY: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(500);
/// What every node says alike.
const SAME_EVERYWHERE: [&str; 2] = ["QUOTA_EXCEEDED", "MEMORY_FULL"];

/// A job on its way.
#[derive(Debug)]
pub(crate) struct Entry {
    id: JobId,
    spec: v1::JobSpec,
    // An attempt went unanswered, so it may have been accepted.
    maybe_done: bool,
}

impl Entry {
    pub(crate) fn new(id: JobId, spec: v1::JobSpec) -> Self {
        Self {
            id,
            spec,
            maybe_done: false,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        OVERHEAD + self.spec.payload.as_ref().map_or(0, |payload| payload.data.len())
    }
}

/// The jobs of one call, at most a frame of them.
pub(super) struct Ticket {
    waiting: Vec<(usize, Entry)>,
    results: Vec<Option<Result<Enqueued>>>,
    done: oneshot::Sender<Vec<Result<Enqueued>>>,
    deadline: Instant,
    bytes: usize,
    turned_away: u32,
    last: Option<Reason>,
    _room: OwnedSemaphorePermit,
}

/// What is to happen with a ticket after an answer.
pub(super) enum Next {
    /// The caller has its results.
    Finished,
    /// Some jobs are to be sent again, not before this instant.
    Again {
        /// With the jobs that are left.
        ticket: Box<Ticket>,
        /// When.
        at: Instant,
        /// Another node might have taken them.
        elsewhere: bool,
    },
}

impl Ticket {
    pub(super) fn new(
        entries: Vec<Entry>,
        deadline: Instant,
        room: OwnedSemaphorePermit,
    ) -> (Self, oneshot::Receiver<Vec<Result<Enqueued>>>) {
        let (done, results) = oneshot::channel();
        let ticket = Self {
            bytes: entries.iter().map(Entry::bytes).sum(),
            results: entries.iter().map(|_| None).collect(),
            waiting: entries.into_iter().enumerate().collect(),
            done,
            deadline,
            turned_away: 0,
            last: None,
            _room: room,
        };
        (ticket, results)
    }

    pub(super) fn jobs(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.deadline <= now
    }

    /// Nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.done.is_closed()
    }

    pub(super) fn specs(&self) -> impl Iterator<Item = v1::JobSpec> {
        self.waiting.iter().map(|(_, entry)| entry.spec.clone())
    }

    /// Its frame will not be answered.
    pub(super) fn unanswered(&mut self, reason: &Reason) {
        for (_, entry) in &mut self.waiting {
            entry.maybe_done = true;
        }
        self.last = Some(reason.clone());
    }

    /// Takes the results of its jobs, one per job in order.
    pub(super) fn answer(mut self, results: impl Iterator<Item = v1::EnqueueResult>, now: Instant) -> Next {
        let mut again = Vec::new();
        let mut elsewhere = false;
        let mut pause = Duration::ZERO;
        let mut results = results;
        for (slot, mut entry) in std::mem::take(&mut self.waiting) {
            let attempt = match results.next().and_then(|result| result.result) {
                Some(v1::enqueue_result::Result::Job(enqueued)) => {
                    self.fill(slot, Ok(Enqueued::from_proto(&enqueued, entry.id)));
                    continue;
                }
                Some(v1::enqueue_result::Result::Error(error)) => Attempt::from_item(error),
                None => Attempt::Unanswered(local(Code::Internal, "BAD_ANSWER", "fewer results than jobs")),
            };
            let reason = match attempt {
                Attempt::Refused(reason) => {
                    self.fill(slot, Err(settle(reason, entry.maybe_done)));
                    continue;
                }
                Attempt::Retry(reason) => reason,
                Attempt::Unanswered(reason) => {
                    entry.maybe_done = true;
                    reason
                }
            };
            let wait = reason
                .retry_after
                .unwrap_or_else(|| jittered(RETRY.saturating_mul(1 << self.turned_away.min(10)).min(RETRY_MAX)));
            if now + wait >= self.deadline {
                self.fill(slot, Err(settle(reason, entry.maybe_done)));
                continue;
            }
            pause = pause.max(wait);
            elsewhere |= !SAME_EVERYWHERE.contains(&reason.reason.as_str());
            self.last = Some(reason);
            again.push((slot, entry));
        }
        if again.is_empty() {
            self.finish();
            return Next::Finished;
        }
        self.turned_away += 1;
        self.bytes = again.iter().map(|(_, entry)| entry.bytes()).sum();
        self.waiting = again;
        Next::Again {
            ticket: Box::new(self),
            at: now + pause,
            elsewhere,
        }
    }

    /// Ends it without (further) answers: all that waits gets `reason`, or its last one. `in_flight`: a frame with it
    /// is unanswered.
    pub(super) fn give_up(mut self, reason: Option<&Reason>, in_flight: bool) {
        for (slot, entry) in std::mem::take(&mut self.waiting) {
            let reason = reason.or(self.last.as_ref()).cloned().unwrap_or_else(|| {
                if in_flight {
                    local(
                        Code::DeadlineExceeded,
                        "NO_ANSWER",
                        "the deadline came before the answer",
                    )
                } else {
                    local(
                        Code::DeadlineExceeded,
                        "NO_NODE_REACHABLE",
                        "the deadline came before a node took it",
                    )
                }
            });
            self.fill(slot, Err(settle(reason, entry.maybe_done || in_flight)));
        }
        self.finish();
    }

    fn fill(&mut self, slot: usize, result: Result<Enqueued>) {
        if let Some(place) = self.results.get_mut(slot) {
            *place = Some(result);
        }
    }

    fn finish(self) {
        let missing = || Error::Unknown(Box::new(local(Code::Internal, "BAD_ANSWER", "no result")));
        let results = self
            .results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| Err(missing())))
            .collect();
        // A caller that stopped waiting does not mind.
        let _ = self.done.send(results);
    }
}

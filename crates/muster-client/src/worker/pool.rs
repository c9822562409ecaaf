//! The attempts a worker runs and what it has to say about them. Knows nothing of streams.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::FutureExt;
use muster_proto::v1;
use muster_proto::v1::attempt_report::Outcome;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::Instrument;

use super::context::{Context, StopReason};
use super::failure::JobError;
use super::handler::{RawPayload, Registered};
use super::stats::{Counters, add};

/// Reports in one frame at most.
const REPORTS_MAX: usize = 10_000;

/// An attempt that ended. `None`: it was dropped.
struct Ended {
    fence: u64,
    result: Option<Result<Bytes, JobError>>,
}

/// Tells the pool when the attempt's task ends, in whatever way.
struct Slot {
    ended: mpsc::UnboundedSender<Ended>,
    fence: u64,
    result: Option<Result<Bytes, JobError>>,
}

impl Slot {
    fn end(mut self, result: Result<Bytes, JobError>) {
        self.result = Some(result);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _ = self.ended.send(Ended {
            fence: self.fence,
            result: self.result.take(),
        });
    }
}

struct Running {
    job_id: String,
    context: Context,
    /// `None`: blocks a thread, cannot be dropped.
    abort: Option<AbortHandle>,
    /// Which of the worker's sessions got it.
    session: u64,
    /// Slots that it takes.
    slots: u32,
    /// Its end is of no interest any more, or was reported already.
    silent: bool,
}

pub(super) struct Pool {
    handlers: Arc<HashMap<String, Registered>>,
    counters: Arc<Counters>,
    running: HashMap<u64, Running>,
    ended: mpsc::UnboundedSender<Ended>,
    ends: mpsc::UnboundedReceiver<Ended>,
    collected: Vec<Ended>,
    /// To be sent.
    reports: Vec<v1::AttemptReport>,
    credits: u32,
    /// Sent, not answered.
    unacknowledged: HashMap<u64, v1::AttemptReport>,
    /// By lease: the session that got it, until its end is known to the cluster.
    leases: HashMap<u64, u64>,
    session: u64,
    /// When the leases of earlier sessions are gone for certain.
    orphans_until: Option<Instant>,
    room: u32,
}

impl Pool {
    pub(super) fn new(handlers: Arc<HashMap<String, Registered>>, counters: Arc<Counters>, concurrency: u32) -> Self {
        let (ended, ends) = mpsc::unbounded_channel();
        Self {
            handlers,
            counters,
            running: HashMap::new(),
            ended,
            ends,
            collected: Vec::new(),
            reports: Vec::new(),
            credits: 0,
            unacknowledged: HashMap::new(),
            leases: HashMap::new(),
            session: 0,
            orphans_until: None,
            room: concurrency,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Nothing to say and nothing waited for.
    pub(super) fn is_settled(&self) -> bool {
        self.reports.is_empty() && self.unacknowledged.is_empty()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.reports.is_empty() || self.credits > 0
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn has_orphans(&self) -> bool {
        self.orphans_until.is_some()
    }

    /// The session that began last.
    pub(super) fn session(&self) -> u64 {
        self.session
    }

    /// Has the cluster yet to hear how a lease of this session, or of an earlier one, ended?
    pub(super) fn owes(&self, session: u64) -> bool {
        self.leases.values().any(|of| *of <= session)
    }

    /// A session begins: all free slots are room, unanswered reports go again.
    pub(super) fn session_opened(&mut self) {
        self.session += 1;
        let taken: u32 = self.running.values().map(|running| running.slots).sum();
        self.credits = self.room.saturating_sub(taken);
        self.reports
            .extend(self.unacknowledged.drain().map(|(_, report)| report));
    }

    /// The stream broke: the leases stand until `until` at the latest, since nothing renews them.
    pub(super) fn session_lost(&mut self, until: Instant) {
        if !self.running.is_empty() {
            self.orphans_until = Some(until);
        }
    }

    /// What is to be sent now.
    pub(super) fn take_frame(&mut self) -> v1::WorkerFrame {
        let rest = if self.reports.len() > REPORTS_MAX {
            self.reports.split_off(REPORTS_MAX)
        } else {
            Vec::new()
        };
        let reports = std::mem::replace(&mut self.reports, rest);
        for report in &reports {
            self.unacknowledged.insert(report.fence, report.clone());
        }
        v1::WorkerFrame {
            reports,
            credits: std::mem::take(&mut self.credits),
            quiet: false,
            bye: false,
        }
    }

    /// Begins the attempts of a frame and takes its answers and stops.
    pub(super) fn on_frame(&mut self, frame: v1::NodeFrame) {
        for ack in frame.acks {
            self.on_ack(&ack);
        }
        for stop in frame.stops {
            match stop.reason() {
                v1::stop_attempt::Reason::LeaseLost => self.lease_lost(stop.fence),
                v1::stop_attempt::Reason::Cancel => {
                    if let Some(running) = self.running.get(&stop.fence) {
                        running.context.stop(StopReason::Cancel);
                    }
                }
                v1::stop_attempt::Reason::Unspecified => {}
            }
        }
        for job in frame.jobs {
            self.start(job);
        }
    }

    fn on_ack(&mut self, ack: &v1::ReportAck) {
        self.leases.remove(&ack.fence);
        let Some(report) = self.unacknowledged.remove(&ack.fence) else {
            return;
        };
        if ack.result() == v1::report_ack::Result::LeaseLost {
            add(&self.counters.leases_lost);
            return;
        }
        match report.outcome {
            Some(Outcome::Succeeded(_)) => add(&self.counters.succeeded),
            Some(Outcome::Failed(_)) => add(&self.counters.failed),
            Some(Outcome::Snoozed(_)) => add(&self.counters.snoozed),
            Some(Outcome::Throttled(_)) => add(&self.counters.throttled),
            Some(Outcome::Cancelled(_)) => add(&self.counters.cancelled),
            Some(Outcome::Preempted(_)) => add(&self.counters.preempted),
            None => {}
        }
    }

    fn start(&mut self, mut job: v1::LeasedJob) {
        let fence = job.fence;
        let slots = job.slots.max(1);
        self.leases.insert(fence, self.session);
        let (Ok(id), Some(handler)) = (job.id.parse(), self.handlers.get(&job.kind)) else {
            // Neither can happen with a server that keeps to the protocol.
            let error = JobError::retry(format!("no handler for kind {:?}", job.kind)).with_class("NoHandler");
            self.credits += slots;
            self.report(job.id, fence, error.into_outcome());
            return;
        };
        let payload = job.payload.take().unwrap_or_default();
        let payload = RawPayload {
            data: payload.data,
            content_type: payload.content_type,
        };
        let context = Context::new(id, &mut job);
        let span = tracing::info_span!("job", id = job.id, kind = job.kind, attempt = job.attempt);
        let slot = Slot {
            ended: self.ended.clone(),
            fence,
            result: None,
        };
        let registered = handler.clone();
        let blocking = registered.blocking;
        let own = context.clone();
        let counters = Arc::clone(&self.counters);
        let task = async move {
            let attempt = AssertUnwindSafe(async { registered.run(payload, own).await });
            slot.end(match attempt.catch_unwind().await {
                Ok(result) => result,
                Err(panic) => {
                    add(&counters.panicked);
                    Err(JobError::panicked(&*panic))
                }
            });
        };
        let task = tokio::spawn(task.instrument(span));
        let abort = (!blocking).then(|| task.abort_handle());
        let running = Running {
            job_id: job.id,
            context,
            abort,
            session: self.session,
            slots,
            silent: false,
        };
        self.running.insert(fence, running);
        add(&self.counters.started);
        self.counters
            .running
            .store(self.running.len() as u64, Ordering::Relaxed);
    }

    /// Waits until an attempt ends, then takes all that have. Cancel-safe.
    pub(super) async fn some_ended(&mut self) {
        if self.collected.is_empty() && self.ends.recv_many(&mut self.collected, REPORTS_MAX).await == 0 {
            // The pool holds a sender itself.
            std::future::pending::<()>().await;
        }
    }

    /// Turns what ended into reports.
    pub(super) fn take_ended(&mut self) {
        while let Ok(ended) = self.ends.try_recv() {
            self.collected.push(ended);
        }
        for ended in std::mem::take(&mut self.collected) {
            let Some(running) = self.running.remove(&ended.fence) else {
                continue;
            };
            self.credits += running.slots;
            let stop = running.context.stop_reason();
            let outcome = match ended.result {
                _ if running.silent => None,
                None => None,
                Some(Ok(result)) => Some(Outcome::Succeeded(v1::Succeeded { result })),
                Some(Err(_)) if stop == Some(StopReason::Cancel) => Some(Outcome::Cancelled(v1::AttemptCancelled {})),
                Some(Err(_)) if stop == Some(StopReason::Shutdown) => Some(Outcome::Preempted(v1::Preempted {})),
                Some(Err(error)) => Some(error.into_outcome()),
            };
            if let Some(outcome) = outcome {
                self.report(running.job_id, ended.fence, outcome);
            } else if !running.silent {
                self.leases.remove(&ended.fence);
            }
        }
        self.counters
            .running
            .store(self.running.len() as u64, Ordering::Relaxed);
    }

    fn report(&mut self, job_id: String, fence: u64, outcome: Outcome) {
        self.reports.push(v1::AttemptReport {
            job_id,
            fence,
            outcome: Some(outcome),
        });
    }

    /// The attempt must have no further effect and wants no report.
    fn lease_lost(&mut self, fence: u64) {
        if let Some(running) = self.running.get_mut(&fence)
            && !running.silent
        {
            running.silent = true;
            self.leases.remove(&fence);
            running.context.stop(StopReason::LeaseLost);
            if let Some(abort) = &running.abort {
                abort.abort();
            }
            add(&self.counters.leases_lost);
        }
    }

    /// Gives up the attempts of earlier sessions once their leases are gone.
    pub(super) fn expire_orphans(&mut self, now: Instant) {
        if self.orphans_until.is_none_or(|until| until > now) {
            return;
        }
        self.orphans_until = None;
        let current = self.session;
        let orphans: Vec<u64> = self
            .running
            .iter()
            .filter(|(_, running)| running.session < current)
            .map(|(fence, _)| *fence)
            .collect();
        for fence in orphans {
            self.lease_lost(fence);
        }
    }

    /// Asks all attempts to stop because the worker does.
    pub(super) fn ask_to_stop(&self) {
        for running in self.running.values() {
            running.context.stop(StopReason::Shutdown);
        }
    }

    /// Hands back all attempts that still run.
    pub(super) fn preempt_all(&mut self) {
        let mut handed_back = Vec::new();
        for (fence, running) in &mut self.running {
            if running.silent {
                continue;
            }
            running.silent = true;
            if let Some(abort) = &running.abort {
                abort.abort();
            }
            handed_back.push((running.job_id.clone(), *fence));
        }
        for (job_id, fence) in handed_back {
            self.report(job_id, fence, Outcome::Preempted(v1::Preempted {}));
        }
    }
}

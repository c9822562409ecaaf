//! A session as all who deal with it share it: the worker's stream, the apply path, and the actor that proposes.
//!
//! Jobs go from `apply` straight into the outbox: no actor lies on their way. The actor only drives proposals; when it
//! crashes, its successor finds the whole session here.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use muster_core::{LeaseId, SessionId};
use muster_failpoint::failpoint;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};

use super::actor::SessionMsg;
use super::inbox::{Inbox, Step};
use super::outbox::{Delivery, Held, Outbox};
use super::types::{ReportAck, SessionEnd, SessionInput, SessionOutput, Stop, StopReason};
use crate::mailbox::Mailbox;
use crate::metrics;

#[derive(Debug)]
pub(crate) struct Link {
    pub id: SessionId,
    pub ttl: Duration,
    /// Its worker lives in this node.
    pub local: bool,
    /// The actor that drives this session, when it lives.
    pub actor: Mailbox<SessionMsg>,
    inbox: Mutex<Inbox>,
    outbox: Mutex<Outbox>,
    ready: Notify,
    /// One permit per report between `send` and the taking of its acknowledgement.
    room: Semaphore,
    room_max: usize,
    /// Frames that wait for room: as long as there are some, the worker is not silent, the node is slow.
    waiting: AtomicUsize,
    poked: AtomicBool,
    born: Instant,
    /// Milliseconds after `born`.
    heard: AtomicU64,
    vouched: AtomicU64,
    /// True once the log knows the session.
    open: AtomicBool,
    /// When the worker must have gone elsewhere.
    leave_by: Mutex<Option<Instant>>,
    end: watch::Sender<Option<SessionEnd>>,
}

impl Link {
    pub(crate) fn new(id: SessionId, ttl: Duration, reports_max: usize, local: bool) -> Self {
        Self {
            id,
            ttl,
            local,
            actor: Mailbox::default(),
            inbox: Mutex::default(),
            outbox: Mutex::default(),
            ready: Notify::new(),
            room: Semaphore::new(reports_max),
            room_max: reports_max,
            waiting: AtomicUsize::new(0),
            poked: AtomicBool::new(false),
            born: Instant::now(),
            heard: AtomicU64::new(0),
            vouched: AtomicU64::new(0),
            open: AtomicBool::new(false),
            leave_by: Mutex::new(None),
            end: watch::Sender::new(None),
        }
    }

    // ---- the worker's side ----

    /// Takes in a frame; waits while too many reports are unanswered. False when the session is closing or over.
    pub(crate) async fn send(&self, mut input: SessionInput) -> bool {
        self.touch();
        while input.reports.len() > self.room_max {
            let rest = input.reports.split_off(self.room_max);
            let reports = std::mem::replace(&mut input.reports, rest);
            let part = SessionInput {
                reports,
                ..SessionInput::default()
            };
            if !self.send_part(part).await {
                return false;
            }
        }
        self.send_part(input).await
    }

    async fn send_part(&self, input: SessionInput) -> bool {
        let room = {
            let _waiting = Waiting::new(&self.waiting);
            self.room.acquire_many(input.reports.len() as u32).await
        };
        self.touch();
        let Ok(permits) = room else {
            return false;
        };
        let says_something = !input.reports.is_empty() || input.credits > 0 || input.quiet || input.bye;
        failpoint!("session.input.received");
        if !self.inbox.lock().take(input) {
            return false;
        }
        // Given back when the acknowledgement is taken.
        permits.forget();
        if says_something {
            self.poke();
        }
        true
    }

    /// Waits for the next output. `None` when the session is over and all is taken. Safe to cancel.
    pub(crate) async fn next(&self) -> Option<SessionOutput> {
        loop {
            let ready = self.ready.notified();
            let (output, closed) = {
                let mut outbox = self.outbox.lock();
                (outbox.take(), outbox.is_closed())
            };
            if let Some(output) = output {
                failpoint!("session.output.before_send");
                self.room.add_permits(output.acks.len());
                return Some(output);
            }
            if closed {
                return None;
            }
            ready.await;
        }
    }

    /// Asks for the end of the session; what is reported is made durable first.
    pub(crate) fn ask_close(&self, end: SessionEnd) {
        self.inbox.lock().close(end);
        self.poke();
    }

    /// Asks the worker to go elsewhere; it gets no more jobs here. One that stays is closed at `by`. The first time
    /// counts.
    pub(crate) fn ask_leave(&self, by: Instant) {
        if self.leave_by.lock().replace(by).is_some() {
            return;
        }
        self.inbox.lock().quieten();
        self.outbox.lock().ask_leave();
        self.ready.notify_one();
        self.poke();
    }

    /// When a worker that was asked to leave must have gone.
    pub(crate) fn leave_by(&self) -> Option<Instant> {
        *self.leave_by.lock()
    }

    /// Like [`Link::ask_close`], but leaves the proposal to the caller. Returns the reason that counts: the first.
    pub(crate) fn close_as(&self, end: SessionEnd) -> SessionEnd {
        let mut inbox = self.inbox.lock();
        inbox.close(end);
        inbox.closing().unwrap_or(end)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.inbox.lock().is_closing()
    }

    fn poke(&self) {
        if !self.poked.swap(true, Ordering::AcqRel) && !self.actor.cast(SessionMsg::Drive) {
            // No actor now: the next one looks for work when it starts.
            self.poked.store(false, Ordering::Release);
        }
    }

    // ---- the apply path ----

    pub(crate) fn deliver(&self, delivery: Delivery) {
        let now = Instant::now();
        self.outbox.lock().deliver(delivery.jobs, delivery.stops, now);
        self.ready.notify_one();
        if delivery.closed {
            self.closed_by_state();
        }
    }

    /// The replicated state has no such session (any more).
    pub(crate) fn closed_by_state(&self) {
        let asked = self.inbox.lock().closing();
        self.finish(asked.unwrap_or(SessionEnd::Lost));
        self.actor.cast(SessionMsg::Over);
    }

    // ---- the actor's side ----

    /// Called before looking for work, so that what comes during the look pokes again.
    pub(crate) fn unpoke(&self) {
        self.poked.store(false, Ordering::Release);
    }

    pub(crate) fn next_step(&self, batch_max: usize) -> Option<Step> {
        self.inbox.lock().next(batch_max)
    }

    /// A flight is through: answers go to the worker.
    pub(crate) fn landed(&self, number: u64, replies: &[muster_core::ReportReply]) {
        failpoint!("report.answer.before");
        let Some(flight) = self.inbox.lock().landed(number) else {
            return;
        };
        // The core answers each result; should one be missing, the worker must not wait for ever.
        let replies = replies
            .iter()
            .copied()
            .chain(std::iter::repeat(muster_core::ReportReply::LeaseLost));
        let acks: Vec<_> = flight
            .reports
            .iter()
            .zip(replies)
            .map(|(report, reply)| ReportAck {
                job: report.job,
                lease: report.lease,
                reply,
            })
            .collect();
        metrics::acknowledged(&acks);
        let runs = self.outbox.lock().acknowledge(acks, Instant::now());
        failpoint!("report.answer.after");
        metrics::ran(&runs);
        self.ready.notify_one();
    }

    pub(crate) fn quieted(&self) {
        self.inbox.lock().quieted();
    }

    pub(crate) fn recover(&self) {
        self.inbox.lock().recover();
    }

    /// The session is over: nothing is let in or delivered any more; what waits in the outbox can still be taken.
    pub(crate) fn finish(&self, end: SessionEnd) {
        self.end.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(end);
            }
            first
        });
        self.inbox.lock().close(end);
        self.outbox.lock().close();
        self.room.close();
        self.ready.notify_one();
    }

    pub(crate) fn end(&self) -> Option<SessionEnd> {
        *self.end.borrow()
    }

    pub(crate) fn ended(&self) -> watch::Receiver<Option<SessionEnd>> {
        self.end.subscribe()
    }

    pub(crate) fn opened(&self) {
        self.touch();
        self.vouched
            .store(self.heard.load(Ordering::Acquire), Ordering::Release);
        self.open.store(true, Ordering::Release);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    // ---- reconciliation ----

    /// Leases the worker holds and has not reported, as of now.
    pub(crate) fn held(&self) -> Vec<(LeaseId, Held)> {
        let reported: std::collections::HashSet<_> = self.inbox.lock().reported().collect();
        let outbox = self.outbox.lock();
        let held = outbox.held().iter();
        held.filter(|(lease, _)| !reported.contains(lease))
            .map(|(lease, held)| (*lease, *held))
            .collect()
    }

    /// A stop for each of these leases that the worker still holds.
    pub(crate) fn revoke(&self, leases: Vec<(LeaseId, Held)>) {
        let stops = leases
            .into_iter()
            .map(|(lease, held)| Stop {
                job: held.job,
                lease,
                reason: StopReason::LeaseLost,
            })
            .collect();
        self.deliver(Delivery {
            stops,
            ..Delivery::default()
        });
    }

    // ---- signs of life ----

    fn touch(&self) {
        self.heard.store(self.age(Instant::now()), Ordering::Release);
    }

    fn age(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_millis() as u64
    }

    /// When the worker has been silent for too long.
    pub(crate) fn silent_at(&self) -> Instant {
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.touch();
        }
        self.born + Duration::from_millis(self.heard.load(Ordering::Acquire)) + self.ttl
    }

    /// When the leader should next hear of this session.
    pub(crate) fn vouch_at(&self) -> Instant {
        self.born + Duration::from_millis(self.vouched.load(Ordering::Acquire)) + self.ttl / 3
    }

    pub(crate) fn vouched(&self, now: Instant) {
        self.vouched.store(self.age(now), Ordering::Release);
    }
}

/// Counts a frame that waits, also when its sender is dropped meanwhile.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

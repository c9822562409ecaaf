//! The task that sends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use muster_proto::v1;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::metadata::{Ascii, MetadataValue};

use super::connection::{Connection, OpenFailure, open, stream_ended};
use super::ticket::{Next, Ticket};
use super::{FRAME_BYTES_MAX, FRAME_JOBS_MAX};
use crate::error::{Attempt, Reason};
use crate::members::{DOUBT, Members};

/// How often deadlines are looked at while something waits.
const SWEEP: Duration = Duration::from_millis(20);
/// Frames turned away in a row before another node is tried.
const TURNED_AWAY_MAX: u32 = 2;
/// A change of stream because of a hint happens at most this often: two nodes may name each other for a moment.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);

enum Link {
    Down,
    Opening(BoxFuture<'static, Result<Box<Connection>, OpenFailure>>),
    Up(Box<Connection>),
}

enum Event {
    Opened(Result<Box<Connection>, OpenFailure>),
    Response(v1::EnqueueStreamResponse),
    Broken(Attempt),
}

impl Link {
    /// What happens next on it. Cancel-safe; never, while it is down.
    async fn next(&mut self) -> Event {
        match self {
            Self::Down => std::future::pending().await,
            Self::Opening(opening) => Event::Opened(opening.await),
            Self::Up(connection) => match connection.next().await {
                Ok(Some(response)) => Event::Response(response),
                Ok(None) => Event::Broken(stream_ended(&connection.address)),
                Err(status) => Event::Broken(Attempt::from_status(&status)),
            },
        }
    }
}

pub(super) struct Driver {
    members: Arc<Members>,
    tenant: MetadataValue<Ascii>,
    incoming: mpsc::UnboundedReceiver<Ticket>,
    /// To be sent, oldest first, with the sums of its jobs and bytes.
    queue: VecDeque<Ticket>,
    jobs: usize,
    bytes: usize,
    /// To be sent later.
    delayed: Vec<(Instant, Ticket)>,
    link: Link,
    /// Frames in a row of which every job was turned away.
    turned_away: u32,
    followed_at: Option<Instant>,
    /// While the stream's node stays silent: ends when another is known to lead.
    doubt: Option<BoxFuture<'static, ()>>,
}

/// The end of a doubt; never, without one. Cancel-safe.
async fn confirmed(doubt: &mut Option<BoxFuture<'static, ()>>) {
    match doubt {
        Some(doubt) => doubt.await,
        None => std::future::pending().await,
    }
}

impl Driver {
    pub(super) fn new(
        members: Arc<Members>,
        tenant: MetadataValue<Ascii>,
        incoming: mpsc::UnboundedReceiver<Ticket>,
    ) -> Self {
        Self {
            members,
            tenant,
            incoming,
            queue: VecDeque::new(),
            jobs: 0,
            bytes: 0,
            delayed: Vec::new(),
            link: Link::Down,
            turned_away: 0,
            followed_at: None,
            doubt: None,
        }
    }

    /// Runs until all callers are gone and all tickets are answered or given up.
    pub(super) async fn run(mut self) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut arrived = Vec::new();
        let mut open = true;
        while open || self.has_work() {
            self.send();
            let has_work = self.has_work();
            tokio::select! {
                biased;
                event = self.link.next() => self.on_event(event),
                count = self.incoming.recv_many(&mut arrived, FRAME_JOBS_MAX), if open => {
                    open = count > 0;
                    // One caller woke this task; those that the same response woke come right after. Letting them run
                    // first makes one frame of them all.
                    tokio::task::yield_now().await;
                    while arrived.len() < 2 * FRAME_JOBS_MAX && let Ok(ticket) = self.incoming.try_recv() {
                        arrived.push(ticket);
                    }
                    for ticket in arrived.drain(..) {
                        self.jobs += ticket.jobs();
                        self.bytes += ticket.bytes();
                        self.queue.push_back(ticket);
                    }
                }
                () = confirmed(&mut self.doubt) => self.leave_silent(DOUBT),
                _ = sweep.tick(), if has_work => self.sweep(Instant::now()),
            }
        }
    }

    fn has_work(&self) -> bool {
        let in_flight = matches!(&self.link, Link::Up(connection) if !connection.is_idle());
        in_flight || !self.queue.is_empty() || !self.delayed.is_empty()
    }

    /// Sends what waits, as far as the stream has room; opens one if there is none.
    fn send(&mut self) {
        while !self.queue.is_empty() {
            if matches!(&self.link, Link::Up(connection) if connection.leaving && connection.is_idle()) {
                self.link = Link::Down;
            }
            match &mut self.link {
                Link::Opening(_) => return,
                Link::Down => {
                    let pick = self.members.pick();
                    let opening = open(Arc::clone(&self.members), self.tenant.clone(), pick.address, pick.wait);
                    self.link = Link::Opening(Box::pin(opening));
                    return;
                }
                Link::Up(connection) => {
                    if !connection.has_room_for(self.jobs, self.bytes) {
                        return;
                    }
                    let tickets = next_frame(&mut self.queue, &mut self.jobs, &mut self.bytes);
                    if tickets.is_empty() {
                        return;
                    }
                    if let Err(tickets) = connection.send(tickets, Instant::now()) {
                        let attempt = stream_ended(&connection.address);
                        for ticket in tickets.into_iter().rev() {
                            self.put_back(ticket);
                        }
                        self.on_broken(attempt, Duration::ZERO);
                    }
                }
            }
        }
    }

    fn put_back(&mut self, ticket: Ticket) {
        self.jobs += ticket.jobs();
        self.bytes += ticket.bytes();
        self.queue.push_front(ticket);
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Opened(Ok(connection)) => {
                self.turned_away = 0;
                self.link = Link::Up(connection);
            }
            Event::Opened(Err(failure)) => {
                self.link = Link::Down;
                match failure.attempt {
                    Attempt::Refused(reason) => self.refuse_queue(&reason),
                    Attempt::Retry(reason) | Attempt::Unanswered(reason) => {
                        let silent = reason.code == tonic::Code::DeadlineExceeded;
                        let pause = if silent {
                            self.members.timing().attempt
                        } else {
                            Duration::ZERO
                        };
                        tracing::debug!(address = failure.address, %reason, "no enqueue stream");
                        self.members.failed(&failure.address, true, pause);
                    }
                }
            }
            Event::Response(response) => self.on_response(response),
            Event::Broken(attempt) => self.on_broken(attempt, Duration::ZERO),
        }
    }

    fn on_response(&mut self, response: v1::EnqueueStreamResponse) {
        self.doubt = None;
        let Link::Up(connection) = &mut self.link else { return };
        let now = Instant::now();
        let mut results = response.results.into_iter();
        let mut some_answered = false;
        for (jobs, ticket) in connection.take(response.sequence) {
            let mut own = results.by_ref().take(jobs);
            let Some(ticket) = ticket else {
                own.by_ref().for_each(drop);
                some_answered = true;
                continue;
            };
            match ticket.answer(own.by_ref(), now) {
                Next::Finished => some_answered = true,
                Next::Again { ticket, at, elsewhere } => {
                    some_answered |= !elsewhere;
                    self.delayed.push((at, *ticket));
                }
            }
        }
        if some_answered {
            if self.turned_away > 0 {
                self.members.answered(&connection.address);
            }
            self.turned_away = 0;
        } else {
            self.turned_away += 1;
        }
        let may_follow = self.followed_at.is_none_or(|at| now - at > FOLLOW_PAUSE);
        if !response.leader.is_empty() && may_follow && self.members.hint(&connection.address, &response.leader) {
            tracing::debug!(from = connection.address, to = response.leader, "following the leader");
            self.followed_at = Some(now);
            connection.leaving = true;
        } else if self.turned_away >= TURNED_AWAY_MAX {
            self.members.failed(&connection.address, false, Duration::ZERO);
            self.turned_away = 0;
            connection.leaving = true;
        }
    }

    /// The stream is gone: what it left unanswered goes to the next one, under the same ids.
    fn on_broken(&mut self, attempt: Attempt, leave_for: Duration) {
        self.doubt = None;
        let Link::Up(connection) = std::mem::replace(&mut self.link, Link::Down) else {
            return;
        };
        let address = connection.address.clone();
        match attempt {
            Attempt::Refused(reason) => {
                for mut ticket in connection.into_unanswered() {
                    ticket.unanswered(&reason);
                    ticket.give_up(Some(&reason), true);
                }
                self.refuse_queue(&reason);
            }
            Attempt::Retry(reason) | Attempt::Unanswered(reason) => {
                tracing::debug!(address, %reason, "enqueue stream broken");
                self.members.failed(&address, true, leave_for);
                for mut ticket in connection.into_unanswered().rev() {
                    ticket.unanswered(&reason);
                    self.put_back(ticket);
                }
            }
        }
    }

    /// The node has not answered for `time`: another one gets its frames, and it is left alone for as long as an attempt takes.
    fn leave_silent(&mut self, time: Duration) {
        if let Link::Up(connection) = &self.link {
            let attempt = Attempt::no_answer(time, &connection.address);
            self.on_broken(attempt, self.members.timing().attempt);
        }
    }

    /// The cluster will not have this client: everyone who waits is told.
    fn refuse_queue(&mut self, reason: &Reason) {
        let delayed = self.delayed.drain(..).map(|(_, ticket)| ticket);
        for ticket in self.queue.drain(..).chain(delayed) {
            ticket.give_up(Some(reason), false);
        }
        (self.jobs, self.bytes) = (0, 0);
    }

    /// Gives up what is past its deadline, queues what has waited out its pause, leaves a silent node.
    fn sweep(&mut self, now: Instant) {
        if let Link::Up(connection) = &mut self.link {
            connection.expire(now);
            let limit = self.members.timing().attempt;
            let silent_for = |time| {
                now.checked_sub(time)
                    .is_some_and(|since| connection.is_silent_since(since))
            };
            if silent_for(limit) {
                self.leave_silent(limit);
            } else if self.doubt.is_none() && silent_for(DOUBT) {
                let (members, address) = (Arc::clone(&self.members), connection.address.clone());
                self.doubt = Some(Box::pin(async move { members.until_led_elsewhere(&address).await }));
            }
        }
        if self.queue.iter().any(|ticket| ticket.is_expired(now)) {
            for ticket in std::mem::take(&mut self.queue) {
                if ticket.is_expired(now) {
                    self.jobs -= ticket.jobs();
                    self.bytes -= ticket.bytes();
                    ticket.give_up(None, false);
                } else {
                    self.queue.push_back(ticket);
                }
            }
        }
        for (at, ticket) in std::mem::take(&mut self.delayed) {
            if ticket.is_expired(now) {
                ticket.give_up(None, false);
            } else if at <= now {
                self.jobs += ticket.jobs();
                self.bytes += ticket.bytes();
                self.queue.push_back(ticket);
            } else {
                self.delayed.push((at, ticket));
            }
        }
    }
}

/// Takes the tickets of one frame off the queue: at least one, within the frame's bounds. Abandoned ones are dropped.
fn next_frame(queue: &mut VecDeque<Ticket>, jobs_left: &mut usize, bytes_left: &mut usize) -> Vec<Ticket> {
    let mut frame = Vec::new();
    let (mut jobs, mut bytes) = (0, 0);
    while let Some(ticket) = queue.front() {
        let fits = jobs + ticket.jobs() <= FRAME_JOBS_MAX && bytes + ticket.bytes() <= FRAME_BYTES_MAX;
        if !fits && !frame.is_empty() {
            break;
        }
        let Some(ticket) = queue.pop_front() else { break };
        *jobs_left -= ticket.jobs();
        *bytes_left -= ticket.bytes();
        if ticket.is_abandoned() {
            continue;
        }
        jobs += ticket.jobs();
        bytes += ticket.bytes();
        frame.push(ticket);
    }
    frame
}

//! The way of commands into the log.
//!
//! On the leader everything that waits becomes one entry, encoded once; there is no linger: the sync of the entry in
//! flight is what forms the next batch. On a follower the same gathering sends groups to the leader. A group that comes
//! back is repeated as long as its callers wait, which is safe since every command is idempotent.

mod admission;
mod call;
mod entry;
mod forward;
mod gates;
mod submit;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use muster_core::NodeId;
use muster_failpoint::failpoint;
use muster_proto::peer as wire;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use admission::{Admission, for_jobs};
pub(crate) use call::{Call, CallResult, Fate, Full, brings_jobs, command_bytes};
pub(crate) use submit::Submitter;

use crate::clock::ReplicatedClock;
use crate::error::Waits;
use crate::leadership::Lead;
use crate::options::RaftOptions;
use crate::peer::Channels;
use crate::proposer::call::Group;
use crate::proposer::forward::Link;
pub(crate) use crate::proposer::gates::Gates;
use crate::types::OpenRaft;

/// Entries or groups that may be in flight however small they are.
const SMALL_IN_FLIGHT: usize = 2;
/// Commands from which a further one is worth its sync.
const WORTHWHILE: usize = 256;
/// Groups on their way to the leader at most.
const FORWARDS_MAX: usize = 8;
/// Wait before a refused group is tried again, when the leader has not changed meanwhile.
const PAUSE: Duration = Duration::from_millis(20);
/// How often calls that nobody waits for are swept out while there is no leader.
const SWEEP: Duration = Duration::from_millis(250);

/// What becomes of things in flight.
pub(crate) enum Signal {
    EntryApplied,
    EntryReturned { calls: Vec<Call> },
    LinkReplied { generation: u64, reply: wire::ProposeReply },
    LinkEnded { generation: u64 },
}

/// Gathers calls; one per node, on the raft thread.
pub(crate) struct Proposer {
    options: RaftOptions,
    raft: OpenRaft,
    channels: Channels,
    lead: watch::Receiver<Lead>,
    calls: UnboundedReceiver<Call>,
    signals: (UnboundedSender<Signal>, UnboundedReceiver<Signal>),
    waiting: VecDeque<Call>,
    waiting_commands: usize,
    entries_in_flight: usize,
    link: Option<Link>,
    links_opened: u64,
    pause_until: Option<Instant>,
    clock: Arc<ReplicatedClock>,
    gates: Gates,
    /// When an entry of this leader was last applied.
    applied_at: Option<Instant>,
    /// Until then new jobs do not share groups with other commands: the leader refuses the whole of a group.
    apart_until: Option<Instant>,
}

impl Proposer {
    pub(crate) fn new(
        options: RaftOptions,
        raft: OpenRaft,
        channels: Channels,
        lead: watch::Receiver<Lead>,
        calls: UnboundedReceiver<Call>,
        clock: Arc<ReplicatedClock>,
        gates: Gates,
    ) -> Self {
        Self {
            options,
            raft,
            channels,
            lead,
            calls,
            signals: mpsc::unbounded_channel(),
            waiting: VecDeque::new(),
            waiting_commands: 0,
            entries_in_flight: 0,
            link: None,
            links_opened: 0,
            pause_until: None,
            clock,
            gates,
            applied_at: None,
            apart_until: None,
        }
    }

    /// Runs until `stop`; the calls that remain then end with their channels.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut arrived = Vec::new();
        loop {
            if !self.advance().await {
                return;
            }
            let nap = self.pause_until.unwrap_or_else(|| Instant::now() + SWEEP);
            let napping = self.pause_until.is_some() || !self.waiting.is_empty();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(signal) = self.signals.1.recv() => {
                    self.handle(signal);
                    while let Ok(signal) = self.signals.1.try_recv() {
                        self.handle(signal);
                    }
                    while let Ok(call) = self.calls.try_recv() {
                        self.enqueue(call);
                    }
                }
                changed = self.lead.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.pause_until = None;
                }
                count = self.calls.recv_many(&mut arrived, self.options.entry_commands_max) => {
                    if count == 0 {
                        return;
                    }
                    for call in arrived.drain(..) {
                        self.enqueue(call);
                    }
                }
                () = tokio::time::sleep_until(nap), if napping => {
                    self.pause_until = None;
                    self.sweep();
                }
            }
        }
    }

    fn enqueue(&mut self, call: Call) {
        if call.brings_jobs()
            && call.fate.certain()
            && let Some(full) = self.late()
        {
            gates::count_refused("late");
            call.refuse(full);
            return;
        }
        self.waiting_commands += call.count;
        self.waiting.push_back(call);
    }

    /// Puts calls that came back in front, in their order.
    fn put_back(&mut self, calls: Vec<Call>) {
        let now = Instant::now();
        for mut call in calls.into_iter().rev() {
            // What it waited for was something else.
            call.since = now;
            self.waiting_commands += call.count;
            self.waiting.push_front(call);
        }
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        let mut kept = 0;
        self.waiting.retain(|call| {
            let keep = !call.abandoned() && (!call.forwarded || call.deadline > now);
            kept += if keep { call.count } else { 0 };
            keep
        });
        self.waiting_commands = kept;
    }

    /// Sends on as much as may be in flight. False: raft has stopped.
    async fn advance(&mut self) -> bool {
        if self.pause_until.is_some_and(|until| until > Instant::now()) {
            return true;
        }
        let lead = *self.lead.borrow_and_update();
        match lead {
            Lead::Me { .. } => {
                self.drop_link();
                self.refuse_new_jobs();
                while self.room(self.entries_in_flight, self.options.entries_in_flight_max) {
                    let Some(group) = self.gather(false) else { break };
                    self.entries_in_flight += 1;
                    let stamp = self.clock.stamp();
                    if !entry::propose(&self.raft, group, stamp, &self.signals.0).await {
                        return false;
                    }
                }
            }
            Lead::Other { node, .. } => {
                self.refuse_forwarded();
                self.forward(node);
            }
            Lead::Nobody { .. } => {
                self.refuse_forwarded();
                self.drop_link();
            }
        }
        true
    }

    fn room(&self, in_flight: usize, max: usize) -> bool {
        let allowed = if self.waiting_commands >= WORTHWHILE {
            max
        } else {
            max.min(SMALL_IN_FLIGHT)
        };
        in_flight < allowed
    }

    /// The next group, within the caps of an entry; `None` when nothing waits. `apart`: it does not mix new jobs with others.
    fn gather(&mut self, apart: bool) -> Option<Group> {
        let mut group = Group::default();
        let mut jobs = None;
        let (mut count, mut bytes) = (0, 0);
        while let Some(call) = self.waiting.front() {
            let full =
                count + call.count > self.options.entry_commands_max || bytes + call.bytes > self.options.entry_bytes;
            let brings_jobs = apart && call.brings_jobs();
            let other = jobs.is_some_and(|jobs| jobs != brings_jobs);
            if (full || other) && !group.calls.is_empty() {
                break;
            }
            let Some(call) = self.waiting.pop_front() else { break };
            self.waiting_commands -= call.count;
            if call.abandoned() || !call.fate.hand_over() {
                continue;
            }
            count += call.count;
            bytes += call.bytes;
            jobs = Some(brings_jobs);
            group.push(call);
        }
        (!group.calls.is_empty()).then_some(group)
    }

    /// Calls from nodes that took this one for the leader: they know better where to go next.
    fn refuse_forwarded(&mut self) {
        if !self.waiting.iter().any(|call| call.forwarded) {
            return;
        }
        let (forwarded, own): (VecDeque<_>, _) = self.waiting.drain(..).partition(|call| call.forwarded);
        self.waiting = own;
        self.waiting_commands = self.waiting.iter().map(|call| call.count).sum();
        for call in forwarded {
            call.fail("this node is not the leader");
        }
    }

    fn forward(&mut self, leader: NodeId) {
        if self.link.as_ref().is_some_and(|link| link.leader != leader) {
            self.drop_link();
        }
        let apart = self.apart_until.is_some_and(|until| until > Instant::now());
        if apart && self.room(self.link.as_ref().map_or(0, Link::depth), FORWARDS_MAX) {
            self.put_new_jobs_last();
        }
        while !self.waiting.is_empty() && self.room(self.link.as_ref().map_or(0, Link::depth), FORWARDS_MAX) {
            let Some(group) = self.gather(apart) else { return };
            if self.link.is_none() {
                self.links_opened += 1;
                self.link = Some(Link::open(
                    &self.channels,
                    leader,
                    self.links_opened,
                    self.signals.0.clone(),
                ));
            }
            let Some(link) = &mut self.link else { return };
            if let Err(group) = link.send(group) {
                self.put_back(entry::taken_back(group));
                self.pause();
                return;
            }
        }
    }

    fn drop_link(&mut self) {
        if let Some(link) = self.link.take() {
            let calls = link.close();
            self.put_back(calls);
        }
    }

    fn pause(&mut self) {
        self.pause_until = Some(Instant::now() + PAUSE);
    }

    fn handle(&mut self, signal: Signal) {
        match signal {
            Signal::EntryApplied => {
                self.entries_in_flight -= 1;
                self.applied_at = Some(Instant::now());
            }
            Signal::EntryReturned { calls } => {
                self.entries_in_flight -= 1;
                self.put_back(calls);
                self.pause();
            }
            Signal::LinkReplied { generation, reply } => self.link_replied(generation, reply),
            Signal::LinkEnded { generation } => {
                if self.link.as_ref().is_some_and(|link| link.generation == generation) {
                    self.drop_link();
                    self.pause();
                }
            }
        }
    }

    fn link_replied(&mut self, generation: u64, reply: wire::ProposeReply) {
        let Some(link) = self.link.as_mut().filter(|link| link.generation == generation) else {
            return;
        };
        let Some(group) = link.take(reply.id) else { return };
        match reply.outcome() {
            wire::ProposeOutcome::Done => match forward::replies(&reply.replies) {
                Ok(replies) => {
                    failpoint!("proposal.forward.before_answer");
                    group.answer(replies);
                }
                Err(error) => {
                    tracing::error!(%error, "the leader's replies cannot be decoded");
                    self.put_back(entry::doubted(group));
                    self.pause();
                }
            },
            wire::ProposeOutcome::NotLeader => {
                self.put_back(entry::taken_back(group));
                self.pause();
            }
            wire::ProposeOutcome::Overloaded => {
                let what = if reply.in_bytes { Waits::Bytes } else { Waits::Commands };
                let (value, limit) = (reply.value, reply.limit);
                self.refused_by_leader(group, Full::Waiting { what, value, limit });
            }
            wire::ProposeOutcome::DiskFull => self.refused_by_leader(group, Full::Disk),
            wire::ProposeOutcome::MemoryFull => {
                let (used, limit) = (reply.value, reply.limit);
                self.refused_by_leader(group, Full::Memory { used, limit });
            }
            wire::ProposeOutcome::Late => {
                let (waited, lag_max) = (Duration::from_millis(reply.value), Duration::from_millis(reply.limit));
                self.refused_by_leader(group, Full::Late { waited, lag_max });
            }
            wire::ProposeOutcome::Unknown | wire::ProposeOutcome::Unspecified => {
                self.put_back(entry::doubted(group));
                self.pause();
            }
        }
    }
}

/// What callers are told to wait when too much waits already: a few syncs.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// What they are told when what waits has waited too long already.
const RETRY_LATE: Duration = Duration::from_millis(500);

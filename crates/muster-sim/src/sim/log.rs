//! The modelled replicated log: one leader, entries committed by a majority, the tail lost when the lead moves.
//!
//! All nodes hold prefixes of one log. When the lead moves, what the new leader lacks is cut off everywhere at once;
//! the votes guarantee that nothing committed is among it.

use std::rc::Rc;

use muster_core::{Batch, Command, Event, LogIndex, Reply};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::history::{self, Applied, FaultKind, Micros, Record, effects};
use crate::sim::defect::LogDefect;
use crate::sim::rng::mix;
use crate::sim::workers::Act;
use crate::sim::world::{Origin, What, World};

const BEAT: Micros = 10_000;
const FLUSH_AFTER: Micros = 1_500;
const ELECTION_AFTER: Micros = 150_000;
/// Entries between recounts, on average.
const RECOUNT_EVERY: u64 = 211;
/// Silence after which a session is lost, in milliseconds.
pub(crate) const TTL_MS: u64 = 1_500;

/// An entry of the log.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    /// Leader that made it.
    by: usize,
    pub(crate) batch: Batch,
    origins: Vec<Origin>,
    digest: u64,
}

impl World<'_> {
    /// Both nodes work and are on the same side.
    pub(crate) fn linked(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.nodes[one], &self.nodes[other]);
        one.works() && other.works() && one.side == other.side
    }

    fn has_quorum(&self, node: usize) -> bool {
        let side = (0..self.nodes.len()).filter(|other| self.linked(node, *other)).count();
        side * 2 > self.nodes.len()
    }

    /// The leader if it works and has a majority with it.
    pub(crate) fn able_leader(&self) -> Option<usize> {
        self.leader.filter(|leader| self.has_quorum(*leader))
    }

    pub(crate) fn beat(&mut self) {
        self.beats += 1;
        self.after(BEAT, What::Beat);
        let Some(leader) = self.able_leader() else {
            let since = *self.leaderless.get_or_insert(self.now);
            if self.now - since >= ELECTION_AFTER {
                self.vote(None);
            }
            return;
        };
        self.leaderless = None;
        for node in 0..self.nodes.len() {
            if node == leader || !self.linked(node, leader) {
                continue;
            }
            if self.nodes[node].held < self.log.len() as LogIndex {
                self.replicate(node);
            }
            if self.nodes[node].committed < self.commit {
                self.tell(node);
            }
        }
        let due = self.nodes[leader].core.next_due();
        let caught_up = self.nodes[leader].applied() == self.log.len() as LogIndex;
        if caught_up && due.is_some_and(|due| due <= self.clock(leader)) {
            self.append(vec![(Command::Tick, Origin::Nobody)]);
        }
        if self.beats.is_multiple_of(10) {
            self.watch_sessions(leader);
        }
    }

    /// Elects a node that may win, other than `not`. False if there is none.
    pub(crate) fn vote(&mut self, not: Option<usize>) -> bool {
        let quorum = self.nodes.len() / 2 + 1;
        let mut able: Vec<usize> = Vec::new();
        for node in (0..self.nodes.len()).filter(|node| Some(*node) != not) {
            let any = self.chosen.has(LogDefect::VoteIgnoresLog);
            let behind =
                |other: &usize| self.linked(node, *other) && (any || self.nodes[*other].held <= self.nodes[node].held);
            if (0..self.nodes.len()).filter(behind).count() >= quorum {
                able.push(node);
            }
        }
        if able.is_empty() {
            return false;
        }
        let winner = self.rng.pick(&able);
        self.elect(winner);
        true
    }

    /// A node takes the lead.
    pub(crate) fn elect(&mut self, node: usize) {
        self.term += u64::from(self.term == 0 || !self.chosen.has(LogDefect::TermNotRaised));
        let term = self.term;
        self.leader = Some(node);
        self.leaderless = None;
        self.pending.clear();
        let held = self.nodes[node].held;
        self.log.truncate(held as usize);
        for other in &mut self.nodes {
            other.held = other.held.min(held);
        }
        self.heard.clear();
        self.note(|at| {
            Record::Leader(history::Leader {
                at,
                node: node as u64,
                term,
            })
        });
        self.append(Vec::new());
        self.ready_from = self.log.len() as LogIndex;
    }

    /// Commands arrive at the leader, if there is a way there.
    pub(crate) fn deliver(&mut self, via: usize, commands: Vec<(Command, Origin)>) {
        let Some(leader) = self.leader.filter(|leader| self.linked(via, *leader)) else {
            if self.nodes[via].works() {
                self.effect(FaultKind::Partition);
            }
            return;
        };
        for (command, origin) in commands {
            if let Some((command, origin)) = self.search_history(leader, command, origin) {
                self.pending.push((command, origin));
            }
        }
        if !self.flush_due {
            self.flush_due = true;
            self.after(FLUSH_AFTER, What::Flush);
        }
    }

    pub(crate) fn flush(&mut self) {
        self.flush_due = false;
        let pending = std::mem::take(&mut self.pending);
        if self.leader.is_none_or(|leader| !self.nodes[leader].works()) {
            return;
        }
        if !pending.is_empty() {
            self.append(pending);
        }
    }

    /// The leader adds an entry and sends it out.
    pub(crate) fn append(&mut self, commands: Vec<(Command, Origin)>) {
        let Some(leader) = self.leader else { return };
        let (commands, origins): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
        if self.nodes[leader].skew != 0 && !commands.is_empty() {
            self.effect(FaultKind::ClockJump);
        }
        self.stats.commands += commands.len() as u64;
        let batch = Batch {
            stamped_at: self.clock(leader),
            commands,
        };
        let digest = if self.facts.is_some() { digest(&batch) } else { 0 };
        self.log.push(Rc::new(Entry {
            term: self.term,
            by: leader,
            batch,
            origins,
            digest,
        }));
        self.nodes[leader].held = self.log.len() as LogIndex;
        for node in (0..self.nodes.len()).filter(|node| *node != leader) {
            self.replicate(node);
        }
    }

    fn replicate(&mut self, node: usize) {
        if let Some(trip) = self.trip() {
            self.after(trip, What::Ack(node, self.log.len() as LogIndex, self.term));
        }
    }

    fn tell(&mut self, node: usize) {
        if let Some(trip) = self.trip() {
            self.after(trip, What::Learn(node, self.commit, self.term));
        }
    }

    /// The leader hears that a node has the log up to here.
    pub(crate) fn acknowledged(&mut self, node: usize, upto: LogIndex, term: u64) {
        let Some(leader) = self.leader.filter(|_| term == self.term) else {
            return;
        };
        if !self.linked(node, leader) {
            self.unreachable(node);
            return;
        }
        self.nodes[node].held = self.nodes[node].held.max(upto);
        let mut held: Vec<LogIndex> = self.nodes.iter().map(|node| node.held).collect();
        held.sort_unstable();
        let quorum = if self.chosen.has(LogDefect::AckBeforeQuorum) {
            held.len() - 1
        } else {
            (held.len() - 1) / 2
        };
        let majority = held[quorum];
        if majority <= self.commit {
            return;
        }
        self.commit = majority;
        self.nodes[leader].committed = majority;
        self.apply(leader);
        for other in (0..self.nodes.len()).filter(|other| *other != leader) {
            self.tell(other);
        }
    }

    fn unreachable(&mut self, node: usize) {
        if self.nodes[node].frozen {
            self.effect(FaultKind::Pause);
        } else if self.nodes[node].up {
            self.effect(FaultKind::Partition);
        }
    }

    pub(crate) fn learned(&mut self, node: usize, upto: LogIndex, term: u64) {
        let Some(leader) = self.leader.filter(|_| term == self.term) else {
            return;
        };
        if !self.linked(node, leader) {
            self.unreachable(node);
            return;
        }
        let known = &mut self.nodes[node];
        known.committed = known.committed.max(upto.min(known.held));
        self.apply(node);
    }

    /// A node applies what it knows to be committed.
    pub(crate) fn apply(&mut self, node: usize) {
        loop {
            let index = self.nodes[node].applied() + 1;
            if index > self.nodes[node].committed.min(self.nodes[node].held) {
                return;
            }
            let entry = Rc::clone(&self.log[index as usize - 1]);
            self.apply_entry(node, index, &entry);
        }
    }

    fn apply_entry(&mut self, node: usize, index: LogIndex, entry: &Entry) {
        let left_out =
            self.leader != Some(node) && index.is_multiple_of(89) && self.chosen.has(LogDefect::EntrySkipped);
        let twice = index == self.nodes[node].began_at + 1 && self.chosen.has(LogDefect::AppliedTwice);
        let core = &mut self.nodes[node].core;
        let commands = entry.batch.commands.len() as u64;
        if twice && commands > 0 {
            core.apply(index, entry.batch.clone());
        }
        let mut applied = if commands == 0 || left_out {
            core.skip(index);
            muster_core::Applied::default()
        } else {
            core.apply(index, entry.batch.clone())
        };
        self.stats.applied += commands;
        let first = self.hashes.len() < index as usize;
        let hash = core.meta().hash;
        if first {
            self.hashes.push(hash);
            self.trace = mix(self.trace ^ hash);
        } else if self.hashes[index as usize - 1] != hash && self.facts.is_none() {
            self.failures
                .push(format!("I28: node {node} differs from another at index {index}"));
        }
        if self.facts.is_some() {
            let core = &self.nodes[node].core;
            let now = core.meta().now;
            let counted = index.is_multiple_of(64);
            // Told by the place where each was first, not by what the core makes of it.
            let requests = &mut self.requests;
            for (position, command) in entry.batch.commands.iter().enumerate() {
                if let Command::Once { request, .. } = command {
                    requests.entry(*request).or_insert((index, position));
                }
            }
            let repeat = |position, request| requests.get(&request) != Some(&(index, position));
            // In some runs of all nodes, to be compared; it costs time.
            let effects = if first || self.options.seed % 4 == 1 {
                effects(core, &entry.batch.commands, &applied, repeat, counted)
            } else {
                Vec::new()
            };
            let life = self.nodes[node].life;
            let (term, digest) = (entry.term, entry.digest);
            self.note(|at| {
                Record::Applied(Applied {
                    at,
                    node: node as u64,
                    life,
                    index,
                    term,
                    digest,
                    now,
                    hash,
                    effects,
                })
            });
        }
        let ours = self.leader == Some(node) && entry.by == node && entry.term == self.term;
        for event in applied.events {
            self.route(node, index, first, event);
        }
        if ours && self.chosen.has(LogDefect::RepliesSwapped) {
            swap_replies(&mut applied.replies);
        }
        if ours {
            for ((origin, reply), command) in entry.origins.iter().zip(applied.replies).zip(&entry.batch.commands) {
                self.answer(node, index, *origin, reply, command);
            }
        }
        self.look_after(node, index);
    }

    /// Checkpoints and recounts now and then.
    fn look_after(&mut self, node: usize, index: LogIndex) {
        // Often in some runs, seldom in others, and never on all nodes at once.
        let every = (12 << (self.options.seed % 5)) + 7 * node as u64;
        let recounts = self.options.judged && self.options.recounts;
        if index.is_multiple_of(every) {
            let compare = recounts && index.is_multiple_of(every * 16);
            if let Err(fault) = self.nodes[node].checkpoint(compare) {
                self.failures
                    .push(format!("checkpoint: node {node} at index {index}: {fault}"));
            }
        }
        if recounts
            && (index + node as u64).is_multiple_of(RECOUNT_EVERY)
            && let Err(fault) = self.nodes[node].core.check_invariants()
        {
            self.failures
                .push(format!("recount: node {node} at index {index}: {fault}"));
        }
    }

    /// Sends events where they belong.
    fn route(&mut self, node: usize, index: LogIndex, first: bool, event: Event) {
        match event {
            Event::Assigned(assignment) => {
                if let Some(worker) = self.worker_at(node, assignment.session) {
                    self.send_worker(worker, Act::Start(assignment));
                }
            }
            Event::CancelAsked { session, lease, .. } => {
                if let Some(worker) = self.worker_at(node, session) {
                    self.send_worker(worker, Act::Stop(lease.fence(), true));
                }
            }
            Event::LeaseRevoked { session, lease, .. } => {
                if let Some(worker) = self.worker_at(node, session) {
                    self.send_worker(worker, Act::Stop(lease.fence(), false));
                }
            }
            Event::JobEnded(row) if first => {
                let id = row.spec.id;
                if let Some(key) = &row.spec.idempotency_key {
                    self.ended_keys.insert((row.spec.tenant.clone(), key.clone()), id);
                }
                if row.state == muster_core::JobState::Dead {
                    self.dead.push(id);
                }
                if self.ended.insert(id, row).is_some() && self.options.recounts {
                    self.failures
                        .push(format!("history: job {id} ended twice, again at index {index}"));
                }
            }
            _ => {}
        }
    }

    fn answer(&mut self, leader: usize, index: LogIndex, origin: Origin, reply: Reply, command: &Command) {
        match origin {
            Origin::Call { client, number } => self.answer_call(leader, index, (client, number), reply, command),
            Origin::Report { worker, job, fence } => {
                if let Reply::Reported(replies) = reply {
                    let accepted = !matches!(replies.first(), Some(muster_core::ReportReply::LeaseLost) | None);
                    self.send_worker(worker, Act::Told { job, fence, accepted });
                }
            }
            Origin::Open { worker, session } => {
                let open = reply == Reply::Done;
                self.send_worker(worker, Act::Opened(session, open));
            }
            Origin::Nobody => {}
        }
    }

    /// Faults over, everything in the log committed and applied everywhere.
    pub(crate) fn settle(&mut self) {
        for node in 0..self.nodes.len() {
            if !self.nodes[node].up
                && let Err(fault) = self.nodes[node].restart()
            {
                self.failures.push(format!("restore: node {node}: {fault}"));
                return;
            }
            self.nodes[node].frozen = false;
            self.nodes[node].side = 0;
        }
        if self.leader.is_none() && !self.vote(None) {
            self.failures.push("no node can lead".into());
            return;
        }
        let all = self.log.len() as LogIndex;
        self.commit = all;
        for node in 0..self.nodes.len() {
            self.nodes[node].held = all;
            self.nodes[node].committed = all;
            self.apply(node);
        }
    }
}

/// Swaps the answers to the first two jobs that were accepted.
fn swap_replies(replies: &mut [Reply]) {
    let accepted = replies
        .iter()
        .enumerate()
        .filter(|(_, reply)| matches!(reply, Reply::Enqueued(_)));
    let first: Vec<usize> = accepted.map(|(at, _)| at).take(2).collect();
    if let [one, other] = first[..] {
        replies.swap(one, other);
    }
}

/// Digest of an entry as it stands in the log.
fn digest(batch: &Batch) -> u64 {
    xxh3_64_with_seed(format!("{:?}", batch.commands).as_bytes(), batch.stamped_at)
}

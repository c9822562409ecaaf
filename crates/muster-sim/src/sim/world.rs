//! The simulated world: one clock, one queue of what is to happen, everything that lives in it.

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;

use muster_core::{Command, JobId, JobRow, LogIndex, Name, RequestId, SessionId};
use serde::Serialize;

use crate::facts::{Facts, Fast, Line};
use crate::history::{FaultKind, Header, Micros, Outcome, Record};
use crate::sim::clients::Client;
use crate::sim::defect::Chosen;
use crate::sim::log::Entry;
use crate::sim::node::Node;
use crate::sim::rng::{Rng, mix};
use crate::sim::script::{CLIENTS, Mode, Options, Script};
use crate::sim::workers::Worker;

/// Wall clock at time 0, in milliseconds since the Unix epoch.
pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;
/// Longest time from the last fault until everything is done.
pub(crate) const DRAIN_BOUND: Micros = 600_000_000;

/// Steps after which a run is given up: so many, and more for each call. A run that never drains stays far below.
const STEPS_MAX: u64 = 20_000_000;
const STEPS_PER_CALL_MAX: u64 = 1_000;

/// Who waits for the answer to a command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// A client's call.
    Call { client: u32, number: u32 },
    /// A worker's report of one attempt.
    Report { worker: usize, job: JobId, fence: u64 },
    /// A worker that opens a session.
    Open { worker: usize, session: SessionId },
    /// Nobody.
    Nobody,
}

/// Something that is to happen.
#[derive(Debug)]
pub(crate) enum What {
    /// Periodic: health of the lead, lagging nodes, timers, silent sessions.
    Beat,
    /// A client's turn.
    Client(u32),
    /// Commands reach the leader through this node.
    Deliver(usize, Vec<(Command, Origin)>),
    /// A client's read reaches the leader through a node.
    Read(usize, u32, u32),
    /// The leader makes an entry of what it has.
    Flush,
    /// A node has the log up to here on its disk, in this term.
    Ack(usize, LogIndex, u64),
    /// A node hears that the log is committed up to here, in this term.
    Learn(usize, LogIndex, u64),
    /// A client is answered.
    Reply(u32, u32, Outcome, Option<LogIndex>),
    /// A client waits no longer.
    Deadline(u32, u32),
    /// A worker's next act.
    Work(usize, crate::sim::workers::Act),
    /// A fault begins.
    Fault(usize),
    /// It is over.
    FaultOver(usize),
}

struct Due {
    at: Micros,
    sequence: u64,
    what: What,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// Disturbances in force, each counted as often as it was begun and is not over.
#[derive(Default)]
pub(crate) struct Weather {
    pub(crate) delay: u32,
    pub(crate) drop: u32,
    pub(crate) duplicate: u32,
    pub(crate) double_report: u32,
    pub(crate) late_report: u32,
}

/// A fault that is not over.
pub(crate) struct InForce {
    /// The node or worker that it is aimed at.
    pub(crate) target: usize,
    pub(crate) since: Micros,
    /// It was seen to do something.
    pub(crate) done: bool,
}

/// What was done, for the totals.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Commands in the log.
    pub commands: u64,
    /// Commands applied, by all nodes together.
    pub applied: u64,
    /// Calls of clients.
    pub calls: u64,
    /// Faults by kind: injected, and of these took effect.
    pub faults: BTreeMap<FaultKind, (u64, u64)>,
    /// Simulated time.
    pub micros: Micros,
}

pub(crate) struct World<'w> {
    pub(crate) options: Options,
    pub(crate) script: Script,
    pub(crate) chosen: Chosen,
    pub(crate) now: Micros,
    queue: BinaryHeap<Due>,
    sequence: u64,
    steps: u64,
    pub(crate) rng: Rng,
    pub(crate) nodes: Vec<Node>,
    pub(crate) log: Vec<Rc<Entry>>,
    pub(crate) term: u64,
    pub(crate) leader: Option<usize>,
    /// Index of the first entry of the leader's term: reads wait until it is applied.
    pub(crate) ready_from: LogIndex,
    pub(crate) commit: LogIndex,
    pub(crate) pending: Vec<(Command, Origin)>,
    pub(crate) flush_due: bool,
    /// Since when nobody leads who can.
    pub(crate) leaderless: Option<Micros>,
    pub(crate) beats: u64,
    /// When the leader last heard of a session.
    pub(crate) heard: BTreeMap<SessionId, Micros>,
    pub(crate) clients: Vec<Client>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) worker_of: BTreeMap<SessionId, usize>,
    /// Jobs asked for so far, with their tenants.
    pub(crate) known: Vec<(JobId, Name)>,
    /// History of ended jobs, as of the node that is furthest.
    pub(crate) ended: HashMap<JobId, Arc<JobRow>, Fast>,
    pub(crate) ended_keys: HashMap<(Name, Name), JobId, Fast>,
    pub(crate) dead: Vec<JobId>,
    /// Where administrative requests stand in the log for the first time: index, position in the entry.
    pub(crate) requests: BTreeMap<RequestId, (LogIndex, usize)>,
    /// State hash after each index, from the node that came there first.
    pub(crate) hashes: Vec<u64>,
    /// Highest fence the fenced resource has seen of each job.
    pub(crate) resource: HashMap<JobId, u64, Fast>,
    pub(crate) weather: Weather,
    pub(crate) in_force: BTreeMap<usize, InForce>,
    pub(crate) facts: Option<Facts>,
    /// Where the history goes besides.
    copy: Option<&'w mut dyn Write>,
    line: Line,
    pub(crate) stats: Stats,
    /// What the simulator itself found wrong.
    pub(crate) failures: Vec<String>,
    pub(crate) trace: u64,
}

impl<'w> World<'w> {
    pub(crate) fn new(options: Options, script: Script, chosen: Chosen, copy: Option<&'w mut dyn Write>) -> Self {
        let nodes = if options.seed.is_multiple_of(4) { 5 } else { 3 };
        let mut header = Header::new(format!("simulator, seed {}", options.seed));
        header.slack_us = 5_000_000;
        header.epoch_ms = EPOCH_MS;
        if options.mode == Mode::Liveness {
            header.demands.drained_within_us = Some(DRAIN_BOUND);
        }
        let mut world = Self {
            options,
            chosen,
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            steps: 0,
            rng: Rng::new(mix(options.seed) ^ 0x5eed),
            nodes: (0..nodes).map(|number| Node::new(number, chosen)).collect(),
            log: Vec::new(),
            term: 0,
            leader: None,
            ready_from: 0,
            commit: 0,
            pending: Vec::new(),
            flush_due: false,
            leaderless: None,
            beats: 0,
            heard: BTreeMap::new(),
            clients: (0..=CLIENTS).map(|number| Client::new(number, &script)).collect(),
            workers: Vec::new(),
            worker_of: BTreeMap::new(),
            known: Vec::new(),
            ended: HashMap::default(),
            ended_keys: HashMap::default(),
            dead: Vec::new(),
            requests: BTreeMap::new(),
            hashes: Vec::new(),
            resource: HashMap::default(),
            weather: Weather::default(),
            in_force: BTreeMap::new(),
            facts: options.judged.then(|| Facts::new(header.clone())),
            copy,
            line: 1,
            stats: Stats::default(),
            failures: Vec::new(),
            trace: 0,
            script,
        };
        world.copy_line(&header);
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.elect(0);
        self.at(0, What::Beat);
        for client in 0..=CLIENTS {
            self.at(0, What::Client(client));
        }
        self.hire();
        for number in 0..self.script.faults.len() {
            let fault = self.script.faults[number];
            self.at(fault.at, What::Fault(number));
        }
    }

    /// Puts something on the queue for this time.
    pub(crate) fn at(&mut self, at: Micros, what: What) {
        self.sequence += 1;
        self.queue.push(Due {
            at: at.max(self.now),
            sequence: self.sequence,
            what,
        });
    }

    /// Puts something on the queue for later.
    pub(crate) fn after(&mut self, wait: Micros, what: What) {
        self.at(self.now + wait, what);
    }

    /// Lets the next thing happen. False if the world has stopped.
    pub(crate) fn step(&mut self) -> bool {
        let Some(due) = self.queue.pop() else {
            return false;
        };
        self.now = due.at;
        self.steps += 1;
        if self.steps == STEPS_MAX + STEPS_PER_CALL_MAX * self.options.calls {
            self.failures.push(format!("no end: after {} steps", self.steps));
        }
        self.trace = mix(self.trace ^ due.at ^ due.sequence << 40);
        match due.what {
            What::Beat => self.beat(),
            What::Client(client) => self.client_turn(client),
            What::Deliver(via, commands) => self.deliver(via, commands),
            What::Read(via, client, number) => self.serve_read(via, client, number),
            What::Flush => self.flush(),
            What::Ack(node, upto, term) => self.acknowledged(node, upto, term),
            What::Learn(node, upto, term) => self.learned(node, upto, term),
            What::Reply(client, number, outcome, index) => self.replied(client, number, outcome, index),
            What::Deadline(client, number) => self.replied(client, number, Outcome::Info("timeout".into()), None),
            What::Work(worker, act) => self.work(worker, act),
            What::Fault(number) => self.begin_fault(number),
            What::FaultOver(number) => self.end_fault(number),
        }
        true
    }

    /// Writes into the history, if there is one.
    pub(crate) fn note(&mut self, record: impl FnOnce(Micros) -> Record) {
        if self.facts.is_none() {
            return;
        }
        let record = record(self.now);
        self.copy_line(&record);
        if let Some(facts) = &mut self.facts {
            self.line += 1;
            facts.see(self.line, record);
        }
    }

    fn copy_line(&mut self, what: &impl Serialize) {
        let Some(copy) = &mut self.copy else { return };
        let written = serde_json::to_writer(&mut *copy, what)
            .map_err(std::io::Error::from)
            .and_then(|()| copy.write_all(b"\n"));
        if let Err(fault) = written {
            self.failures.push(format!("copy: {fault}"));
        }
    }

    /// Wall clock of a node.
    pub(crate) fn clock(&self, node: usize) -> u64 {
        (EPOCH_MS + self.now / 1000).saturating_add_signed(self.nodes[node].skew)
    }

    /// Time a message takes; `None` = it is lost.
    pub(crate) fn trip(&mut self) -> Option<Micros> {
        if self.weather.drop > 0 && self.rng.percent(15) {
            self.effect(FaultKind::Drop);
            return None;
        }
        let mut time = self.rng.between(100, 800);
        if self.weather.delay > 0 && self.rng.percent(30) {
            self.effect(FaultKind::Delay);
            time += self.rng.between(5_000, 200_000);
        }
        Some(time)
    }

    /// All clients have made all their calls.
    pub(crate) fn clients_done(&self) -> bool {
        self.clients.iter().all(Client::done)
    }
}

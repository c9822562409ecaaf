//! Workers: they open sessions, run what they are given for a time and with an end that the fence decides, and report.

use std::collections::BTreeMap;

use bytes::Bytes;
use muster_core::{
    Assignment, AttemptOutcome, AttemptReport, Command, JobError, JobId, KindVersions, LeaseId, Name, SessionId,
    SessionSpec, WorkerClass,
};

use crate::history::{Answered, Ended, FaultKind, Micros, Record, Started, Wrote, how};
use crate::sim::calls::{KINDS, QUEUES, TENANTS};
use crate::sim::log::TTL_MS;
use crate::sim::rng::{Rng, mix};
use crate::sim::world::{Origin, What, World};

const WORKERS: usize = 6;
const REPORT_PATIENCE: Micros = 300_000;
const REPORTS_MAX: u32 = 8;

/// An attempt that runs, or whose report is not answered yet.
struct Run {
    job: JobId,
    /// Its limit keys.
    keys: Vec<Name>,
    /// Slots that it takes.
    slots: u64,
    began: Micros,
    /// Its end; `None` while it runs.
    outcome: Option<AttemptOutcome>,
    reports: u32,
}

pub(crate) struct Worker {
    name: Name,
    class: WorkerClass,
    capacity: u64,
    /// Its process runs.
    up: bool,
    /// Frozen until then.
    frozen_until: Micros,
    /// Lives of the process so far: acts of an earlier one come to nothing.
    life: u64,
    /// Connections so far.
    connections: u64,
    gateway: usize,
    session: Option<SessionId>,
    opened: bool,
    credit_total: u64,
    runs: BTreeMap<u64, Run>,
}

/// What a worker does, or what reaches it.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// It connects, in this life.
    Connect(u64),
    /// The session is open or refused.
    Opened(SessionId, bool),
    /// A job is handed over.
    Start(Box<Assignment>),
    /// The handler returns, in this life.
    Done(u64, u64),
    /// The report is sent, or sent again, in this life.
    Send(u64, u64),
    /// The report was answered.
    Told { job: JobId, fence: u64, accepted: bool },
    /// The attempt is to stop; true: because a cancel was asked for.
    Stop(u64, bool),
}

impl World<'_> {
    /// Makes the workers and lets them connect.
    pub(crate) fn hire(&mut self) {
        for number in 0..WORKERS {
            let capacity = 4 + 4 * (number as u64 % 3);
            let class = WorkerClass {
                slots: capacity as u32,
                ..class(number)
            };
            self.workers.push(Worker {
                name: format!("worker-{number}").into(),
                class,
                capacity,
                up: true,
                frozen_until: 0,
                life: 0,
                connections: 0,
                gateway: 0,
                session: None,
                opened: false,
                credit_total: 0,
                runs: BTreeMap::new(),
            });
            self.after(1_000, What::Work(number, Act::Connect(0)));
        }
    }

    /// The worker whose live stream this node holds for the session.
    pub(crate) fn worker_at(&self, node: usize, session: SessionId) -> Option<usize> {
        let number = *self.worker_of.get(&session)?;
        let worker = &self.workers[number];
        (worker.up && worker.session == Some(session) && worker.gateway == node).then_some(number)
    }

    pub(crate) fn send_worker(&mut self, worker: usize, act: Act) {
        let trip = self.rng.between(50, 500);
        self.after(trip, What::Work(worker, act));
    }

    pub(crate) fn work(&mut self, number: usize, act: Act) {
        let worker = &self.workers[number];
        if !worker.up {
            return;
        }
        if worker.frozen_until > self.now {
            let thaw = worker.frozen_until;
            self.effect(FaultKind::WorkerHang);
            self.at(thaw, What::Work(number, act));
            return;
        }
        let life = worker.life;
        match act {
            Act::Connect(of) if of == life => self.connect(number),
            Act::Opened(session, open) if worker.session == Some(session) => self.opened(number, open),
            Act::Start(assignment) if worker.session == Some(assignment.session) => self.start(number, &assignment),
            Act::Done(of, fence) if of == life => self.done(number, fence, None),
            Act::Send(of, fence) if of == life => self.send_report(number, fence),
            Act::Told { job, fence, accepted } => self.told(number, job, fence, accepted),
            Act::Stop(fence, cancel) => self.stop(number, fence, cancel),
            _ => {}
        }
    }

    fn connect(&mut self, number: usize) {
        let gateway = self.rng.below(self.nodes.len() as u64) as usize;
        let retry = Act::Connect(self.workers[number].life);
        if !self.nodes[gateway].works() {
            self.after(20_000, What::Work(number, retry));
            return;
        }
        let seed = self.options.seed;
        let worker = &mut self.workers[number];
        if worker.session.is_none() {
            worker.connections += 1;
            let id = mix(seed ^ mix(worker.connections << 8 | number as u64));
            worker.session = Some(SessionId(u128::from(id) << 32 | u128::from(worker.connections)));
            worker.opened = false;
            worker.credit_total = 0;
            worker.gateway = gateway;
        }
        let (Some(session), gateway) = (worker.session, worker.gateway) else {
            return;
        };
        let spec = SessionSpec {
            session,
            node: gateway as u64,
            worker: worker.name.clone(),
            class: worker.class.clone(),
            ttl: TTL_MS,
            proposed_after: self.nodes[gateway].applied(),
        };
        self.worker_of.insert(session, number);
        let origin = Origin::Open {
            worker: number,
            session,
        };
        self.propose(gateway, Command::OpenSession(Box::new(spec)), origin);
        self.after(300_000, What::Work(number, Act::Opened(session, false)));
    }

    /// Sends a command on its way to the leader.
    fn propose(&mut self, via: usize, command: Command, origin: Origin) {
        if let Some(trip) = self.trip() {
            self.after(trip, What::Deliver(via, vec![(command, origin)]));
        }
    }

    fn opened(&mut self, number: usize, open: bool) {
        let worker = &mut self.workers[number];
        if worker.opened {
            return;
        }
        if !open {
            // Not in time or refused: with a new session from the start.
            self.disconnect(number);
            return;
        }
        worker.opened = true;
        // What still runs from an earlier session takes room until it ends.
        let running = worker.runs.values().filter(|run| run.outcome.is_none());
        let taken = running.map(|run| run.slots).sum();
        worker.credit_total = worker.capacity.saturating_sub(taken);
        self.send_credits(number);
    }

    fn send_credits(&mut self, number: usize) {
        let worker = &self.workers[number];
        let Some(session) = worker.session else { return };
        let command = Command::Report {
            session,
            results: Vec::new(),
            credit_total: worker.credit_total,
        };
        self.propose(worker.gateway, command, Origin::Nobody);
    }

    /// The stream is gone; the worker connects anew, what it runs goes on.
    pub(crate) fn disconnect(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        worker.session = None;
        worker.opened = false;
        let life = worker.life;
        self.after(10_000, What::Work(number, Act::Connect(life)));
    }

    fn start(&mut self, number: usize, assignment: &Assignment) {
        let fence = assignment.lease.fence();
        let job = assignment.spec.id;
        let worker = &mut self.workers[number];
        let name = worker.name.clone();
        worker.runs.insert(
            fence,
            Run {
                job,
                keys: assignment
                    .spec
                    .options
                    .limits
                    .keys
                    .iter()
                    .map(|key| key.key.clone())
                    .collect(),
                slots: u64::from(assignment.spec.options.slots),
                began: self.now,
                outcome: None,
                reports: 0,
            },
        );
        let attempt = assignment.attempt;
        self.note(|at| {
            Record::Started(Started {
                at,
                worker: name,
                job: job.into(),
                fence,
                attempt,
            })
        });
        let life = self.workers[number].life;
        let mut rng = Rng::new(mix(self.options.seed ^ fence));
        let time = if rng.percent(3) {
            rng.between(200_000, 2_500_000)
        } else {
            rng.between(500, 30_000)
        };
        self.after(time, What::Work(number, Act::Done(life, fence)));
    }

    /// The handler returns, with the end that the fence decides if no other is given.
    fn done(&mut self, number: usize, fence: u64, given: Option<AttemptOutcome>) {
        let Some(run) = self.workers[number]
            .runs
            .get_mut(&fence)
            .filter(|run| run.outcome.is_none())
        else {
            return;
        };
        let mut rng = Rng::new(mix(self.options.seed ^ fence ^ 0xe4d));
        run.outcome = Some(given.unwrap_or_else(|| outcome(&mut rng, &run.keys)));
        let (job, slots) = (run.job, run.slots);
        let highest = self.resource.entry(job).or_insert(0);
        let accepted = fence >= *highest;
        *highest = (*highest).max(fence);
        self.note(|at| {
            Record::Wrote(Wrote {
                at,
                job: job.into(),
                fence,
                accepted,
            })
        });
        self.free_slots(number, slots);
        let mut wait = 0;
        if self.weather.late_report > 0 && rng.percent(30) {
            self.effect(FaultKind::LateReport);
            wait = rng.between(100_000, 4_000_000);
        }
        let act = Act::Send(self.workers[number].life, fence);
        if wait == 0 {
            self.work(number, act);
        } else {
            self.after(wait, What::Work(number, act));
        }
    }

    /// What an attempt took is free again.
    fn free_slots(&mut self, number: usize, slots: u64) {
        let worker = &mut self.workers[number];
        if worker.opened {
            worker.credit_total += slots;
        }
    }

    fn send_report(&mut self, number: usize, fence: u64) {
        let worker = &mut self.workers[number];
        let (session, gateway, credit_total) = (worker.session, worker.gateway, worker.credit_total);
        let name = worker.name.clone();
        let life = worker.life;
        let Some(run) = worker.runs.get_mut(&fence) else { return };
        run.reports += 1;
        let (job, Some(outcome)) = (run.job, run.outcome.clone()) else {
            return;
        };
        if run.reports > REPORTS_MAX {
            worker.runs.remove(&fence);
            return;
        }
        let said = how(&outcome);
        self.note(|at| {
            Record::Ended(Ended {
                at,
                worker: name,
                job: job.into(),
                fence,
                how: said,
            })
        });
        let repeat = Act::Send(life, fence);
        self.after(REPORT_PATIENCE, What::Work(number, repeat));
        let Some(session) = session else { return };
        let command = Command::Report {
            session,
            results: vec![AttemptReport {
                job,
                lease: LeaseId::from_fence(fence),
                outcome,
            }],
            credit_total,
        };
        let origin = Origin::Report {
            worker: number,
            job,
            fence,
        };
        if self.weather.double_report > 0 && self.rng.percent(40) {
            self.effect(FaultKind::DoubleReport);
            let late = self.rng.between(0, 50_000);
            self.after(late, What::Deliver(gateway, vec![(command.clone(), origin)]));
        }
        self.propose(gateway, command, origin);
    }

    fn told(&mut self, number: usize, job: JobId, fence: u64, accepted: bool) {
        let worker = &mut self.workers[number];
        if worker.runs.remove(&fence).is_none() {
            return;
        }
        let name = worker.name.clone();
        self.note(|at| {
            Record::Answered(Answered {
                at,
                worker: name,
                job: job.into(),
                fence,
                accepted,
            })
        });
    }

    fn stop(&mut self, number: usize, fence: u64, cancel: bool) {
        let mut rng = Rng::new(mix(self.options.seed ^ fence ^ 0x5709));
        let run = self.workers[number].runs.get(&fence);
        let Some(slots) = run.filter(|run| run.outcome.is_none()).map(|run| run.slots) else {
            return;
        };
        if rng.percent(30) {
            return;
        }
        if cancel {
            self.done(number, fence, Some(AttemptOutcome::Cancelled));
        } else {
            self.free_slots(number, slots);
            self.workers[number].runs.remove(&fence);
        }
    }

    /// The leader looks after sessions: those silent too long are lost, workers without one connect anew.
    pub(crate) fn watch_sessions(&mut self, leader: usize) {
        let mut lost = Vec::new();
        let mut vouched = Vec::new();
        let mut short = Vec::new();
        for view in self.nodes[leader].core.sessions() {
            let id = view.row.spec.session;
            let node = view.row.spec.node as usize;
            let alive = self
                .worker_at(node, id)
                .filter(|worker| self.workers[*worker].frozen_until <= self.now);
            let heard = *self.heard.entry(id).or_insert(self.now);
            if let Some(worker) = alive.filter(|_| self.linked(leader, node)) {
                self.heard.insert(id, self.now);
                vouched.push(id);
                if self.workers[worker].credit_total > view.row.credit_total {
                    short.push(worker);
                }
            } else if self.now - heard > TTL_MS * 1000 {
                lost.push(id);
            }
        }
        for session in lost {
            self.deliver(leader, vec![(Command::LoseSession { session }, Origin::Nobody)]);
        }
        for worker in short {
            self.send_credits(worker);
        }
        if self.beats.is_multiple_of(100) {
            self.deliver(leader, vec![(Command::Vouch { sessions: vouched }, Origin::Nobody)]);
            self.greet(leader);
        }
    }

    /// Workers whose session is closed hear of it.
    fn greet(&mut self, leader: usize) {
        let open: Vec<SessionId> = self.nodes[leader]
            .core
            .sessions()
            .iter()
            .map(|view| view.row.spec.session)
            .collect();
        for number in 0..self.workers.len() {
            let worker = &self.workers[number];
            let gone = worker.opened && worker.session.is_some_and(|session| !open.contains(&session));
            if gone && worker.up && worker.frozen_until <= self.now && self.linked(leader, worker.gateway) {
                self.disconnect(number);
            }
        }
    }

    /// A node's process is gone, and with it the streams it held.
    pub(crate) fn drop_streams(&mut self, node: usize) {
        for number in 0..self.workers.len() {
            let worker = &self.workers[number];
            if worker.up && worker.gateway == node && worker.session.is_some() {
                self.disconnect(number);
            }
        }
    }

    /// False if it was not running.
    pub(crate) fn kill_worker(&mut self, number: usize) -> bool {
        let worker = &mut self.workers[number];
        worker.session = None;
        worker.opened = false;
        worker.runs.clear();
        worker.life += 1;
        std::mem::replace(&mut worker.up, false)
    }

    pub(crate) fn revive_worker(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        if !std::mem::replace(&mut worker.up, true) {
            let life = worker.life;
            self.after(1_000, What::Work(number, Act::Connect(life)));
        }
    }

    pub(crate) fn freeze_worker(&mut self, number: usize, until: Micros) {
        let worker = &mut self.workers[number];
        worker.frozen_until = worker.frozen_until.max(until);
    }

    /// The worker says goodbye in order, or its stream breaks. False if it had none.
    pub(crate) fn lose_stream(&mut self, number: usize, in_order: bool) -> bool {
        let worker = &self.workers[number];
        let Some(session) = worker.session.filter(|_| worker.up && worker.opened) else {
            return false;
        };
        if in_order {
            let gateway = worker.gateway;
            self.propose(gateway, Command::QuietSession { session }, Origin::Nobody);
            self.after(
                3_000,
                What::Deliver(gateway, vec![(Command::CloseSession { session }, Origin::Nobody)]),
            );
        }
        self.disconnect(number);
        true
    }

    /// Attempts under way, for the liveness of a run that is over: none is older than this.
    pub(crate) fn oldest_run(&self) -> Option<Micros> {
        let runs = self.workers.iter().flat_map(|worker| worker.runs.values());
        runs.map(|run| run.began).min()
    }
}

/// What each worker takes: most take all, some a part.
fn class(number: usize) -> WorkerClass {
    let name = |text: &str| Name::from(text);
    let mut kinds: Vec<KindVersions> = KINDS
        .iter()
        .map(|kind| KindVersions {
            kind: name(kind),
            min_version: 1,
            max_version: 1,
        })
        .collect();
    kinds.sort();
    let all = WorkerClass {
        tenants: vec![],
        queues: vec![],
        kinds,
        labels: vec![],
        slots: 1,
    };
    match number {
        3 => WorkerClass {
            tenants: vec![name(TENANTS[1])],
            ..all
        },
        4 => WorkerClass {
            queues: vec![name(QUEUES[0])],
            labels: vec![(name("disk"), name("fast"))],
            ..all
        },
        5 => WorkerClass {
            labels: vec![(name("disk"), name("fast"))],
            ..all
        },
        _ => all,
    }
}

fn outcome(rng: &mut Rng, keys: &[Name]) -> AttemptOutcome {
    let failed = |retryable, retry_after| AttemptOutcome::Failed {
        error: JobError {
            class: "Oops".into(),
            message: "it broke".into(),
        },
        retryable,
        retry_after,
    };
    match rng.below(100) {
        0..74 => AttemptOutcome::Succeeded {
            result: Bytes::from_static(b"fine"),
        },
        74..88 => failed(true, 0),
        88..91 => failed(true, rng.between(1, 300)),
        91..93 => failed(false, 0),
        93..95 => AttemptOutcome::Preempted,
        95..97 => AttemptOutcome::Snoozed { delay: rng.below(200) },
        97..99 => AttemptOutcome::Throttled {
            key: keys.first().cloned().unwrap_or_else(|| "none".into()),
            retry_after: rng.between(1, 300),
        },
        _ => AttemptOutcome::Cancelled,
    }
}

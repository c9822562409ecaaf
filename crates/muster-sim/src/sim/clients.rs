//! Scripted clients. A client makes one call at a time and repeats one of unknown outcome with the same ids.

use std::collections::VecDeque;

use bytes::Bytes;
use muster_core::{
    Command, JobFilter, JobId, JobOptions, JobRow, JobSpec, LogIndex, Name, Origin as JobOrigin, Payload, Priority,
    Refusal, Reply, RequestId,
};

use crate::history::{
    Answer, Complete, FaultKind, Invoke, JobSeen, Micros, Operation, Outcome, Record, counts, enqueued,
};
use crate::sim::calls::*;
use crate::sim::defect::LogDefect;
use crate::sim::limits;
use crate::sim::rng::{Rng, mix};
use crate::sim::script::{PlannedCall, Script};
use crate::sim::world::{EPOCH_MS, Origin, What, World};

const PATIENCE: Micros = 250_000;
/// Most repeats of a call of unknown outcome.
const REPEATS: u32 = 5;

/// A call in progress.
#[derive(Clone)]
struct Current {
    operation: Operation,
    /// What is proposed; `None` = a read.
    command: Option<Command>,
    repeats: u32,
    under_way: bool,
    /// A second copy is on its way, which may yet do what the first was refused.
    copied: bool,
}

pub(crate) struct Client {
    planned: VecDeque<PlannedCall>,
    calls: u32,
    current: Option<Current>,
}

impl Client {
    pub(crate) fn new(number: u32, script: &Script) -> Self {
        let mut planned: VecDeque<PlannedCall> = script
            .calls
            .iter()
            .filter(|call| call.client == number)
            .copied()
            .collect();
        if number == 0 {
            // The first client sets up tenants and rules.
            planned = (0..SET_UP as u64)
                .map(|seed| PlannedCall { at: 0, client: 0, seed })
                .collect();
        }
        Self {
            planned,
            calls: 0,
            current: None,
        }
    }

    pub(crate) fn done(&self) -> bool {
        self.planned.is_empty() && self.current.is_none()
    }
}

impl World<'_> {
    /// The client begins its next call or repeats the last one.
    pub(crate) fn client_turn(&mut self, number: u32) {
        let client = &mut self.clients[number as usize];
        if client.current.as_ref().is_some_and(|current| current.under_way) {
            return;
        }
        if client.current.is_none() {
            let Some(call) = client.planned.front().copied() else {
                return;
            };
            if call.at > self.now {
                self.at(call.at, What::Client(number));
                return;
            }
            client.planned.pop_front();
            let mut rng = Rng::new(mix(self.options.seed ^ call.seed));
            let (operation, command) = if number == 0 {
                set_up(call.seed, &mut rng)
            } else {
                self.choose(&mut rng)
            };
            let command = command.map(|command| self.once(number, command));
            self.clients[number as usize].current = Some(Current {
                operation,
                command,
                repeats: 0,
                under_way: false,
                copied: false,
            });
        }
        self.make_call(number);
    }

    /// Settings carry the id of their request: a late copy must not undo what another client did in between.
    fn once(&self, client: u32, command: Command) -> Command {
        if !command.is_administrative() {
            return command;
        }
        let call = self.clients[client as usize].calls + 1;
        Command::Once {
            request: RequestId(u128::from(client) << 64 | u128::from(call)),
            fingerprint: command.fingerprint(),
            proposed_after: self.commit,
            command: Box::new(command),
        }
    }

    fn make_call(&mut self, number: u32) {
        let client = &mut self.clients[number as usize];
        let Some(current) = &mut client.current else { return };
        current.under_way = true;
        client.calls += 1;
        self.stats.calls += 1;
        let call = client.calls;
        let (operation, command) = (current.operation.clone(), current.command.clone());
        self.note(|at| {
            Record::Invoke(Invoke {
                at,
                process: number,
                call,
                operation,
            })
        });
        self.after(PATIENCE, What::Deadline(number, call));
        let via = self.rng.below(self.nodes.len() as u64) as usize;
        if self.weather.duplicate > 0
            && self.rng.percent(30)
            && let Some(command) = command.clone()
        {
            self.effect(FaultKind::Duplicate);
            if let Some(current) = &mut self.clients[number as usize].current {
                current.copied = true;
            }
            let late = self.rng.between(500, 400_000);
            self.after(late, What::Deliver(via, vec![(command, Origin::Nobody)]));
        }
        let Some(trip) = self.trip() else { return };
        let what = match command {
            Some(command) => {
                let origin = Origin::Call {
                    client: number,
                    number: call,
                };
                What::Deliver(via, vec![(command, origin)])
            }
            None => What::Read(via, number, call),
        };
        self.after(trip, what);
    }

    /// An answer reaches the client, or its patience is over.
    pub(crate) fn replied(&mut self, number: u32, call: u32, outcome: Outcome, index: Option<LogIndex>) {
        let client = &mut self.clients[number as usize];
        let Some(current) = client
            .current
            .as_mut()
            .filter(|current| current.under_way && call == client.calls)
        else {
            return;
        };
        current.under_way = false;
        let outcome = match outcome {
            Outcome::Fail(why) if current.copied => Outcome::Info(why),
            Outcome::Ok(Answer::EnqueuedMany(items)) if current.copied && items.contains(&None) => {
                Outcome::Info("refused in part".into())
            }
            outcome => outcome,
        };
        let unknown = matches!(outcome, Outcome::Info(_));
        current.repeats += 1;
        let again = unknown && current.repeats <= REPEATS;
        if !again {
            client.current = None;
        }
        self.note(|at| {
            Record::Complete(Complete {
                at,
                process: number,
                call,
                outcome,
                index,
            })
        });
        if again {
            let pause = self.rng.between(1_000, 100_000);
            self.after(pause, What::Client(number));
        } else {
            self.after(1, What::Client(number));
        }
    }

    /// Before a run may drain: every queue and every kind is resumed.
    pub(crate) fn resume_all(&mut self) {
        self.plan_first((RESUME..RELEASE).map(|number| number as u64));
    }

    /// Ordering keys that wait for a dead job are released, or nothing behind it would ever drain.
    pub(crate) fn release_orders(&mut self, leader: usize) {
        let core = &self.nodes[leader].core;
        let mut held = Vec::new();
        for (at, tenant) in TENANTS.iter().enumerate() {
            let Some(id) = core.tenant_id(tenant) else { continue };
            for (queue, name) in QUEUES.iter().enumerate() {
                for order in core.held_orders(id, name, "", ORDERING_KEYS.len()) {
                    let key = ORDERING_KEYS.iter().position(|key| *key == &*order.key).unwrap_or(0);
                    held.push(((at * QUEUES.len() + queue) * ORDERING_KEYS.len() + key + RELEASE) as u64);
                }
            }
        }
        if self.clients[0].done() {
            self.plan_first(held.into_iter());
        }
    }

    fn plan_first(&mut self, calls: impl Iterator<Item = u64>) {
        let at = self.now;
        let planned = &mut self.clients[0].planned;
        planned.extend(calls.map(|seed| PlannedCall { at, client: 0, seed }));
        self.after(1, What::Client(0));
    }

    fn choose(&mut self, rng: &mut Rng) -> Call {
        let tenant = rng.pick(&TENANTS);
        match rng.below(100) {
            0..62 => {
                let spec = self.spec(tenant, rng);
                (Operation::Enqueue(args(&spec)), Some(Command::Enqueue(Box::new(spec))))
            }
            62..70 => {
                let jobs: Vec<JobSpec> = (0..rng.between(1, 9)).map(|_| self.spec(tenant, rng)).collect();
                let all_or_nothing = rng.percent(50);
                let operation = Operation::EnqueueMany {
                    jobs: jobs.iter().map(args).collect(),
                    all_or_nothing,
                };
                (operation, Some(Command::EnqueueMany { jobs, all_or_nothing }))
            }
            70..82 => match self.some_job(rng) {
                Some((job, tenant)) => (
                    Operation::Get {
                        tenant,
                        job: job.into(),
                    },
                    None,
                ),
                None => list(tenant),
            },
            82..85 => list(tenant),
            85..87 => {
                let (tenant, queue) = (name(tenant), Some(name(rng.pick(&QUEUES))));
                (Operation::Stats { tenant, queue }, None)
            }
            87..94 => match self.some_job(rng) {
                Some((job, tenant)) => {
                    let operation = Operation::Cancel {
                        tenant: tenant.clone(),
                        job: job.into(),
                    };
                    (operation, Some(Command::Cancel { tenant, job }))
                }
                None => list(tenant),
            },
            94..96 => self.redrive(tenant, rng),
            96 => pause(tenant, rng.pick(&QUEUES), rng.percent(40)),
            97 => match rng.below(3) {
                0 => pause(tenant, rng.pick(&QUEUES), rng.percent(40)),
                1 => pause_kind(tenant, rng.pick(&KINDS), rng.percent(40)),
                _ => self.prioritise(tenant, rng),
            },
            98 => match rng.below(4) {
                0 => settings(tenant, rng),
                1 => release(tenant, rng.pick(&QUEUES), rng.pick(&ORDERING_KEYS)),
                2 => limits::delete(rng),
                _ => limits::set(rng),
            },
            _ if rng.percent(40) => weigh(tenant, rng.pick(&QUEUES), rng),
            _ => limits::set(rng),
        }
    }

    fn some_job(&self, rng: &mut Rng) -> Option<(JobId, Name)> {
        let at = rng.below(self.known.len().min(400) as u64) as usize;
        self.known.iter().rev().nth(at).cloned()
    }

    /// Another priority for some jobs, not all of which are the tenant's.
    fn prioritise(&mut self, tenant: &str, rng: &mut Rng) -> Call {
        let some = (0..rng.between(1, 12)).filter_map(|_| self.some_job(rng));
        let jobs: Vec<JobId> = some.map(|(job, _)| job).collect();
        set_priority(name(tenant), jobs, rng.pick(&Priority::ALL))
    }

    fn redrive(&mut self, tenant: &str, rng: &mut Rng) -> Call {
        let at = rng.below(self.dead.len() as u64) as usize;
        let Some(row) = self.dead.get(at).and_then(|from| self.ended.get(from)) else {
            return list(tenant);
        };
        let from = row.spec.id;
        let mut spec = (*row.spec).clone();
        spec.id = JobId(u128::from(rng.word()) << 64 | u128::from(rng.word()));
        spec.available_at = 0;
        let operation = Operation::Redrive {
            tenant: spec.tenant.clone(),
            from: from.into(),
            job: spec.id.into(),
        };
        self.known.push((spec.id, spec.tenant.clone()));
        let spec = Box::new(spec);
        (operation, Some(Command::Redrive { from, spec }))
    }

    fn spec(&mut self, tenant: &str, rng: &mut Rng) -> JobSpec {
        let key = rng.percent(15).then(|| rng.below(1 + self.known.len() as u64 / 8));
        // Most jobs of one key are alike, so that they are repeats; some are not.
        let alike = key.filter(|_| rng.percent(90));
        let kind = rng.pick(&KINDS);
        let data = alike.map_or_else(|| rng.word(), mix);
        let id = JobId(u128::from(rng.word()) << 64 | u128::from(rng.word()));
        let now = EPOCH_MS + self.now / 1000;
        self.known.push((id, name(tenant)));
        JobSpec {
            id,
            tenant: name(tenant),
            queue: name(rng.pick(&QUEUES)),
            kind: name(if alike.is_some() { KINDS[0] } else { kind }),
            schema_version: 1,
            payload: Payload {
                data: Bytes::copy_from_slice(&data.to_le_bytes()),
                ..Payload::default()
            },
            priority: rng.pick(&Priority::ALL),
            available_at: if rng.percent(12) {
                now + rng.between(1, 1_500)
            } else {
                0
            },
            idempotency_key: key.map(|key| name(&format!("key-{key}"))),
            options: JobOptions {
                max_attempts: rng.between(1, 5) as u32,
                max_crashes: rng.between(1, 4) as u32,
                backoff: backoff(rng),
                attempt_timeout: if rng.percent(80) { rng.between(100, 1_000) } else { 0 },
                expires_in: if rng.percent(8) { rng.between(20, 500) } else { 0 },
                required_labels: if rng.percent(5) {
                    vec![(name("disk"), name("fast"))]
                } else {
                    Vec::new()
                },
                limits: job_limits(rng),
                preferred_labels: preferred(rng),
                // Some take more, at most as many as the smallest worker has.
                slots: 1 + (mix(id.0 as u64) % 16).saturating_sub(12) as u32,
            },
            ordering: ordering(rng),
            metadata: Vec::new(),
            seed: rng.word(),
            origin: JobOrigin::Api,
            history_searched: 0,
        }
    }

    /// The API's search of ended jobs before a proposal. `None`: it is answered from there.
    pub(crate) fn search_history(
        &mut self,
        leader: usize,
        mut command: Command,
        origin: Origin,
    ) -> Option<(Command, Origin)> {
        let upto = self.nodes[leader].applied();
        let specs: Vec<&mut JobSpec> = match &mut command {
            Command::Enqueue(spec) | Command::Redrive { spec, .. } => vec![&mut **spec],
            Command::EnqueueMany { jobs, .. } => jobs.iter_mut().collect(),
            Command::Cancel { job, .. } => {
                let Some(state) = self.in_history(leader, *job).map(|row| row.state) else {
                    return Some((command, origin));
                };
                self.answer_read(leader, origin, Outcome::Ok(Answer::Cancelled(state)));
                return None;
            }
            _ => Vec::new(),
        };
        let many = specs.len() > 1;
        let mut found = None;
        for spec in specs {
            spec.history_searched = upto;
            let key = spec.idempotency_key.clone().map(|key| (spec.tenant.clone(), key));
            let by_key = key.and_then(|key| self.ended_keys.get(&key).copied());
            let first = [Some(spec.id), by_key.filter(|_| spec.origin == JobOrigin::Api)]
                .into_iter()
                .flatten()
                .find_map(|id| self.in_history(leader, id));
            found = found.or(first.map(|row| (row.spec.id, row.state, row.fingerprint == spec.fingerprint())));
        }
        let Some((job, state, same)) = found else {
            return Some((command, origin));
        };
        let outcome = if same && !many {
            Outcome::Ok(Answer::Enqueued(crate::history::Enqueued {
                job: job.into(),
                existed: true,
                state: Some(state),
            }))
        } else {
            Outcome::Fail("another job was accepted before".into())
        };
        self.answer_read(leader, origin, outcome);
        None
    }

    /// A job that ended, as far as the leader has applied.
    fn in_history(&self, leader: usize, id: JobId) -> Option<&JobRow> {
        let applied = self.nodes[leader].applied();
        let row = self.ended.get(&id).filter(|row| row.changed_index <= applied);
        row.map(|row| &**row)
    }

    /// Answers from what the leader has applied, if it can be sure to lead and to have all that is committed.
    fn answer_read(&mut self, leader: usize, origin: Origin, outcome: Outcome) {
        let applied = self.nodes[leader].applied();
        if self.able_leader() == Some(leader) && applied >= self.ready_from && applied >= self.commit {
            self.reply_call(origin, outcome, Some(applied));
        }
    }

    fn reply_call(&mut self, origin: Origin, outcome: Outcome, index: Option<LogIndex>) {
        let Origin::Call { client, number } = origin else {
            return;
        };
        if let Some(trip) = self.trip() {
            self.after(trip, What::Reply(client, number, outcome, index));
        }
    }

    /// The leader answers a proposal.
    pub(crate) fn answer_call(
        &mut self,
        leader: usize,
        index: LogIndex,
        (client, number): (u32, u32),
        reply: Reply,
        command: &Command,
    ) {
        let outcome = match reply {
            Reply::Done
            | Reply::Tenant(_)
            | Reply::Reported(_)
            | Reply::JoinToken { .. }
            | Reply::ChangeBegun { .. }
            | Reply::Prioritised { .. } => Outcome::Ok(Answer::Done),
            Reply::Enqueued(one) => Outcome::Ok(Answer::Enqueued(enqueued(&one))),
            Reply::EnqueuedMany(items) => {
                let items = items.iter().map(|item| item.as_ref().ok().map(enqueued)).collect();
                Outcome::Ok(Answer::EnqueuedMany(items))
            }
            Reply::Cancelled(state) => Outcome::Ok(Answer::Cancelled(state)),
            Reply::Refused(Refusal::SearchHistoryAgain { .. }) => {
                let origin = Origin::Call { client, number };
                self.after(1, What::Deliver(leader, vec![(command.clone(), origin)]));
                return;
            }
            Reply::Refused(why) => Outcome::Fail(why.to_string()),
        };
        self.reply_call(Origin::Call { client, number }, outcome, Some(index));
    }

    /// A read reaches the leader.
    pub(crate) fn serve_read(&mut self, via: usize, client: u32, number: u32) {
        if self.chosen.has(LogDefect::ReadAtFollower) {
            self.serve_read_alone(via, client, number);
            return;
        }
        let Some(leader) = self.leader.filter(|leader| self.linked(via, *leader)) else {
            return;
        };
        let current = self.clients[client as usize].current.clone();
        if let Some(current) = current.filter(|current| current.under_way) {
            let answer = self.read(leader, &current.operation);
            self.answer_read(leader, Origin::Call { client, number }, Outcome::Ok(answer));
        }
    }

    /// Wrongly: a node answers by itself.
    fn serve_read_alone(&mut self, node: usize, client: u32, number: u32) {
        let current = self.clients[client as usize].current.clone();
        if let Some(current) = current.filter(|current| current.under_way && self.nodes[node].works()) {
            let answer = self.read(node, &current.operation);
            let applied = self.nodes[node].applied();
            self.reply_call(Origin::Call { client, number }, Outcome::Ok(answer), Some(applied));
        }
    }

    fn read(&self, leader: usize, operation: &Operation) -> Answer {
        let core = &self.nodes[leader].core;
        let seen = |row: &JobRow| JobSeen {
            job: row.spec.id.into(),
            state: row.state,
            attempts: row.attempts,
            version: row.changed_index,
        };
        match operation {
            Operation::Get { job, .. } => {
                let id = JobId(job.0);
                let row = core.job(id).or_else(|| self.ended.get(&id).cloned());
                Answer::Job(row.map(|row| seen(&row)))
            }
            Operation::List { tenant, .. } => {
                let id = core.tenant_id(tenant);
                let jobs = id.map(|id| core.jobs(id, &JobFilter::default(), None, 20, 100).0);
                Answer::Jobs(jobs.unwrap_or_default().iter().map(|row| seen(row)).collect())
            }
            Operation::Stats { tenant, queue } => {
                let queues = core.tenant_id(tenant).map(|id| core.queues(id)).unwrap_or_default();
                let view = queues.iter().find(|view| queue.as_ref() == Some(&view.name));
                Answer::Stats(view.map(|view| counts(&view.live)).unwrap_or_default())
            }
            _ => Answer::Done,
        }
    }
}

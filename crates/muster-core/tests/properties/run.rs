//! One run: the core, a replica and the model side by side, checked after every entry.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::{
    Applied, Batch, Changes, Command, Core, Event, JobFilter, JobId, JobState, LogIndex, Reply, ReportReply, Row,
    RowKey, Timestamp,
};

use crate::checkers;
use crate::facts::{Fact, How, Limits, Order, Place, Through};
use crate::model::{Answer, Check, Model, by_state, counters, limiters};
use crate::resolve::{Resolver, founding};
use crate::script::{Move, Step};

/// Rows as a store would hold them after the changes taken so far.
#[derive(Default)]
pub struct Rows(BTreeMap<RowKey, Row>);

impl Rows {
    pub fn write(&mut self, changes: Changes) {
        for row in changes.put {
            self.0.insert(row.key(), row);
        }
        for key in changes.delete {
            self.0.remove(&key);
        }
    }

    pub fn restore(&self) -> Result<Core, String> {
        Core::restore(self.0.values().cloned()).map_err(|fault| fault.to_string())
    }
}

/// All rows of a core in the order of their keys.
fn rows_of(core: &Core) -> BTreeMap<RowKey, Row> {
    core.rows().into_iter().map(|row| (row.key(), row)).collect()
}

/// What is running.
pub struct Run {
    core: Core,
    replica: Core,
    /// Made from rows in the middle of the run.
    restored: Option<Core>,
    rows: Rows,
    /// Rows taken ahead of the next checkpoint.
    ahead: Vec<Row>,
    model: Model,
    resolver: Resolver,
    clock: Timestamp,
    times: BTreeMap<LogIndex, Timestamp>,
    /// Last state announced of each job.
    announced: BTreeMap<JobId, JobState>,
    facts: Vec<Fact>,
}

impl Run {
    pub fn new() -> Result<Self, String> {
        let core = Core::new();
        let mut model = Model::new();
        model.found(&core)?;
        let mut run = Self {
            core,
            replica: Core::new(),
            restored: None,
            rows: Rows::default(),
            ahead: Vec::new(),
            model,
            resolver: Resolver::default(),
            clock: 1_700_000_000_000,
            times: BTreeMap::new(),
            announced: BTreeMap::new(),
            facts: Vec::new(),
        };
        run.entry(founding())?;
        Ok(run)
    }

    /// Runs a script; at step `cut` a core is restored from rows, which then follows the rest of the log.
    pub fn follow(self, script: &[Step], cut: usize) -> Check {
        self.history(script, cut).map(|_| ())
    }

    /// The same; returns what happened.
    pub fn history(mut self, script: &[Step], cut: usize) -> Result<Vec<Fact>, String> {
        for (at, step) in script.iter().enumerate() {
            self.step(step)
                .map_err(|fault| format!("at step {at}, index {}: {fault}", self.model.index))?;
            if at % 3 == 1 {
                while let Some(rows) = self.core.take_some(1) {
                    self.ahead.extend(rows);
                }
            }
            // Checkpoints come now and then, with the entries between them written back together.
            if at % 3 == 0 || at == cut {
                self.checkpoint()?;
            }
            if at == cut {
                self.restored = Some(self.rows.restore()?);
            }
        }
        self.checkpoint()?;
        self.last_scan();
        checkers::check_all(&self.facts)?;
        Ok(self.facts)
    }

    fn checkpoint(&mut self) -> Check {
        let (promised, changes) = (self.core.changes_len(), self.core.take_changes());
        if promised != changes.put.len() + changes.delete.len() || self.core.changes_len() != 0 {
            return Err(format!("changes_len said {promised}, there were {changes:?}"));
        }
        self.rows.write(Changes {
            put: std::mem::take(&mut self.ahead),
            delete: Vec::new(),
        });
        self.rows.write(changes);
        let all = rows_of(&self.core);
        if all != self.rows.0 {
            let differs = |a: &BTreeMap<RowKey, Row>, b: &BTreeMap<RowKey, Row>| {
                a.iter()
                    .find(|(key, row)| b.get(key) != Some(row))
                    .map(|(_, row)| format!("{row:?}"))
            };
            return Err(format!(
                "the rows taken are not the state: state {:?}, taken {:?}",
                differs(&all, &self.rows.0),
                differs(&self.rows.0, &all)
            ));
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Check {
        match step.time {
            Move::Forward(by) => self.clock = self.clock.max(self.model.now) + by,
            Move::Back(by) => self.clock = self.model.now.saturating_sub(by),
            Move::ToDue => self.clock = self.core.next_due().unwrap_or(self.clock).max(self.clock),
        }
        let floor = self.core.meta().ended_floor;
        let now = self.clock.max(self.model.now);
        let resolver = &mut self.resolver;
        let commands: Vec<_> = step
            .acts
            .iter()
            .filter_map(|act| resolver.resolve(act, &self.model, now, floor))
            .collect();
        if commands.is_empty() && self.model.index.is_multiple_of(2) {
            return self.skip();
        }
        self.entry(commands)
    }

    fn skip(&mut self) -> Check {
        self.model.index += 1;
        for core in [Some(&mut self.core), Some(&mut self.replica), self.restored.as_mut()]
            .into_iter()
            .flatten()
        {
            core.skip(self.model.index);
        }
        self.times.insert(self.model.index, self.model.now);
        self.agree(None)
    }

    fn entry(&mut self, commands: Vec<Command>) -> Check {
        let model = &mut self.model;
        model.index += 1;
        model.now = model.now.max(self.clock);
        model.ticked = false;
        self.times.insert(model.index, model.now);
        // What ended is forgotten at the end of an entry.
        let known = Answer {
            ended_floor: self.core.meta().ended_floor,
            closed_floor: self.core.meta().closed_floor,
        };
        let batch = Batch {
            stamped_at: self.clock,
            commands: commands.clone(),
        };
        let applied = self.core.apply(model.index, batch.clone());
        if applied.replies.len() != commands.len() {
            return Err(format!(
                "{} commands, {} replies",
                commands.len(),
                applied.replies.len()
            ));
        }
        for (command, reply) in commands.iter().zip(&applied.replies) {
            self.asked(command);
            let repeat = matches!(command, Command::Once { request, .. }
                if self.model.requests.iter().any(|(known, ..)| known == request));
            let inner = match command {
                Command::Once { command, .. } => command,
                command => command,
            };
            if let Command::ReleaseOrder { tenant, queue, key } = inner
                && !repeat
            {
                let held_by = self.model.held_by(tenant, queue, key);
                self.facts.extend(held_by.map(|held_by| Fact::Released { held_by }));
            }
            self.model
                .command(command, reply, known)
                .map_err(|fault| format!("{command:?}: {fault}"))?;
            if !repeat {
                self.answered(inner, reply);
            }
            for revoked in std::mem::take(&mut self.model.revoked) {
                let (job, lease, why) = (revoked.job, revoked.lease, revoked.why);
                self.facts.push(Fact::Revoked { job, lease, why });
            }
        }
        self.model.settle(&self.core)?;
        self.events(&applied)?;
        self.model.take_gathers(&self.core);
        self.model.work_is_conserved(self.core.next_due())?;
        self.model.wide_jobs_come_to_their_turn()?;
        self.model.note_shut();
        self.timers(commands.last())?;
        self.model.compare(&self.core)?;
        let rows = self.core.rows();
        self.model
            .compare_memory(&rows, self.core.meta().ended_floor, |index| self.times[&index])?;
        self.core.check_invariants()?;
        self.census();
        self.agree(Some((&batch, &applied)))
    }

    /// The same entry on the other replicas.
    fn agree(&mut self, entry: Option<(&Batch, &Applied)>) -> Check {
        let index = self.model.index;
        let hash = self.core.meta().hash;
        self.facts.push(Fact::Applied {
            replica: 1,
            index,
            now: self.model.now,
            hash,
        });
        let others = [(2, Some(&mut self.replica)), (3, self.restored.as_mut())];
        for (replica, core) in others
            .into_iter()
            .filter_map(|(replica, core)| core.map(|core| (replica, core)))
        {
            let same = entry.is_none_or(|(batch, applied)| {
                let again = core.apply(index, batch.clone());
                again.replies == applied.replies && again.events == applied.events
            });
            if !same || core.next_due() != self.core.next_due() {
                return Err(format!(
                    "replica {replica} (3 is restored from rows) answered otherwise at index {index}"
                ));
            }
            if core.meta() != self.core.meta() || rows_of(core) != rows_of(&self.core) {
                let (own, other) = (rows_of(&self.core), rows_of(core));
                let differs = |a: &BTreeMap<RowKey, Row>, b: &BTreeMap<RowKey, Row>| {
                    a.iter()
                        .find(|(key, row)| b.get(key) != Some(row))
                        .map(|(_, row)| format!("{row:?}"))
                };
                return Err(format!(
                    "replica {replica} (3 is restored from rows) differs at index {index}: {:?}, but {:?}",
                    differs(&own, &other),
                    differs(&other, &own)
                ));
            }
            core.check_invariants()?;
            self.facts.push(Fact::Applied {
                replica,
                index,
                now: core.meta().now,
                hash: core.meta().hash,
            });
        }
        Ok(())
    }

    fn asked(&mut self, command: &Command) {
        let (specs, revives) = match command {
            Command::Enqueue(spec) => (std::slice::from_ref(&**spec), None),
            Command::Redrive { spec, from } => (std::slice::from_ref(&**spec), Some(*from)),
            Command::EnqueueMany { jobs, .. } => (jobs.as_slice(), None),
            _ => return,
        };
        self.facts.extend(specs.iter().map(|spec| Fact::Asked {
            job: spec.id,
            due: spec.available_at,
            place: spec.ordering.as_ref().map(|ordering| Place {
                order: Order {
                    tenant: spec.tenant.clone(),
                    queue: spec.queue.clone(),
                    key: ordering.key.clone(),
                },
                strict: ordering.policy == muster_core::OrderingPolicy::Strict,
                revives,
            }),
        }));
    }

    fn answered(&mut self, command: &Command, reply: &Reply) {
        match (command, reply) {
            (Command::Enqueue(spec) | Command::Redrive { spec, .. }, Reply::Enqueued(enqueued)) => {
                self.accepted(spec.id, *enqueued);
            }
            (Command::Enqueue(spec) | Command::Redrive { spec, .. }, _) => {
                self.facts.push(Fact::NotAccepted { asked: spec.id });
            }
            (Command::EnqueueMany { jobs, .. }, Reply::EnqueuedMany(answers)) => {
                for (spec, answer) in jobs.iter().zip(answers) {
                    match answer {
                        Ok(enqueued) => self.accepted(spec.id, *enqueued),
                        Err(_) => self.facts.push(Fact::NotAccepted { asked: spec.id }),
                    }
                }
            }
            (Command::Report { session, results, .. }, Reply::Reported(answers)) => {
                for (result, answer) in results.iter().zip(answers) {
                    let how = Self::how(result, *answer);
                    self.facts.push(Fact::Reported {
                        job: result.job,
                        session: *session,
                        lease: result.lease,
                        how,
                        reply: *answer,
                    });
                }
            }
            (Command::SetLimit(rule), Reply::Done) => self.facts.push(Fact::Limited((**rule).clone())),
            (Command::DeleteLimit(selector), Reply::Done) => self.facts.push(Fact::Unlimited(selector.clone())),
            _ => {}
        }
    }

    fn how(result: &muster_core::AttemptReport, answer: ReportReply) -> How {
        use muster_core::AttemptOutcome::*;
        match &result.outcome {
            Succeeded { .. } => How::Succeeded,
            Failed { retryable: false, .. } => How::FailedForGood,
            Preempted | Snoozed { .. } | Throttled { .. } => How::Uncounted,
            Cancelled if answer == ReportReply::Accepted(JobState::Cancelled) => How::Cancelled,
            Failed { .. } | Cancelled => How::Failed,
        }
    }

    fn accepted(&mut self, asked: JobId, enqueued: muster_core::Enqueued) {
        let job = self.model.job(enqueued.job).expect("the model accepted it");
        self.facts.push(Fact::Accepted {
            asked,
            job: enqueued.job,
            tenant: job.tenant,
            existed: enqueued.existed,
        });
        if !enqueued.existed {
            self.entered(enqueued.job, enqueued.state);
        }
    }

    fn entered(&mut self, job: JobId, state: JobState) {
        if self.announced.insert(job, state) != Some(state) {
            self.facts.push(Fact::Entered { job, state });
        }
    }

    /// Events in their order: states, ends, leases.
    fn events(&mut self, applied: &Applied) -> Check {
        let index = self.model.index;
        let mut position = 0;
        let mut ended = BTreeSet::new();
        for event in &applied.events {
            match event {
                Event::Assigned(given) => {
                    self.model.grant(position, given)?;
                    position += 1;
                    self.entered(given.spec.id, JobState::Running);
                    let tenant = self.model.job(given.spec.id).expect("granted").tenant;
                    self.facts.push(Fact::Granted {
                        job: given.spec.id,
                        tenant,
                        session: given.session,
                        lease: given.lease,
                        attempt: given.attempt,
                        now: self.model.now,
                        through: limiters(&given.spec)
                            .into_iter()
                            .map(|(limiter, cost)| Through {
                                level: limiter.level,
                                tenant: limiter.tenant,
                                name: limiter.name,
                                cost,
                            })
                            .collect(),
                    });
                }
                Event::JobChanged { tenant, job, state, .. } => {
                    let known = self.model.job(*job).ok_or(format!("{event:?} of an unknown job"))?;
                    if known.tenant != *tenant {
                        return Err(format!("{event:?} names another tenant"));
                    }
                    if *state != JobState::Running && !state.is_terminal() {
                        self.entered(*job, *state);
                    }
                }
                Event::JobEnded(row) => {
                    let job = self
                        .model
                        .job(row.spec.id)
                        .ok_or(format!("{event:?} of an unknown job"))?;
                    let result = if row.state == JobState::Succeeded {
                        job.result.clone().unwrap_or_default()
                    } else {
                        row.result.clone()
                    };
                    let same = job.ended == Some(index) && job.state() == row.state && row.ended_at == self.model.now;
                    if !same
                        || row.result != result
                        || *row.spec != job.spec
                        || row.lease.is_some()
                        || !ended.insert(row.spec.id)
                    {
                        return Err(format!(
                            "the model has {:?} ended {:?}, but {event:?}",
                            job.states, job.ended
                        ));
                    }
                    self.announced.insert(row.spec.id, row.state);
                    self.facts.push(Fact::Ended {
                        job: row.spec.id,
                        tenant: row.tenant,
                        state: row.state,
                        limits: Limits {
                            attempts: row.attempts,
                            failures: row.failures,
                            crashes: row.crashes,
                            max_attempts: row.spec.options.max_attempts,
                            max_crashes: row.spec.options.max_crashes,
                        },
                    });
                }
                _ => {}
            }
        }
        let unannounced = self.model.jobs.iter().find(|job| {
            let announced = self.announced.get(&job.spec.id) == Some(&job.state());
            if job.is_live() {
                !announced
            } else {
                job.ended == Some(index) && !ended.contains(&job.spec.id)
            }
        });
        if let Some(job) = unannounced {
            return Err(format!("job {} is {:?}, but no event says so", job.spec.id, job.states));
        }
        for wait in std::mem::take(&mut self.model.waits) {
            let job = self.model.job(wait.job).expect("it failed");
            if job.is_live() {
                let (since, until) = (self.model.now, job.due.0);
                self.facts.push(Fact::Waits {
                    job: wait.job,
                    since,
                    until,
                    least: wait.least,
                    most: wait.most,
                });
            }
        }
        Ok(())
    }

    /// The core asks for a tick no later than something is due, and asks for no more once all is done.
    fn timers(&self, last: Option<&Command>) -> Check {
        let due = self.core.next_due();
        if let Some(timer) = self.model.next_timer()
            && due.is_none_or(|due| due > timer)
        {
            return Err(format!(
                "a timer is due at {timer}, the core asks for a tick at {due:?}"
            ));
        }
        let again = self.model.next_timer().is_some_and(|timer| timer <= self.model.now);
        if last == Some(&Command::Tick) && !again && due.is_some_and(|due| due <= self.model.now) {
            return Err(format!(
                "at {} after a tick the core asks for one at {due:?}",
                self.model.now
            ));
        }
        Ok(())
    }

    fn census(&mut self) {
        for view in self.core.tenants() {
            let (jobs, _) = self
                .core
                .jobs(view.id, &JobFilter::default(), None, usize::MAX, usize::MAX);
            self.facts.push(Fact::Census {
                tenant: view.id,
                counted: by_state(jobs.iter().map(|row| row.state)),
                shown: counters(view.live),
            });
        }
    }

    fn last_scan(&mut self) {
        for view in self.core.tenants() {
            let (jobs, _) = self
                .core
                .jobs(view.id, &JobFilter::default(), None, usize::MAX, usize::MAX);
            self.facts
                .extend(jobs.iter().map(|row| Fact::Present { job: row.spec.id }));
        }
    }
}

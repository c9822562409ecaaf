//! A client: one call after another, mostly enqueues, some looks and interventions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use muster_client::{Client, Enqueued, JobId, JobState, ListJobs, Priority};
use muster_sim::history::{
    Answer, Enqueued as Told, JobSeen, JobState as State, Operation, OperationKind, Priority as Level, Process,
};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::TENANTS;
use super::plan::{Plan, id};
use crate::chaos::world::World;

/// Jobs that a client remembers to look at.
const REMEMBERED: usize = 100;
/// Tries of a call whose outcome stays unknown.
const TRIES: usize = 8;

/// A client of all tenants.
pub(super) struct Producer {
    pub(super) world: Arc<World>,
    pub(super) process: Process,
    pub(super) rng: StdRng,
    clients: HashMap<&'static str, Client>,
    known: VecDeque<(JobId, &'static str)>,
    dead: Vec<(JobId, &'static str)>,
    keyed: Option<Plan>,
    number: u32,
    keys: u32,
}

/// Runs one client at so many calls per second until the run is over.
pub(super) async fn run(world: Arc<World>, number: u32, rate: u32) {
    let mut producer = Producer::new(Arc::clone(&world), number);
    let mut next = Instant::now();
    while !world.is_over() {
        let pause = 2.0 / f64::from(rate) * producer.rng.random_range(0.0..1.0);
        // What an outage delayed is not made up for.
        next = (next + Duration::from_secs_f64(pause)).max(Instant::now());
        tokio::select! {
            () = tokio::time::sleep_until(next) => producer.step().await,
            () = world.over() => {}
        }
    }
}

impl Producer {
    pub(super) fn new(world: Arc<World>, number: u32) -> Self {
        let client = world.client(number as usize);
        let of_tenant = |name| client.with_tenant(name).expect("a good name");
        Self {
            process: world.recorder.process(),
            rng: world.rng("producer", number.into()),
            clients: TENANTS
                .iter()
                .map(|tenant| (tenant.name, of_tenant(tenant.name)))
                .collect(),
            known: VecDeque::new(),
            dead: Vec::new(),
            keyed: None,
            number,
            keys: 0,
            world,
        }
    }

    pub(super) fn client(&self, tenant: &'static str) -> Client {
        self.clients[tenant].clone()
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..64 => {
                let plan = Plan::random(&mut self.rng);
                self.enqueue(&plan).await;
            }
            64..69 => self.enqueue_with_key().await,
            69..72 => self.enqueue_batch(false).await,
            72..75 => self.enqueue_batch(true).await,
            75..90 => self.get().await,
            90..93 => self.list().await,
            93..96 => self.cancel_one().await,
            96 => self.prioritise().await,
            97..99 => self.redrive().await,
            _ => self.repeat_on_purpose().await,
        }
    }

    /// Enqueues until the outcome is known or the client loses patience. `Some`: done.
    pub(super) async fn enqueue(&mut self, plan: &Plan) -> Option<Enqueued> {
        for _ in 0..TRIES {
            let call = self.process.invoke(Operation::Enqueue(plan.args()));
            let (job, options) = plan.job();
            let result = self.client(plan.tenant).enqueue_raw(job, options).await;
            let enqueued = result.as_ref().ok().copied();
            let answer = result.map(|enqueued| Answer::Enqueued(told(enqueued)));
            if self.world.settle(OperationKind::Enqueue, call, None, answer) {
                if let Some(enqueued) = enqueued {
                    self.remember(enqueued.id, plan.tenant);
                }
                return enqueued;
            }
        }
        None
    }

    /// A key, often one that was used before.
    async fn enqueue_with_key(&mut self) {
        let plan = if let Some(plan) = self.keyed.take() {
            plan.repeat()
        } else {
            self.keys += 1;
            Plan {
                key: Some(format!("key-{}-{}", self.number, self.keys)),
                ..Plan::random(&mut self.rng)
            }
        };
        self.enqueue(&plan).await;
        if self.rng.random_bool(0.7) {
            self.keyed = Some(plan);
        }
    }

    /// The same call again although the first was answered.
    async fn repeat_on_purpose(&mut self) {
        let plan = Plan::random(&mut self.rng);
        self.enqueue(&plan).await;
        self.enqueue(&plan).await;
    }

    async fn enqueue_batch(&mut self, all_or_nothing: bool) {
        let tenant = TENANTS[self.rng.random_range(0..2)].name;
        let count = self.rng.random_range(2..12);
        let plans: Vec<Plan> = (0..count)
            .map(|_| Plan {
                tenant,
                ..Plan::random(&mut self.rng)
            })
            .collect();
        for _ in 0..TRIES {
            let call = self.process.invoke(Operation::EnqueueMany {
                jobs: plans.iter().map(Plan::args).collect(),
                all_or_nothing,
            });
            let jobs = plans.iter().map(Plan::job);
            let client = self.client(tenant);
            let result = if all_or_nothing {
                client
                    .enqueue_all(jobs)
                    .await
                    .map(|all| all.into_iter().map(Some).collect::<Vec<_>>())
            } else {
                each(client.enqueue_many_raw(jobs).await)
            };
            let answer = result.map(|all| {
                let told = all.into_iter().map(|one| one.map(told)).collect();
                Answer::EnqueuedMany(told)
            });
            if self.world.settle(OperationKind::EnqueueMany, call, None, answer) {
                return;
            }
        }
    }

    fn remember(&mut self, job: JobId, tenant: &'static str) {
        if self.known.len() == REMEMBERED {
            self.known.pop_front();
        }
        self.known.push_back((job, tenant));
    }

    fn some_known(&mut self) -> Option<(JobId, &'static str)> {
        if self.known.is_empty() {
            return None;
        }
        let at = self.rng.random_range(0..self.known.len());
        self.known.get(at).copied()
    }

    async fn get(&mut self) {
        let Some((job, tenant)) = self.some_known() else { return };
        let found = self.look(job, tenant).await;
        if found.is_some_and(|seen| seen.state == State::Dead) && self.dead.len() < REMEMBERED {
            self.known.retain(|(known, _)| *known != job);
            self.dead.push((job, tenant));
        }
    }

    /// Looks at a job once.
    pub(super) async fn look(&mut self, job: JobId, tenant: &'static str) -> Option<JobSeen> {
        let operation = Operation::Get {
            tenant: tenant.into(),
            job: id(job),
        };
        let call = self.process.invoke(operation);
        let result = match self.client(tenant).get(job).await {
            Ok(info) => Ok(Some(seen(job, info.state, info.attempts, info.changed_index))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        };
        let found = result.as_ref().ok().copied().flatten();
        self.world
            .settle(OperationKind::Get, call, None, result.map(Answer::Job));
        found
    }

    async fn list(&mut self) {
        let tenant = TENANTS[self.rng.random_range(0..TENANTS.len())].name;
        let queue = format!("q{}", self.rng.random_range(0..4));
        self.list_queue(tenant, &queue).await;
    }

    /// Lists a page of a queue.
    pub(super) async fn list_queue(&mut self, tenant: &'static str, queue: &str) {
        let call = self.process.invoke(Operation::List {
            tenant: tenant.into(),
            queue: Some(queue.into()),
        });
        let filter = ListJobs {
            queue: Some(queue.to_owned()),
            page_size: 30,
            ..ListJobs::default()
        };
        let result = self.client(tenant).list(&filter).await.map(|page| {
            let jobs = page.jobs.iter().filter_map(|info| {
                let job = info.id.parse().ok()?;
                Some(seen(job, info.state, info.attempts, info.changed_index))
            });
            Answer::Jobs(jobs.collect())
        });
        self.world.settle(OperationKind::List, call, None, result);
    }

    async fn cancel_one(&mut self) {
        if let Some((job, tenant)) = self.some_known() {
            self.cancel(job, tenant).await;
        }
    }

    /// Cancels a job, until the outcome is known.
    pub(super) async fn cancel(&mut self, job: JobId, tenant: &'static str) {
        for _ in 0..TRIES {
            let call = self.process.invoke(Operation::Cancel {
                tenant: tenant.into(),
                job: id(job),
            });
            let result = self.client(tenant).cancel(job).await;
            let answer = result.map(|after| Answer::Cancelled(state(after)));
            if self.world.settle(OperationKind::Cancel, call, None, answer) {
                return;
            }
        }
    }

    /// Another priority for some jobs, most of which will have ended.
    async fn prioritise(&mut self) {
        let Some((_, tenant)) = self.some_known() else { return };
        let latest = self.known.iter().rev().filter(|(_, owner)| *owner == tenant);
        let jobs: Vec<JobId> = latest.map(|(job, _)| *job).take(8).collect();
        let level = self.rng.random_range(0..Level::ALL.len());
        let call = self.process.invoke(Operation::SetPriority {
            tenant: tenant.into(),
            jobs: jobs.iter().copied().map(id).collect(),
            priority: Level::ALL[level],
        });
        let result = self.client(tenant).set_priority(&jobs, Priority::ALL[level]).await;
        self.world
            .settle(OperationKind::SetPriority, call, None, result.map(|_| Answer::Done));
    }

    async fn redrive(&mut self) {
        let Some((from, tenant)) = self.dead.pop() else { return };
        let new = JobId::new();
        for _ in 0..TRIES {
            let call = self.process.invoke(Operation::Redrive {
                tenant: tenant.into(),
                from: id(from),
                job: id(new),
            });
            let result = self.client(tenant).redrive_as(from, new).await;
            let answer = result.map(|enqueued| Answer::Enqueued(told(enqueued)));
            if self.world.settle(OperationKind::Redrive, call, None, answer) {
                return;
            }
        }
    }
}

/// One outcome for a call that has one per job: unknown if one is, not done if none was.
fn each(results: Vec<Result<Enqueued, muster_client::Error>>) -> Result<Vec<Option<Enqueued>>, muster_client::Error> {
    let mut all = Vec::new();
    let mut refused = None;
    for result in results {
        match result {
            Ok(enqueued) => all.push(Some(enqueued)),
            Err(error) if error.is_unknown() => return Err(error),
            Err(error) => {
                all.push(None);
                refused = Some(error);
            }
        }
    }
    match refused {
        Some(error) if all.iter().all(Option::is_none) => Err(error),
        _ => Ok(all),
    }
}

fn told(enqueued: Enqueued) -> Told {
    Told {
        job: id(enqueued.id),
        existed: enqueued.existed,
        state: Some(state(enqueued.state)),
    }
}

pub(super) fn seen(job: JobId, at: JobState, attempts: u32, version: u64) -> JobSeen {
    JobSeen {
        job: id(job),
        state: state(at),
        attempts,
        version,
    }
}

/// A state as histories have it.
pub(crate) fn state(state: JobState) -> State {
    match state {
        JobState::Scheduled => State::Scheduled,
        JobState::Blocked => State::Blocked,
        JobState::Available => State::Available,
        JobState::Running => State::Running,
        JobState::Retrying => State::Retrying,
        JobState::Succeeded => State::Succeeded,
        JobState::Dead => State::Dead,
        JobState::Cancelled => State::Cancelled,
        JobState::Expired => State::Expired,
        other => panic!("a state that this build does not know: {other}"),
    }
}

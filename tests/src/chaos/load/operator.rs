//! Someone who stops queues and kinds and resumes them, and gives queues weights.
//!
//! A reply does not tell the log index at which a stop took effect, so bounds are found with a probe: a job that waits
//! for an hour, whose index of acceptance is read back. One accepted after a stop was acknowledged has a higher index
//! than the stop, one accepted before a resume was asked for a lower one than the resume. Between the two nothing may
//! be granted.

use std::sync::Arc;
use std::time::Duration;

use muster_sim::history::{Answer, Operation, OperationKind};
use rand::Rng;

use super::TENANTS;
use super::plan::{CALM, Plan, now_ms, some_queue};
use super::producer::Producer;
use crate::chaos::world::World;

const HOUR_MS: u64 = 3_600_000;
/// Numbers of producers are lower.
const NUMBER: u32 = 1_000;

/// What is stopped.
#[derive(Clone, Copy)]
enum What<'w> {
    Queue(&'w str),
    Kind(&'static str),
}

/// Stops and resumes queues, each once, and kinds, until the run is over; nothing stays stopped. Weights change with each.
pub(super) async fn run(world: Arc<World>) {
    let mut producer = Producer::new(Arc::clone(&world), NUMBER);
    let mut cycle = 0;
    while !world.is_over() {
        cycle += 1;
        let tenant = TENANTS[producer.rng.random_range(0..TENANTS.len())].name;
        producer.weigh(tenant).await;
        let queue = format!("held-{cycle}");
        if producer.rng.random_bool(0.5) {
            producer.cycle(tenant, &queue, "work", What::Queue(&queue)).await;
        } else {
            let kind = CALM[producer.rng.random_range(0..CALM.len())];
            producer.cycle(tenant, &queue, kind, What::Kind(kind)).await;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
            () = world.over() => {}
        }
    }
}

impl Producer {
    async fn cycle(&mut self, tenant: &'static str, queue: &str, kind: &'static str, what: What<'_>) {
        self.fill(tenant, queue, kind, 3).await;
        self.set_paused(tenant, what, true).await;
        self.fill(tenant, queue, kind, 5).await;
        let pause = Duration::from_millis(self.rng.random_range(200..2_000));
        tokio::time::sleep(pause).await;
        self.list_queue(tenant, queue).await;
        self.set_paused(tenant, what, false).await;
    }

    /// Gives one of the queues of most jobs a weight, or takes it away.
    async fn weigh(&mut self, tenant: &'static str) {
        let queue = some_queue(&mut self.rng);
        let weight = self.rng.random_bool(0.7).then(|| self.rng.random_range(1..400));
        let call = self.process.invoke(Operation::SetQueueWeight {
            tenant: tenant.into(),
            queue: queue.as_str().into(),
            weight: weight.unwrap_or_default(),
        });
        let result = self.client(tenant).set_queue_weight(&queue, weight).await;
        let answer = result.map(|()| Answer::Done);
        self.world.settle(OperationKind::SetQueueWeight, call, None, answer);
    }

    async fn fill(&mut self, tenant: &'static str, queue: &str, kind: &'static str, count: usize) {
        for _ in 0..count {
            let plan = Plan::plain(&mut self.rng, tenant, queue, kind);
            self.enqueue(&plan).await;
        }
    }

    /// Repeats until it is done, also when the run is over.
    async fn set_paused(&mut self, tenant: &'static str, what: What<'_>, paused: bool) {
        let mut bound = if paused { None } else { self.probe(tenant).await };
        loop {
            let owner = tenant.into();
            let operation = match what {
                What::Queue(queue) => Operation::SetPaused {
                    tenant: owner,
                    queue: queue.into(),
                    paused,
                },
                What::Kind(kind) => Operation::SetKindPaused {
                    tenant: owner,
                    kind: kind.into(),
                    paused,
                },
            };
            let kind_of_call = operation.kind();
            let call = self.process.invoke(operation);
            let client = self.client(tenant);
            let result = match (what, paused) {
                (What::Queue(queue), true) => client.pause_queue(queue, "chaos").await,
                (What::Queue(queue), false) => client.resume_queue(queue).await,
                (What::Kind(kind), true) => client.pause_kind(kind, "chaos").await,
                (What::Kind(kind), false) => client.resume_kind(kind).await,
            };
            let done = result.is_ok();
            if paused && done {
                bound = self.probe_under_way(tenant).await;
            }
            self.world
                .settle(kind_of_call, call, bound, result.map(|()| Answer::Done));
            if done {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A probe while a call of this client is being written down: by a client of its own.
    async fn probe_under_way(&self, tenant: &'static str) -> Option<u64> {
        let mut other = Self::new(Arc::clone(&self.world), NUMBER + 1);
        other.probe(tenant).await
    }

    /// The log index at which a job was accepted just now.
    async fn probe(&mut self, tenant: &'static str) -> Option<u64> {
        let plan = Plan {
            due: now_ms() + HOUR_MS,
            ..Plan::plain(&mut self.rng, tenant, "probes", "work")
        };
        self.enqueue(&plan).await?;
        let index = self.look(plan.id, tenant).await.map(|seen| seen.version);
        self.cancel(plan.id, tenant).await;
        index
    }
}

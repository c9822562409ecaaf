//! Those who follow single jobs: watches, and waits for the end.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use muster_client::{Error, JobId};
use muster_sim::history::{Answer, JobSeen, Operation, OperationKind};
use rand::Rng;

use super::plan::{Plan, id};
use super::producer::{Producer, seen, state};
use crate::chaos::world::World;

/// Numbers of producers and operators are lower.
const NUMBER: u32 = 2_000;
/// Longest wait for the end of one job.
const PATIENCE: Duration = Duration::from_secs(8);

/// Enqueues one job after the other and follows each until it ends or the run is over.
pub(super) async fn run(world: Arc<World>, number: u32) {
    let mut producer = Producer::new(Arc::clone(&world), NUMBER + number);
    while !world.is_over() {
        let mut plan = Plan::random(&mut producer.rng);
        // Behind a dead job of a strict key it would be followed for the rest of the run.
        plan.claims.ordering_key = None;
        let Some(enqueued) = producer.enqueue(&plan).await else {
            continue;
        };
        if producer.rng.random_bool(0.7) {
            producer.watch(enqueued.id, plan.tenant).await;
        } else {
            producer.wait(enqueued.id, plan.tenant).await;
        }
    }
}

impl Producer {
    /// Writes down what a watch shows, until the job ends.
    async fn watch(&mut self, job: JobId, tenant: &'static str) {
        let call = self.process.invoke(Operation::Watch {
            tenant: tenant.into(),
            job: Some(id(job)),
            after: 0,
            latest: true,
        });
        let mut changes = std::pin::pin!(self.client(tenant).watch(job));
        loop {
            let change = tokio::select! {
                change = changes.next() => change,
                () = self.world.over() => return call.info("not followed any longer"),
            };
            match change {
                Some(Ok(info)) => call.watched(id(job), state(info.state), info.changed_index),
                Some(Err(error)) => {
                    self.world.settle(OperationKind::Watch, call, None, Err(error));
                    return;
                }
                None => {
                    self.world.settle(OperationKind::Watch, call, None, Ok(Answer::Done));
                    return;
                }
            }
        }
    }

    async fn wait(&mut self, job: JobId, tenant: &'static str) {
        let call = self.process.invoke(Operation::Wait {
            tenant: tenant.into(),
            job: id(job),
        });
        let result = match self.client(tenant).wait(job, PATIENCE).await {
            Ok(info) => Ok(Some(seen(job, info.state, info.attempts, info.changed_index))),
            Err(Error::StillLive { state: live, .. }) => Ok(Some(JobSeen {
                job: id(job),
                state: state(live),
                attempts: 0,
                version: 0,
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        };
        self.world
            .settle(OperationKind::Wait, call, None, result.map(Answer::Job));
    }
}

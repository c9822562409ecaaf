//! Clients: tenants, producers, readers, operators.

mod operator;
mod plan;
mod producer;
mod tenants;
mod watcher;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

pub(crate) use plan::{CALM, id};
pub(crate) use producer::state;
pub(crate) use tenants::{API, TENANTS, create};

use crate::chaos::world::World;

/// Clients at once, operators and watchers apart.
const PRODUCERS: u32 = 32;
/// Those who follow single jobs.
const WATCHERS: u32 = 8;

/// Payloads of those who fill the log.
const BULK_BYTES: usize = 100_000;
/// Between two of them.
const BULK_EVERY: Duration = Duration::from_millis(25);

/// Enqueues few jobs with large payloads, so that the log grows, until it is dropped. What it was about to enqueue then is of
/// unknown outcome.
pub(crate) async fn fill_log(world: &Arc<World>, number: u32) {
    let mut producer = producer::Producer::new(Arc::clone(world), 10_000 + number);
    loop {
        let plan = plan::Plan {
            bytes: BULK_BYTES,
            ..plan::Plan::plain(&mut producer.rng, TENANTS[0].name, "bulk", "work")
        };
        producer.enqueue(&plan).await;
        tokio::time::sleep(BULK_EVERY).await;
    }
}

/// Starts all clients. They end when the run is over and what they paused is resumed.
pub(crate) fn start(world: &Arc<World>, rate: u32) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for number in 0..PRODUCERS {
        tasks.push(tokio::spawn(producer::run(
            Arc::clone(world),
            number,
            rate.div_ceil(PRODUCERS).max(1),
        )));
    }
    tasks.push(tokio::spawn(operator::run(Arc::clone(world))));
    tasks.extend((0..WATCHERS).map(|number| tokio::spawn(watcher::run(Arc::clone(world), number))));
    tasks
}

//! Clients: tenants, producers, readers, operators.

mod operator;
mod plan;
mod producer;
mod tenants;
mod watcher;

use std::sync::Arc;

use tokio::task::JoinHandle;

pub(crate) use plan::{CALM, id};
pub(crate) use producer::state;
pub(crate) use tenants::{API, TENANTS, create};

use crate::chaos::world::World;

/// Clients at once, operators and watchers apart.
const PRODUCERS: u32 = 32;
/// Those who follow single jobs.
const WATCHERS: u32 = 8;

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

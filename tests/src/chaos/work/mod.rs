//! Workers: some of the client library, some that are made to hang and lie.

mod handler;
mod liar;
mod library;
mod session;

use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;

pub(crate) use liar::{Liar, Order};
pub(crate) use library::Library;

use crate::chaos::world::World;

/// Silence after which the cluster gives up a session.
pub(crate) const TTL: std::time::Duration = std::time::Duration::from_secs(2);

/// All workers.
pub(crate) struct Workers {
    pub(crate) library: Vec<Library>,
    pub(crate) liars: Vec<Liar>,
}

impl Workers {
    /// Starts them.
    pub(crate) fn start(world: &Arc<World>) -> Self {
        Self {
            library: (0..3).map(|number| Library::start(Arc::clone(world), number)).collect(),
            liars: (0..4).map(|number| Liar::start(Arc::clone(world), number)).collect(),
        }
    }

    /// One of those that do as they are told.
    pub(crate) fn some_liar(&self, rng: &mut StdRng) -> &Liar {
        &self.liars[rng.random_range(0..self.liars.len())]
    }

    /// Ends all, in order where possible.
    pub(crate) async fn stop(&self) {
        for worker in &self.library {
            worker.stop().await;
        }
        for liar in &self.liars {
            liar.obey(Order::Stop).await;
        }
    }
}

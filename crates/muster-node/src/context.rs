//! What all actors of a node share.

use std::sync::Arc;

use tokio::sync::watch;

use crate::consensus::{SharedConsensus, read};
use crate::hub::NodeHub;
use crate::local::HandlerRegistry;
use crate::options::NodeOptions;

pub(crate) struct Context {
    pub options: NodeOptions,
    pub consensus: SharedConsensus,
    pub hub: Arc<NodeHub>,
    pub handlers: HandlerRegistry,
    /// Why the node cannot go on.
    pub fatal: watch::Sender<Option<String>>,
    /// True once the node was told to stop.
    pub stopping: watch::Sender<bool>,
}

impl Context {
    /// The first reason stays.
    pub(crate) fn fail(&self, reason: String) {
        tracing::error!(reason, "the node cannot go on");
        self.fatal.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }

    /// Looks whether this node is drained: at the start, and after the state was replaced.
    pub(crate) fn look_for_drain(&self) {
        let own = self.options.node;
        let drained = read(self.consensus.as_ref(), |core| {
            core.node(own).is_some_and(|row| row.drained)
        });
        self.hub.set_drained(drained.unwrap_or_default());
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}

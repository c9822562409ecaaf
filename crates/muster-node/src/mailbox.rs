//! The address of an actor that may be replaced by its successor at any time.

use parking_lot::RwLock;
use ractor::{ActorRef, Message};

/// Where to send what an actor should hear, whoever plays it at the moment.
pub(crate) struct Mailbox<M> {
    actor: RwLock<Option<ActorRef<M>>>,
}

impl<M> Default for Mailbox<M> {
    fn default() -> Self {
        Self {
            actor: RwLock::new(None),
        }
    }
}

impl<M> std::fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox")
    }
}

impl<M: Message> Mailbox<M> {
    /// Called by each new actor of this part when it starts.
    pub(crate) fn occupy(&self, actor: ActorRef<M>) {
        *self.actor.write() = Some(actor);
    }

    /// False when nobody is there; the next actor then looks at the state of things itself when it starts.
    pub(crate) fn cast(&self, message: M) -> bool {
        match &*self.actor.read() {
            Some(actor) => actor.cast(message).is_ok(),
            None => false,
        }
    }

    /// The present actor.
    #[cfg(test)]
    pub(crate) fn actor(&self) -> Option<ActorRef<M>> {
        self.actor.read().clone()
    }
}

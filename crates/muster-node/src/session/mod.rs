//! Worker sessions of this node: from the worker's frames to proposals, from applied entries to the worker's frames.

mod actor;
mod handle;
mod inbox;
mod link;
mod outbox;
mod reconcile;
mod types;

pub use handle::{SessionHandle, SessionOver, SessionReceiver, SessionSender};
pub use types::{ReportAck, SessionEnd, SessionHello, SessionInput, SessionOutput, Stop, StopReason};

#[cfg(test)]
pub(crate) use actor::SessionMsg;
pub(crate) use actor::{SessionActor, SessionArgs, close_without_actor};
pub(crate) use link::Link;
pub(crate) use outbox::Delivery;
pub(crate) use reconcile::reconcile;

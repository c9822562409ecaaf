//! The living part of a node: actors under supervision, worker sessions, local workers, checkpoints.
//!
//! The replicated state decides everything; this crate brings its decisions to workers and theirs to the log. Jobs go
//! from `apply` through [`NodeHub`] straight into the session's outbox; actors drive what takes time or can fail:
//!
//! ```text
//! NodeSupervisor
//!  ├─ Scheduler      leader only: lets timers fire, declares silent sessions lost
//!  ├─ Sessions       one actor per worker stream: proposes its reports and credits, its end
//!  ├─ LocalWorkers   one actor per worker inside the node: http, embedded handlers
//!  └─ Checkpointer   writes changed rows to disk, small and often
//! ```
//!
//! A crashed actor is started again; what it must not lose lies beside it. One that crashes too often ends the node
//! ([`Node::failed`]), a session's actor only its session. The only crate that knows ractor.

mod checkpointer;
#[cfg(test)]
mod clock;
mod consensus;
mod context;
mod desk;
mod error;
mod hub;
mod local;
mod mailbox;
mod metrics;
mod node;
mod options;
mod propose;
mod roster;
mod scheduler;
mod session;
mod sessions;
mod supervision;
mod supervisor;
mod task;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod watch;

pub use error::Error;
pub use hub::NodeHub;
pub use local::{EmbeddedWorker, HandlerError, HandlerRegistry, HttpWorkerOptions, JobContext, Secret, signature};
pub use node::Node;
pub use options::{CheckpointOptions, NodeOptions, RestartOptions};
pub use session::{
    ReportAck, SessionEnd, SessionHandle, SessionHello, SessionInput, SessionOutput, SessionOver, SessionReceiver,
    SessionSender, Stop, StopReason,
};
pub use watch::{JobChange, JobWatch};

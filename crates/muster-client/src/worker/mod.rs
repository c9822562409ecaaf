//! Runs jobs.
//!
//! A worker holds one stream to one node. The node hands it jobs as far as it has room; the worker reports how they ended.
//! What ended while a frame was being sent goes out with the next one. When the stream breaks, the worker connects to
//! another node: what it runs goes on, since the leases stand until the session's silence has lasted its TTL; after that
//! they are given up. Reports without an answer are sent again on the new stream, where the cluster judges each by its
//! lease: a late one changes nothing.
//!
//! A node that is drained asks the worker to go elsewhere. The worker then takes new jobs through a session at another node,
//! while what it got through the old one runs to its end; only then it says goodbye there.

mod builder;
mod context;
mod failure;
mod farewell;
mod handler;
mod pool;
mod runtime;
mod session;
mod signal;
mod stats;

pub use builder::{Worker, WorkerBuilder};
pub use context::{Context, StopReason};
pub use failure::JobError;
pub use handler::RawPayload;
pub use signal::shutdown_signal;
pub use stats::WorkerStats;

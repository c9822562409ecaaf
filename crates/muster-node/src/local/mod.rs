//! Workers inside the node: sessions like any other, but without a stream.

mod address;
mod handler;
mod http;
mod outcome;
mod signature;
mod supervisor;
mod worker;

pub use handler::{EmbeddedWorker, HandlerError, HandlerRegistry, JobContext};
pub use http::{HttpWorkerOptions, Secret};
pub use signature::signature;

pub(crate) use supervisor::LocalWorkers;
#[cfg(test)]
pub(crate) use supervisor::LocalWorkersMsg;
#[cfg(test)]
pub(crate) use worker::WorkerMsg;

//! The public interface `muster.v1` over gRPC: admit, validate, convert, propose, map errors.
//!
//! One file per verb. Nothing unchecked goes further than `validate`; nothing becomes a status but in `errors`.

mod admit;
mod api;
mod arriving;
mod backup;
mod cancel;
mod cluster;
mod cluster_changes;
mod convert;
mod deadline;
mod enqueue;
mod enqueue_stream;
mod errors;
mod explain;
mod facts;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod get;
mod health;
mod history;
mod kinds;
mod limits;
mod list;
mod memory;
mod mint;
mod options;
mod orders;
mod priority;
mod queues;
mod quota;
mod read;
mod reason;
mod redrive;
mod request;
mod router;
mod rule_book;
mod tenant;
mod tenants;
mod upgrade;
mod validate;
mod wait;
mod work;

pub use crate::errors::{Error, Violation};
pub use crate::options::ApiOptions;
pub use crate::reason::{DOMAIN, Reason};
pub use crate::router::router;
pub use crate::tenant::TENANT_KEY;

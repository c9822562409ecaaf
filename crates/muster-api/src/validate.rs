//! What comes from outside is checked here, before anything is logged, and leaves as the core's types.
//!
//! Each function names the field as the proto does, and its bound. A path like `jobs[3]` is put before it only when
//! there is an error, so that good input costs no text.

mod field;
mod job;
mod limit;
mod tenant;
mod worker;

pub(crate) use field::{count, job_id, name, node, number, optional_address, required, shown, span, text};
pub(crate) use job::{Context, job_spec, ordering_key, priority, states};
pub(crate) use limit::{level, limit, limit_key, limiter_name, selector};
pub(crate) use tenant::{create_tenant, update_tenant};
pub(crate) use worker::{frame, hello};

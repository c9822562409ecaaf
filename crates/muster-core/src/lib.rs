//! The queue core: tenants, queues, jobs, leases and limits as a pure function of a log of commands.
//!
//! [`Core::apply`] takes one log entry and returns replies and events. The same log gives the same state, replies and
//! events on every node: there is no clock, no randomness, no I/O, no floating point and no unordered iteration here.
//! Time comes stamped in each batch; ids and seeds come in commands.

mod apply;
mod backoff;
mod book;
mod check;
mod class;
mod cluster;
mod command;
mod core;
mod defect;
mod dirty;
mod ended;
mod explain;
mod fair;
mod fifo;
mod fleet;
mod gate;
mod gates;
mod gather;
mod gcra;
mod guarantee;
mod hash;
mod heads;
mod ids;
mod job;
mod lane;
mod lanes;
mod level;
mod life;
mod limit;
mod line;
mod live;
mod memory;
mod order;
mod query;
mod quota;
mod reply;
mod requests;
mod restore;
mod route;
mod row;
mod session;
mod slab;
mod tenant;
#[cfg(test)]
mod testing;
mod timer;
mod view;

pub use crate::cluster::{
    ChangeOutcome, ChangeRow, ChangesRow, ClusterCommand, ClusterRefusal, EndedChange, JoinTokenRow, Member,
    MembershipChange, NodeRow, NodeState, TokenHash,
};
pub use crate::command::*;
pub use crate::core::{Core, DEFAULT_TENANT, SYSTEM_TENANT};
#[cfg(feature = "seeded-bugs")]
pub use crate::defect::Defect;
pub use crate::explain::*;
pub use crate::ids::*;
pub use crate::job::*;
pub use crate::level::{LEVEL_MAX, LEVEL_MIN, level_means};
pub use crate::limit::*;
pub use crate::query::*;
pub use crate::quota::{Excess, Quota, QuotaBound, QuotaUse};
pub use crate::reply::*;
pub use crate::requests::RequestRow;
pub use crate::restore::RestoreError;
pub use crate::row::*;

/// Bugs can be switched on in this build; a binary that is to be shipped refuses to compile with it.
pub const SEEDED_BUGS: bool = cfg!(feature = "seeded-bugs");

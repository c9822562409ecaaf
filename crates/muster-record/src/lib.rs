//! The history of one run as a file, for the checkers of `muster-sim`: JSON Lines, a header and then one record per
//! line. Clients, workers and the injector of faults write through a [`Recorder`]; a node that is told to writes an
//! [`AppliedLog`], which is merged into the history when the run is over.
//!
//! Not the history of ended jobs, which a cluster keeps: that is `muster-store`'s.
//!
//! Records of different tasks stand in the order in which they were appended, which need not be that of their times;
//! checkers go by the times. A call without a completion and an attempt without an end are legal: their outcome is
//! unknown.

mod applied_log;
mod call;
mod effects;
mod fault;
mod header;
mod id;
mod last;
mod reader;
mod recorder;
mod server;
mod work;

use serde::{Deserialize, Serialize};

pub use crate::applied_log::{AppliedLog, AppliedReader};
pub use crate::call::*;
pub use crate::effects::{counts, digest, effects, enqueued, how};
pub use crate::fault::*;
pub use crate::header::*;
pub use crate::id::Id;
pub use crate::last::*;
pub use crate::reader::{Malformed, Reader};
pub use crate::recorder::{CallLog, FaultLog, Process, Recorder, WorkerLog};
pub use crate::server::*;
pub use crate::work::*;
pub use muster_core::{
    AGING_STRICT, Backoff, JobState, KindVersions, LimitLevel, LimitRule, LimitSelector, Name, Priority, Quota,
    RateLimit, WorkerClass,
};

/// Microseconds on the monotonic clock of the program that records, from its start.
pub type Micros = u64;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A client makes a call.
    Invoke(Invoke),
    /// The call comes back.
    Complete(Complete),
    /// A watch delivers a change of a job.
    Watched(Watched),
    /// A watch says how far it has come.
    Progress(Progress),
    /// A handler begins.
    Started(Started),
    /// A handler ends, and its report is sent (again).
    Ended(Ended),
    /// The report is answered.
    Answered(Answered),
    /// A handler used the fenced resource.
    Wrote(Wrote),
    /// A node took the lead.
    Leader(Leader),
    /// A node applied a log entry.
    Applied(Applied),
    /// A fault was injected and is over.
    Fault(Fault),
    /// No fault begins after this.
    Healed {
        /// When.
        at: Micros,
    },
    /// Last scan: a job.
    Job(FinalJob),
    /// Last scan: a tenant.
    Tenant(FinalTenant),
    /// Last scan: a queue.
    Queue(FinalQueue),
    /// Last scan: a node.
    Node(FinalNode),
    /// The last scan is over.
    Scanned(Scanned),
}

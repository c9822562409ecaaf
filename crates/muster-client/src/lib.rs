//! Client library of Muster, the replicated background-job cluster.
//!
//! ```no_run
//! use std::time::Duration;
//! use muster_client::{Client, Context, Job, JobError, Worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Count {
//!     text: String,
//! }
//!
//! impl Job for Count {
//!     const KIND: &'static str = "count";
//!     type Output = usize;
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(["http://127.0.0.1:7001"]).await?;
//! let job = client.enqueue(Count { text: "one two".into() }).await?;
//!
//! // Usually in another program:
//! let worker = Worker::builder(&client)
//!     .handler(|job: Count, _: Context| async move { Ok::<_, JobError>(job.text.split(' ').count()) })
//!     .build()?;
//! tokio::spawn(worker.run_until(muster_client::shutdown_signal()));
//!
//! assert_eq!(job.wait(Duration::from_secs(10)).await?, 2);
//! # Ok(()) }
//! ```
//!
//! # How a call ends
//! *Done* (`Ok`: synced to disk on a majority of nodes), *not done* ([`Error::NotDone`]: certainly no effect) or *unknown*
//! ([`Error::Unknown`]: sent, not answered in time). The client repeats unanswered calls by itself until the deadline
//! (30 s), with the same id, so a job is accepted once however often it was sent. To settle an unknown enqueue later,
//! repeat it with [`Enqueue::id`].
//!
//! # How a job runs
//! At least once. [`Context::fence`] grows with every attempt of any job; services that refuse lower values than they have
//! seen make a job's side effects exactly-once.
//!
//! # Features
//! `worker` (on by default): the worker runtime. Without it the crate only enqueues and asks.

mod admin;
mod backup;
mod call;
mod client;
mod cluster;
mod error;
mod explain;
mod id;
mod job;
mod jobs;
mod kinds;
mod limits;
mod members;
mod priority;
mod producer;
mod stale;
mod states;
mod upgrade;
mod views;
#[cfg(feature = "worker")]
mod worker;

pub use admin::{NewTenant, Quota, TenantChange};
pub use backup::{ArchiveInfo, BackupInfo, BackupProgress, BackupStatus};
pub use client::{Client, ClientBuilder, DEFAULT_ATTEMPT_TIMEOUT, DEFAULT_DEADLINE};
pub use cluster::{
    ClusterStatus, JobsMemory, JoinToken, JoinTokenInfo, MemberInfo, MembershipChange, NewNode, StorageInfo,
};
pub use error::{Error, Reason, Result};
pub use explain::{
    AttemptHolder, JobExplanation, LanePosition, LimitCause, LimitWait, OrderingWait, TenantShare, WaitReason,
    WorkerMatch,
};
pub use id::JobId;
pub use job::{Backoff, Enqueue, Job, OrderingPolicy, RawJob};
pub use jobs::{Enqueued, JobHandle, ListJobs};
pub use kinds::{KindInfo, UnroutableJobs};
pub use limits::{HeldOrder, Limit, LimitInfo, LimitLevel, LimitSelector, LimiterInfo, LimiterState, RateLimit};
pub use priority::{PriorityChange, PriorityOrder};
pub use stale::{Stale, StaleReads};
pub use states::{JobState, Priority};
pub use tonic::Code;
pub use upgrade::{MemberLevel, UpgradeInfo};
pub use views::{JobFailure, JobInfo, JobPage, QueueInfo, TenantInfo, TenantTotals, WorkerInfo};
#[cfg(feature = "worker")]
pub use worker::{Context, JobError, RawPayload, StopReason, Worker, WorkerBuilder, WorkerStats, shutdown_signal};

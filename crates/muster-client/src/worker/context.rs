//! What a handler knows about its attempt.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use muster_proto::v1;
use tokio_util::sync::CancellationToken;

use crate::id::JobId;
use crate::views::time;

/// Why an attempt should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// A client asked for it. Return [`crate::JobError::cancelled`]; any error counts as that now, a success stays one.
    Cancel,
    /// The lease is gone: the job may be running elsewhere. Asynchronous handlers are dropped at their next `await`.
    LeaseLost,
    /// The worker shuts down and its drain time is over: the job is handed back in a moment.
    Shutdown,
}

/// An attempt, as its handler sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: JobId,
    tenant: String,
    queue: String,
    kind: String,
    schema_version: u32,
    attempt: u32,
    max_attempts: u32,
    fence: u64,
    deadline: Option<SystemTime>,
    available_at: Option<SystemTime>,
    metadata: HashMap<String, String>,
    limit_keys: Vec<String>,
    ordering_key: String,
    sequence: u64,
    token: CancellationToken,
    stop: OnceLock<StopReason>,
}

impl Context {
    pub(super) fn new(id: JobId, job: &mut v1::LeasedJob) -> Self {
        Self {
            inner: Arc::new(Inner {
                id,
                tenant: std::mem::take(&mut job.tenant),
                queue: std::mem::take(&mut job.queue),
                kind: job.kind.clone(),
                schema_version: job.schema_version,
                attempt: job.attempt,
                max_attempts: job.max_attempts,
                fence: job.fence,
                deadline: time(job.deadline),
                available_at: time(job.available_at),
                metadata: std::mem::take(&mut job.metadata),
                limit_keys: std::mem::take(&mut job.limit_keys),
                ordering_key: std::mem::take(&mut job.ordering_key),
                sequence: job.sequence,
                token: CancellationToken::new(),
                stop: OnceLock::new(),
            }),
        }
    }

    /// The job.
    pub fn job_id(&self) -> JobId {
        self.inner.id
    }

    /// Its owner.
    pub fn tenant(&self) -> &str {
        &self.inner.tenant
    }

    /// Its queue.
    pub fn queue(&self) -> &str {
        &self.inner.queue
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        &self.inner.kind
    }

    /// Version of its payload's schema.
    pub fn schema_version(&self) -> u32 {
        self.inner.schema_version
    }

    /// Number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// Failures and timeouts allowed. On the last attempt a failure makes the job dead.
    pub fn max_attempts(&self) -> u32 {
        self.inner.max_attempts
    }

    /// Fencing token: greater than that of every earlier attempt of any job. Give it to the services the job writes to,
    /// and let them refuse lower ones than they have seen.
    pub fn fence(&self) -> u64 {
        self.inner.fence
    }

    /// When the attempt times out; `None`: never.
    pub fn deadline(&self) -> Option<SystemTime> {
        self.inner.deadline
    }

    /// When the job became available: its wait counts from here.
    pub fn available_at(&self) -> Option<SystemTime> {
        self.inner.available_at
    }

    /// The pairs given at the enqueue.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.inner.metadata
    }

    /// Its limit keys; one of them can be reported with [`crate::JobError::throttled`].
    pub fn limit_keys(&self) -> &[String] {
        &self.inner.limit_keys
    }

    /// Its ordering key, if it has one.
    pub fn ordering_key(&self) -> Option<&str> {
        Some(self.inner.ordering_key.as_str()).filter(|key| !key.is_empty())
    }

    /// Its place among the jobs of its ordering key, growing from job to job; 0 without a key. Services that keep the
    /// highest one they have seen of a key can refuse what comes late.
    pub fn sequence(&self) -> u64 {
        self.inner.sequence
    }

    /// Cancelled when the attempt should stop. To be handed to what the handler calls.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.inner.token
    }

    /// Why the attempt should stop; `None`: it should not.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.inner.stop.get().copied()
    }

    /// Ends when the attempt should stop.
    pub async fn cancelled(&self) -> StopReason {
        self.inner.token.cancelled().await;
        self.stop_reason().unwrap_or(StopReason::Cancel)
    }

    /// The first reason given stays, except that a lost lease outweighs the others in [`super::pool`].
    pub(super) fn stop(&self, reason: StopReason) {
        let _ = self.inner.stop.set(reason);
        self.inner.token.cancel();
    }
}

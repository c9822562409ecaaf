//! Handlers: what a local worker runs for a job.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use muster_core::{AttemptOutcome, JobError, JobSpec, KindVersions, Name, WorkerClass};
use tokio_util::sync::CancellationToken;

/// One attempt as its handler sees it.
#[derive(Clone, Debug)]
pub struct JobContext {
    /// The job.
    pub job: Arc<JobSpec>,
    /// Attempt number, from 1.
    pub attempt: u32,
    /// Fencing token; greater than that of every earlier attempt of any job.
    pub fence: u64,
    /// Its place among the jobs of its ordering key; says nothing without one.
    pub sequence: u64,
    /// When the attempt times out.
    pub deadline: Option<SystemTime>,
    /// Cancelled when a client asked to cancel the job: the handler should return soon. It is dropped 10 s later.
    pub cancelled: CancellationToken,
}

/// How a handler ends without success.
#[derive(Clone, Debug)]
pub enum HandlerError {
    /// The attempt failed.
    Failed {
        /// What went wrong.
        error: JobError,
        /// False: straight to dead.
        retryable: bool,
        /// Overrides the backoff when not zero.
        retry_after: Duration,
    },
    /// Not now: again after this, the attempt not counted.
    Snoozed(Duration),
    /// A service behind the handler throttles: no job with this limit key starts for so long. The attempt is not counted.
    Throttled {
        /// One of the job's limit keys.
        key: Name,
        /// How long.
        retry_after: Duration,
    },
    /// Stopped because a cancel was asked for.
    Cancelled,
}

impl HandlerError {
    /// A failure that is tried again after the job's backoff.
    pub fn retry(class: impl Into<Name>, message: impl Into<Name>) -> Self {
        Self::Failed {
            error: JobError {
                class: class.into(),
                message: message.into(),
            },
            retryable: true,
            retry_after: Duration::ZERO,
        }
    }

    /// A failure that no further attempt can mend.
    pub fn fatal(class: impl Into<Name>, message: impl Into<Name>) -> Self {
        Self::Failed {
            error: JobError {
                class: class.into(),
                message: message.into(),
            },
            retryable: false,
            retry_after: Duration::ZERO,
        }
    }
}

impl From<HandlerError> for AttemptOutcome {
    fn from(error: HandlerError) -> Self {
        match error {
            HandlerError::Failed {
                error,
                retryable,
                retry_after,
            } => Self::Failed {
                error,
                retryable,
                retry_after: millis(retry_after),
            },
            HandlerError::Snoozed(delay) => Self::Snoozed { delay: millis(delay) },
            HandlerError::Throttled { key, retry_after } => Self::Throttled {
                key,
                retry_after: millis(retry_after),
            },
            HandlerError::Cancelled => Self::Cancelled,
        }
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Runs attempts. A panic in it is a failure of the attempt.
pub(crate) trait Handler: Send + Sync + 'static {
    fn run(&self, job: JobContext) -> BoxFuture<'static, AttemptOutcome>;
}

impl<F, R> Handler for F
where
    F: Fn(JobContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Bytes, HandlerError>> + Send + 'static,
{
    fn run(&self, job: JobContext) -> BoxFuture<'static, AttemptOutcome> {
        let result = self(job);
        Box::pin(async move {
            match result.await {
                Ok(result) => AttemptOutcome::Succeeded { result },
                Err(error) => error.into(),
            }
        })
    }
}

/// A worker of this process: Rust functions by job kind.
#[derive(Clone)]
pub struct EmbeddedWorker {
    name: Name,
    tenants: Vec<Name>,
    queues: Vec<Name>,
    concurrency: u32,
    handlers: BTreeMap<Name, Arc<dyn Handler>>,
}

impl EmbeddedWorker {
    /// A worker of all tenants and queues, four jobs at a time, without handlers.
    pub fn new(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            tenants: Vec::new(),
            queues: Vec::new(),
            concurrency: 4,
            handlers: BTreeMap::new(),
        }
    }

    /// Serves these tenants only.
    #[must_use]
    pub fn tenants(mut self, tenants: impl IntoIterator<Item = impl Into<Name>>) -> Self {
        self.tenants = tenants.into_iter().map(Into::into).collect();
        self
    }

    /// Serves these queues only; a trailing `*` matches any ending.
    #[must_use]
    pub fn queues(mut self, queues: impl IntoIterator<Item = impl Into<Name>>) -> Self {
        self.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// Jobs at a time, from 1.
    #[must_use]
    pub fn concurrency(mut self, concurrency: u32) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Runs jobs of `kind`, of any schema version, with `handler`. What it returns is kept with the job, at most 64 KiB.
    #[must_use]
    pub fn handle<F, R>(mut self, kind: impl Into<Name>, handler: F) -> Self
    where
        F: Fn(JobContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Bytes, HandlerError>> + Send + 'static,
    {
        self.handlers.insert(kind.into(), Arc::new(handler));
        self
    }

    pub(crate) fn definition(&self) -> WorkerDefinition {
        let kinds = self.handlers.keys().map(|kind| &**kind);
        WorkerDefinition {
            name: self.name.clone(),
            class: worker_class(&self.tenants, &self.queues, kinds, self.concurrency),
            concurrency: self.concurrency,
            handler: Arc::new(ByKind(self.handlers.clone())),
        }
    }
}

/// Workers that run in this process.
#[derive(Clone, Default)]
pub struct HandlerRegistry {
    workers: Vec<EmbeddedWorker>,
}

impl HandlerRegistry {
    /// Adds a worker.
    #[must_use]
    pub fn with(mut self, worker: EmbeddedWorker) -> Self {
        self.workers.push(worker);
        self
    }

    pub(crate) fn definitions(&self) -> impl Iterator<Item = WorkerDefinition> {
        self.workers.iter().map(EmbeddedWorker::definition)
    }
}

struct ByKind(BTreeMap<Name, Arc<dyn Handler>>);

impl Handler for ByKind {
    fn run(&self, job: JobContext) -> BoxFuture<'static, AttemptOutcome> {
        if let Some(handler) = self.0.get(&job.job.kind) {
            return handler.run(job);
        }
        let error = HandlerError::retry("unknown_kind", format!("no handler for kind {:?}", job.job.kind));
        Box::pin(std::future::ready(error.into()))
    }
}

/// A local worker of any sort.
#[derive(Clone)]
pub(crate) struct WorkerDefinition {
    pub name: Name,
    pub class: WorkerClass,
    pub concurrency: u32,
    pub handler: Arc<dyn Handler>,
}

pub(crate) fn worker_class<'a>(
    tenants: &[Name],
    queues: &[Name],
    kinds: impl Iterator<Item = &'a str>,
    slots: u32,
) -> WorkerClass {
    let sorted = |names: &[Name]| {
        let mut names = names.to_vec();
        names.sort();
        names.dedup();
        names
    };
    let mut kinds: Vec<_> = kinds
        .map(|kind| KindVersions {
            kind: kind.into(),
            min_version: 1,
            max_version: u32::MAX,
        })
        .collect();
    kinds.sort();
    kinds.dedup();
    WorkerClass {
        tenants: sorted(tenants),
        queues: sorted(queues),
        kinds,
        labels: Vec::new(),
        slots,
    }
}

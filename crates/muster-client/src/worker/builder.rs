//! How a worker is put together.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_proto::v1;

use super::context::Context;
use super::failure::JobError;
use super::handler::{RawPayload, Registered};
use super::stats::{Counters, WorkerStats};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::views::duration;

/// Runs jobs of the kinds it has handlers for. Made by [`Worker::builder`].
pub struct Worker {
    pub(super) client: Client,
    pub(super) hello: v1::WorkerHello,
    pub(super) handlers: Arc<HashMap<String, Registered>>,
    pub(super) concurrency: u32,
    pub(super) drain: Duration,
    pub(super) counters: Arc<Counters>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.hello.name)
            .field("kinds", &self.handlers.keys().collect::<Vec<_>>())
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker for the client's tenant, on the client's connections.
    pub fn builder(client: &Client) -> WorkerBuilder {
        WorkerBuilder {
            client: client.clone(),
            name: format!("worker-{}", std::process::id()),
            tenants: Vec::new(),
            queues: Vec::new(),
            labels: HashMap::new(),
            handlers: Vec::new(),
            concurrency: 16,
            ttl: Duration::from_secs(10),
            drain: Duration::from_secs(30),
        }
    }

    /// Counts so far. Take a [`Self::stats_handle`] to read them while the worker runs.
    pub fn stats(&self) -> WorkerStats {
        self.counters.snapshot()
    }

    /// Reads the counts, also while the worker runs and after.
    pub fn stats_handle(&self) -> impl Fn() -> WorkerStats + Send + Sync + Clone + 'static {
        let counters = Arc::clone(&self.counters);
        move || counters.snapshot()
    }
}

/// Settings of a [`Worker`].
#[derive(Clone)]
#[must_use]
pub struct WorkerBuilder {
    client: Client,
    name: String,
    tenants: Vec<String>,
    queues: Vec<String>,
    labels: HashMap<String, String>,
    handlers: Vec<Registered>,
    concurrency: u32,
    ttl: Duration,
    drain: Duration,
}

impl WorkerBuilder {
    /// For people, e.g. host and process id; at most 128 bytes. Default: `worker-` and the process id.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// A tenant to serve besides those named before; `*`: all. Default: the client's.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenants.push(tenant.into());
        self
    }

    /// A queue to serve besides those named before, by name or with a trailing `*`. Default: all.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queues.push(queue.into());
        self
    }

    /// What the worker is; jobs may require labels. At most 16.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Jobs at once, 1–10,000. Default 16.
    pub fn concurrency(mut self, jobs: u32) -> Self {
        self.concurrency = jobs;
        self
    }

    /// Silence after which the cluster runs this worker's jobs elsewhere, 1 s–10 min. Default 10 s.
    pub fn session_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Time that running jobs get after a shutdown was asked for. Default 30 s.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// A handler for jobs of type `J`.
    pub fn handler<J, F, Fut>(mut self, handler: F) -> Self
    where
        J: Job,
        F: Fn(J, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::result::Result<J::Output, JobError>> + Send + 'static,
    {
        self.handlers.push(Registered::typed(handler));
        self
    }

    /// A handler that blocks its thread. It cannot be dropped midway: it should look at [`Context::stop_reason`].
    /// A runtime runs at most 512 such at once by default.
    pub fn blocking_handler<J, F>(mut self, handler: F) -> Self
    where
        J: Job,
        F: Fn(J, Context) -> std::result::Result<J::Output, JobError> + Send + Sync + 'static,
    {
        self.handlers.push(Registered::blocking(handler));
        self
    }

    /// A handler for jobs of this kind without a Rust type, of any schema version.
    pub fn raw_handler<F, Fut>(mut self, kind: impl Into<String>, handler: F) -> Self
    where
        F: Fn(RawPayload, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::result::Result<Bytes, JobError>> + Send + 'static,
    {
        let kind = v1::WorkerKind {
            kind: kind.into(),
            min_version: 0,
            max_version: 0,
        };
        self.handlers.push(Registered::raw(kind, handler));
        self
    }

    /// Checks the settings.
    pub fn build(self) -> Result<Worker> {
        let invalid = |field, message| Err(Error::Invalid { field, message });
        if !(1..=10_000).contains(&self.concurrency) {
            return invalid(
                "concurrency",
                format!("{} given, allowed are 1 to 10,000", self.concurrency),
            );
        }
        if !(Duration::from_secs(1)..=Duration::from_mins(10)).contains(&self.ttl) {
            return invalid(
                "session_ttl",
                format!("{:?} given, allowed are 1 s to 10 min", self.ttl),
            );
        }
        if self.handlers.is_empty() {
            return invalid("handler", "a worker needs at least one handler".to_owned());
        }
        let kinds = self.handlers.iter().map(|handler| handler.kind.clone()).collect();
        let mut handlers = HashMap::new();
        for handler in self.handlers {
            let kind = handler.kind.kind.clone();
            if handlers.insert(kind.clone(), handler).is_some() {
                return invalid("handler", format!("two handlers for kind {kind:?}"));
            }
        }
        let hello = v1::WorkerHello {
            name: self.name,
            tenants: self.tenants,
            queues: self.queues,
            kinds,
            labels: self.labels,
            session_ttl: duration(self.ttl),
            slots: self.concurrency,
        };
        Ok(Worker {
            client: self.client,
            hello,
            handlers: Arc::new(handlers),
            concurrency: self.concurrency,
            drain: self.drain,
            counters: Arc::default(),
        })
    }
}

//! Reads that any node answers from what it has: with their age, and without a leader.

use std::future::Future;
use std::time::{Duration, SystemTime};

use muster_proto::v1;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::call::{Envelope, Prefer};
use crate::client::Client;
use crate::error::Result;
use crate::explain::JobExplanation;
use crate::id::JobId;
use crate::jobs::ListJobs;
use crate::views::{JobInfo, JobPage, QueueInfo, TenantInfo, WorkerInfo, time};

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consistency {
    Linearizable,
    Stale,
}

impl Consistency {
    pub(crate) fn to_proto(self) -> i32 {
        match self {
            Self::Linearizable => v1::Consistency::Unspecified,
            Self::Stale => v1::Consistency::Stale,
        }
        .into()
    }
}

/// An answer, and how old it is if it is stale.
pub(crate) type Answer<T> = (T, Option<v1::Freshness>);

/// A stale answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale<T> {
    /// What the node knows.
    pub value: T,
    /// It contains everything up to this log entry.
    pub applied_index: u64,
    /// Everything that was acknowledged before so long ago is in it, whatever clocks say. `None`: the node could not
    /// tell; it may be any age.
    pub age: Option<Duration>,
    /// The cluster's time of the last entry that it contains.
    pub applied_at: Option<SystemTime>,
    /// The node that answered.
    pub node_id: u64,
}

impl<T> Stale<T> {
    /// The value, and what is said of it.
    pub fn split(self) -> (T, Stale<()>) {
        let rest = Stale {
            value: (),
            applied_index: self.applied_index,
            age: self.age,
            applied_at: self.applied_at,
            node_id: self.node_id,
        };
        (self.value, rest)
    }

    /// It may be older than the other one; of unknown age is older than all.
    pub fn is_older_than<U>(&self, other: &Stale<U>) -> bool {
        match (self.age, other.age) {
            (None, Some(_)) => true,
            (Some(own), Some(other)) => own > other,
            (_, None) => false,
        }
    }

    fn new((value, freshness): Answer<T>) -> Self {
        let freshness = freshness.unwrap_or_default();
        Self {
            value,
            applied_index: freshness.applied_index,
            age: freshness.age.and_then(|age| age.try_into().ok()),
            applied_at: time(freshness.applied_at),
            node_id: freshness.node_id,
        }
    }
}

/// Stale reads: from [`Client::stale`].
#[derive(Clone, Copy, Debug)]
pub struct StaleReads<'a> {
    client: &'a Client,
}

impl Client {
    /// Reads that may be stale. Any node answers from what it has applied, so they spare the leader, cost no round to a
    /// majority, and work while there is no leader; each answer says how old it may be. All other reads are linearizable.
    pub fn stale(&self) -> StaleReads<'_> {
        StaleReads { client: self }
    }

    /// A read, of the leader or of any node.
    pub(crate) async fn read<T, F, Fut>(&self, consistency: Consistency, send: F) -> Result<T>
    where
        F: Fn(Channel, Envelope) -> Fut,
        Fut: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        let prefer = match consistency {
            Consistency::Linearizable => Prefer::Leader,
            Consistency::Stale => Prefer::Any,
        };
        let attempt = self.members().timing().attempt;
        self.call_as(prefer, self.deadline_of(None), attempt, send).await
    }
}

impl StaleReads<'_> {
    /// One job. A job enqueued a moment ago may not be found yet.
    pub async fn get(&self, id: JobId) -> Result<Stale<JobInfo>> {
        self.client.read_job(id, Consistency::Stale).await.map(Stale::new)
    }

    /// Why a job does not run now, by what the node knows.
    pub async fn explain(&self, id: JobId) -> Result<Stale<JobExplanation>> {
        let explained = self.client.read_explanation(id, Consistency::Stale).await;
        explained.map(Stale::new)
    }

    /// A page of the tenant's jobs. Pages may come from different nodes.
    pub async fn list(&self, filter: &ListJobs) -> Result<Stale<JobPage>> {
        self.client.read_jobs(filter, Consistency::Stale).await.map(Stale::new)
    }

    /// Queues of the tenant.
    pub async fn queues(&self) -> Result<Stale<Vec<QueueInfo>>> {
        self.client.read_queues(Consistency::Stale).await.map(Stale::new)
    }

    /// One tenant.
    pub async fn get_tenant(&self, name: &str) -> Result<Stale<TenantInfo>> {
        let answer = self.client.read_tenant(name, Consistency::Stale).await;
        answer.map(Stale::new)
    }

    /// All tenants.
    pub async fn tenants(&self) -> Result<Stale<Vec<TenantInfo>>> {
        self.client.read_tenants(Consistency::Stale).await.map(Stale::new)
    }

    /// Open worker sessions.
    pub async fn workers(&self) -> Result<Stale<Vec<WorkerInfo>>> {
        self.client.read_workers(Consistency::Stale).await.map(Stale::new)
    }
}

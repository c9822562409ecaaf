//! Kinds of jobs, and jobs that no worker accepts.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_proto::v1::kind_service_client::KindServiceClient;
use serde::Serialize;

use crate::call::RequestId;
use crate::client::Client;
use crate::error::Result;
use crate::explain::WorkerMatch;

/// Kinds asked for in one call.
const PAGE: u32 = 1_000;

/// The handlers of one name, within a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KindInfo {
    /// Name.
    pub name: String,
    /// No job of it starts.
    pub paused: bool,
    /// Why it is paused.
    pub note: String,
    /// Jobs that may start.
    pub available: u64,
    /// Jobs under lease.
    pub running: u64,
    /// Mean run time of its attempts, as fair sharing estimates it; `None`: none has ended.
    pub mean_run: Option<Duration>,
    /// Sessions of workers that serve the tenant and run the kind.
    pub workers: u64,
}

/// Available jobs that are alike, and that no connected worker accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnroutableJobs {
    /// Queue.
    pub queue: String,
    /// Kind.
    pub kind: String,
    /// Version of the payload's schema.
    pub schema_version: u32,
    /// Labels that their worker must carry.
    pub required_labels: BTreeMap<String, String>,
    /// How many.
    pub jobs: u64,
    /// How long the oldest of them has waited.
    pub oldest_wait: Duration,
    /// How far the connected workers match them.
    pub workers: WorkerMatch,
    /// Slots that each of them takes.
    pub slots: u32,
}

fn kind(kind: v1::Kind) -> KindInfo {
    KindInfo {
        name: kind.name,
        paused: kind.paused,
        note: kind.note,
        available: kind.available,
        running: kind.running,
        mean_run: kind.mean_run.and_then(|run| run.try_into().ok()),
        workers: kind.workers,
    }
}

fn unroutable(group: v1::UnroutableJobs) -> UnroutableJobs {
    let wait = group.oldest_wait.and_then(|wait| wait.try_into().ok());
    UnroutableJobs {
        queue: group.queue,
        kind: group.kind,
        schema_version: group.schema_version,
        required_labels: group.required_labels.into_iter().collect(),
        jobs: group.jobs,
        oldest_wait: wait.unwrap_or_default(),
        workers: WorkerMatch::from_proto(group.workers.unwrap_or_default()),
        slots: group.slots,
    }
}

impl Client {
    /// Kinds of the tenant that have had jobs, or are paused, by name; all of them, in as many calls as it takes.
    pub async fn kinds(&self) -> Result<Vec<KindInfo>> {
        let mut all: Vec<KindInfo> = Vec::new();
        loop {
            let message = v1::ListKindsRequest {
                page_size: PAGE,
                after: all.last().map(|last| last.name.clone()).unwrap_or_default(),
                ..v1::ListKindsRequest::default()
            };
            let page = self
                .call(|channel, envelope| {
                    let request = envelope.wrap(message.clone());
                    async move { KindServiceClient::new(channel).list_kinds(request).await }
                })
                .await?;
            all.extend(page.kinds.into_iter().map(kind));
            if !page.more {
                return Ok(all);
            }
        }
    }

    /// No job of the kind starts any more, in whatever queue; what runs goes on. `note` (at most 1 KiB) tells the next operator
    /// why.
    pub async fn pause_kind(&self, kind: &str, note: &str) -> Result<()> {
        let message = v1::PauseKindRequest {
            kind: kind.to_owned(),
            note: note.to_owned(),
        };
        let id = RequestId::new();
        self.call(|channel, envelope| {
            let request = envelope.wrap_as(id, message.clone());
            async move { KindServiceClient::new(channel).pause_kind(request).await }
        })
        .await
        .map(drop)
    }

    /// Ends a pause.
    pub async fn resume_kind(&self, kind: &str) -> Result<()> {
        let message = v1::ResumeKindRequest { kind: kind.to_owned() };
        let id = RequestId::new();
        self.call(|channel, envelope| {
            let request = envelope.wrap_as(id, message.clone());
            async move { KindServiceClient::new(channel).resume_kind(request).await }
        })
        .await
        .map(drop)
    }

    /// Available jobs of the tenant that no connected worker accepts, in groups, largest first; at most 1,000 groups.
    pub async fn unroutable(&self) -> Result<Vec<UnroutableJobs>> {
        let response = self
            .call(|channel, envelope| async move {
                let request = envelope.wrap(v1::ListUnroutableRequest::default());
                JobServiceClient::new(channel).list_unroutable(request).await
            })
            .await?;
        Ok(response.groups.into_iter().map(unroutable).collect())
    }
}

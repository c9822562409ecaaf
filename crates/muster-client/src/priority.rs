//! Priorities: how they order the jobs of a tenant, and other ones for jobs that wait.

use std::fmt;
use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::job_service_client::JobServiceClient;
use serde::{Deserialize, Serialize};

use crate::call::RequestId;
use crate::client::Client;
use crate::error::Result;
use crate::id::JobId;
use crate::jobs::ListJobs;
use crate::states::Priority;
use crate::views::duration;

/// Jobs of one call.
const IDS_MAX: usize = 1_000;
const DEFAULT_AGING: Duration = Duration::from_secs(30);

/// How the jobs of a tenant are ordered among themselves, in all of its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriorityOrder {
    /// By `available_at + level × aging`, so that nothing starves; 1 ms–31 days. The default, with 30 s.
    Aging(Duration),
    /// A level starts before all of the next one, however long those wait.
    Strict,
    /// By the time at which they became available; priorities do not count.
    Fifo,
}

impl Default for PriorityOrder {
    fn default() -> Self {
        Self::Aging(DEFAULT_AGING)
    }
}

impl PriorityOrder {
    /// In lower case, as in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aging(_) => "aging",
            Self::Strict => "strict",
            Self::Fifo => "fifo",
        }
    }

    pub(crate) fn to_proto(self) -> i32 {
        match self {
            Self::Aging(_) => v1::PriorityOrder::Aging,
            Self::Strict => v1::PriorityOrder::Strict,
            Self::Fifo => v1::PriorityOrder::Fifo,
        }
        .into()
    }

    pub(crate) fn aging(self) -> Option<prost_types::Duration> {
        match self {
            Self::Aging(aging) => duration(aging),
            Self::Strict | Self::Fifo => None,
        }
    }

    pub(crate) fn from_proto(tenant: &v1::Tenant) -> Self {
        match tenant.priority_order() {
            v1::PriorityOrder::Strict => Self::Strict,
            v1::PriorityOrder::Fifo => Self::Fifo,
            v1::PriorityOrder::Aging | v1::PriorityOrder::Unspecified => {
                let aging = tenant.aging.and_then(|aging| aging.try_into().ok());
                Self::Aging(aging.unwrap_or(DEFAULT_AGING))
            }
        }
    }
}

impl fmt::Display for PriorityOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What came of a change of priorities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PriorityChange {
    /// Jobs that have another priority now.
    pub changed: u64,
    /// Of the ids given: those that are no live jobs of the tenant.
    pub not_live: Vec<String>,
}

impl Client {
    /// Changes the priority of live jobs. What runs goes on; the priority counts when it starts again.
    pub async fn set_priority(&self, ids: &[JobId], priority: Priority) -> Result<PriorityChange> {
        let mut all = PriorityChange::default();
        for ids in ids.chunks(IDS_MAX) {
            let request = v1::SetPriorityRequest {
                ids: ids.iter().map(ToString::to_string).collect(),
                priority: priority.to_proto(),
                ..v1::SetPriorityRequest::default()
            };
            let answer = self.send_priority(request).await?;
            all.changed += u64::from(answer.changed);
            all.not_live.extend(answer.not_live);
        }
        Ok(all)
    }

    /// The same for all live jobs that the filter matches, in as many calls as it takes. Its pages mean nothing here.
    pub async fn set_priority_where(&self, filter: &ListJobs, priority: Priority) -> Result<PriorityChange> {
        let mut all = PriorityChange::default();
        let mut page_token = String::new();
        loop {
            let request = v1::SetPriorityRequest {
                ids: Vec::new(),
                filter: Some(v1::JobFilter {
                    queue: filter.queue.clone().unwrap_or_default(),
                    kind: filter.kind.clone().unwrap_or_default(),
                    states: filter.states.iter().map(|state| state.to_proto()).collect(),
                }),
                priority: priority.to_proto(),
                page_token,
            };
            let answer = self.send_priority(request).await?;
            all.changed += u64::from(answer.changed);
            if answer.next_page_token.is_empty() {
                return Ok(all);
            }
            page_token = answer.next_page_token;
        }
    }

    async fn send_priority(&self, message: v1::SetPriorityRequest) -> Result<v1::SetPriorityResponse> {
        let id = RequestId::new();
        self.call(|channel, envelope| {
            let request = envelope.wrap_as(id, message.clone());
            async move { JobServiceClient::new(channel).set_priority(request).await }
        })
        .await
    }
}

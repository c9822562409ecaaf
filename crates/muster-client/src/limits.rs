//! The rule book of limits, and ordering keys that wait for a dead job.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use muster_proto::v1;
use muster_proto::v1::limit_service_client::LimitServiceClient;
use muster_proto::v1::queue_service_client::QueueServiceClient;
use serde::{Deserialize, Serialize};

use crate::call::RequestId;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::views::{duration, time};

/// At most `count` tokens per `period`, `burst` at once after a quiet time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Tokens per period, 1–1,000,000,000.
    pub count: u32,
    /// 1 ms–31 days.
    pub period: Duration,
    /// Tokens at once; 0 means `count`. Jobs that cost more never start.
    pub burst: u32,
}

impl RateLimit {
    /// `count` tokens per second, a second's worth at once.
    pub fn per_second(count: u32) -> Self {
        Self {
            count,
            period: Duration::from_secs(1),
            burst: 0,
        }
    }

    pub(crate) fn to_proto(self) -> v1::RateLimit {
        v1::RateLimit {
            count: self.count,
            period: duration(self.period),
            burst: self.burst,
        }
    }

    pub(crate) fn from_proto(rate: &v1::RateLimit) -> Self {
        let period = rate.period.and_then(|period| period.try_into().ok());
        Self {
            count: rate.count,
            period: period.unwrap_or(Duration::from_secs(1)),
            burst: rate.burst,
        }
    }
}

/// Where in the tree a limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitLevel {
    /// All jobs of the cluster together.
    Cluster,
    /// All jobs of a tenant.
    Tenant,
    /// All jobs of a queue.
    Queue,
    /// All jobs of a kind within a tenant.
    Kind,
    /// All jobs of a tenant that carry a limit key.
    Key,
}

impl LimitLevel {
    /// All levels, widest first.
    pub const ALL: [Self; 5] = [Self::Cluster, Self::Tenant, Self::Queue, Self::Kind, Self::Key];

    /// In lower case, as in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Tenant => "tenant",
            Self::Queue => "queue",
            Self::Kind => "kind",
            Self::Key => "key",
        }
    }

    fn to_proto(self) -> i32 {
        match self {
            Self::Cluster => v1::LimitLevel::Cluster,
            Self::Tenant => v1::LimitLevel::Tenant,
            Self::Queue => v1::LimitLevel::Queue,
            Self::Kind => v1::LimitLevel::Kind,
            Self::Key => v1::LimitLevel::Key,
        }
        .into()
    }

    pub(crate) fn from_proto(level: v1::LimitLevel) -> Self {
        match level {
            v1::LimitLevel::Cluster | v1::LimitLevel::Unspecified => Self::Cluster,
            v1::LimitLevel::Tenant => Self::Tenant,
            v1::LimitLevel::Queue => Self::Queue,
            v1::LimitLevel::Kind => Self::Kind,
            v1::LimitLevel::Key => Self::Key,
        }
    }
}

impl fmt::Display for LimitLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for LimitLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| Error::Invalid {
                field: "level",
                message: format!("{text:?} is none of {}", Self::ALL.map(Self::as_str).join(", ")),
            })
    }
}

/// What a rule is for. A pattern is a name, or the beginning of names followed by `*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitSelector {
    /// Level.
    pub level: LimitLevel,
    /// Pattern of tenants; empty: the client's tenant.
    pub tenants: String,
    /// Pattern of queues, kinds or keys; `*` for the cluster and for tenants.
    pub names: String,
}

impl LimitSelector {
    /// For names of the client's tenant.
    pub fn new(level: LimitLevel, names: impl Into<String>) -> Self {
        Self {
            level,
            tenants: String::new(),
            names: names.into(),
        }
    }

    /// For all tenants that the pattern matches.
    #[must_use]
    pub fn of_tenants(mut self, pattern: impl Into<String>) -> Self {
        self.tenants = pattern.into();
        self
    }
}

/// A rule of the rule book. Every name that it matches has a limiter of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What it is for.
    pub selector: LimitSelector,
    /// Limit on tokens over time.
    pub rate: Option<RateLimit>,
    /// Most jobs running at once; 0: none. With neither, the rule exempts what it matches from broader rules.
    pub concurrency: u32,
    /// Why, for the next operator; at most 1 KiB.
    pub note: String,
}

impl Limit {
    /// A rule that limits nothing yet.
    pub fn new(selector: LimitSelector) -> Self {
        Self {
            selector,
            rate: None,
            concurrency: 0,
            note: String::new(),
        }
    }

    /// Limits tokens over time.
    #[must_use]
    pub fn rate(mut self, rate: RateLimit) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Limits how many run at once.
    #[must_use]
    pub fn concurrency(mut self, jobs: u32) -> Self {
        self.concurrency = jobs;
        self
    }

    fn to_proto(&self) -> v1::Limit {
        v1::Limit {
            level: self.selector.level.to_proto(),
            tenants: self.selector.tenants.clone(),
            names: self.selector.names.clone(),
            rate: self.rate.map(RateLimit::to_proto),
            concurrency: self.concurrency,
            unlimited: self.rate.is_none() && self.concurrency == 0,
            note: self.note.clone(),
            r#use: None,
        }
    }

    pub(crate) fn from_proto(limit: v1::Limit) -> Self {
        Self {
            selector: LimitSelector {
                level: LimitLevel::from_proto(limit.level()),
                tenants: limit.tenants,
                names: limit.names,
            },
            rate: limit.rate.as_ref().map(RateLimit::from_proto),
            concurrency: limit.concurrency,
            note: limit.note,
        }
    }
}

/// A rule and what goes on behind it, summed over the names that it applies to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitInfo {
    /// The rule.
    pub limit: Limit,
    /// Names with live jobs, or with tokens used lately.
    pub names: u64,
    /// Running jobs.
    pub running: u64,
    /// Available jobs, for whatever they wait.
    pub waiting: u64,
    /// Names at which nothing can start now.
    pub closed: u64,
}

/// What a limiter says to the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimiterState {
    /// A job that costs no more than the tokens left may start.
    Open,
    /// The next job starts when a running one ends.
    Full,
    /// The next job starts when there are tokens enough for it.
    Shut,
    /// A worker reported that a service throttles.
    Throttled,
    /// The queue or kind is paused.
    Paused,
}

impl LimiterState {
    /// In lower case, as in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Full => "full",
            Self::Shut => "shut",
            Self::Throttled => "throttled",
            Self::Paused => "paused",
        }
    }
}

/// The limiter of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimiterInfo {
    /// Rules that match the name: the first one applies.
    pub rules: Vec<Limit>,
    /// Tokens left; `None` if no rate applies.
    pub tokens: Option<u32>,
    /// Running jobs.
    pub running: u64,
    /// Available jobs, for whatever they wait.
    pub waiting: u64,
    /// What it says to the next start.
    pub state: LimiterState,
    /// When it opens, if that is known.
    pub opens_at: Option<SystemTime>,
    /// Running jobs, at most 100.
    pub holders: Vec<String>,
    /// Jobs that wait for this limiter, in their turn, at most 100.
    pub waiters: Vec<String>,
    /// Jobs that cost more than the burst and never start under this rule, at most 100.
    pub too_costly: Vec<String>,
}

impl From<v1::ExplainLimitResponse> for LimiterInfo {
    fn from(explained: v1::ExplainLimitResponse) -> Self {
        use v1::explain_limit_response::State;
        Self {
            state: match explained.state() {
                State::Open | State::Unspecified => LimiterState::Open,
                State::Full => LimiterState::Full,
                State::Shut => LimiterState::Shut,
                State::Throttled => LimiterState::Throttled,
                State::Paused => LimiterState::Paused,
            },
            rules: explained.rules.into_iter().map(Limit::from_proto).collect(),
            tokens: explained.tokens,
            running: explained.running,
            waiting: explained.waiting,
            opens_at: time(explained.opens_at),
            holders: explained.holders,
            waiters: explained.waiters,
            too_costly: explained.too_costly,
        }
    }
}

/// An ordering key whose jobs wait for a dead one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldOrder {
    /// The key.
    pub ordering_key: String,
    /// The dead job: redrive it, or release the key.
    pub held_by: String,
    /// The live job that would go on first.
    pub next: Option<String>,
    /// Live jobs of the key.
    pub waiting: u64,
}

impl Client {
    /// Sets a rule, or replaces the one with the same selector. Returns it as it stands in the book.
    pub async fn set_limit(&self, limit: &Limit) -> Result<Limit> {
        let message = v1::SetLimitRequest {
            limit: Some(limit.to_proto()),
        };
        let id = RequestId::new();
        let response = self
            .call(|channel, envelope| {
                let request = envelope.wrap_as(id, message.clone());
                async move { LimitServiceClient::new(channel).set_limit(request).await }
            })
            .await?;
        Ok(Limit::from_proto(response.limit.unwrap_or_default()))
    }

    /// Takes a rule out of the book. Refused with `LIMIT_NOT_FOUND` when there is none with this selector.
    pub async fn delete_limit(&self, selector: &LimitSelector) -> Result<()> {
        let message = v1::DeleteLimitRequest {
            level: selector.level.to_proto(),
            tenants: selector.tenants.clone(),
            names: selector.names.clone(),
        };
        let id = RequestId::new();
        self.call(|channel, envelope| {
            let request = envelope.wrap_as(id, message.clone());
            async move { LimitServiceClient::new(channel).delete_limit(request).await }
        })
        .await
        .map(drop)
    }

    /// Rules that concern the client's tenant, or all of them.
    pub async fn limits(&self, all_tenants: bool) -> Result<Vec<LimitInfo>> {
        let response = self
            .call(|channel, envelope| async move {
                LimitServiceClient::new(channel)
                    .list_limits(envelope.wrap(v1::ListLimitsRequest { all_tenants }))
                    .await
            })
            .await?;
        let info = |mut limit: v1::Limit| {
            let sums = limit.r#use.take().unwrap_or_default();
            LimitInfo {
                limit: Limit::from_proto(limit),
                names: sums.names,
                running: sums.running,
                waiting: sums.waiting,
                closed: sums.closed,
            }
        };
        Ok(response.limits.into_iter().map(info).collect())
    }

    /// The limiter of a queue, kind or key of the client's tenant; of the tenant or the cluster with an empty name.
    pub async fn explain_limit(&self, level: LimitLevel, name: &str) -> Result<LimiterInfo> {
        let message = v1::ExplainLimitRequest {
            level: level.to_proto(),
            name: name.to_owned(),
        };
        let response = self
            .call(|channel, envelope| {
                let request = envelope.wrap(message.clone());
                async move { LimitServiceClient::new(channel).explain_limit(request).await }
            })
            .await?;
        Ok(response.into())
    }

    /// Opens a limit key that workers reported as throttled, before its time.
    pub async fn open_limit_key(&self, key: &str) -> Result<()> {
        let message = v1::OpenLimitKeyRequest { key: key.to_owned() };
        let id = RequestId::new();
        self.call(|channel, envelope| {
            let request = envelope.wrap_as(id, message.clone());
            async move { LimitServiceClient::new(channel).open_limit_key(request).await }
        })
        .await
        .map(drop)
    }

    /// Ordering keys of a queue whose jobs wait for a dead one, by key; all of them, in as many calls as it takes.
    pub async fn held_orders(&self, queue: &str) -> Result<Vec<HeldOrder>> {
        let mut all: Vec<HeldOrder> = Vec::new();
        loop {
            let message = v1::ListHeldOrdersRequest {
                queue: queue.to_owned(),
                page_size: 1_000,
                after: all.last().map(|last| last.ordering_key.clone()).unwrap_or_default(),
            };
            let page = self
                .call(|channel, envelope| {
                    let request = envelope.wrap(message.clone());
                    async move { QueueServiceClient::new(channel).list_held_orders(request).await }
                })
                .await?;
            all.extend(page.orders.into_iter().map(|order| HeldOrder {
                ordering_key: order.ordering_key,
                held_by: order.held_by,
                next: (!order.next.is_empty()).then_some(order.next),
                waiting: order.waiting,
            }));
            if !page.more {
                return Ok(all);
            }
        }
    }

    /// Lets the jobs of an ordering key go on without the dead one that they wait for.
    pub async fn release_order(&self, queue: &str, ordering_key: &str) -> Result<()> {
        let message = v1::ReleaseOrderRequest {
            queue: queue.to_owned(),
            ordering_key: ordering_key.to_owned(),
        };
        let id = RequestId::new();
        self.call(|channel, envelope| {
            let request = envelope.wrap_as(id, message.clone());
            async move { QueueServiceClient::new(channel).release_order(request).await }
        })
        .await
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_go_there_and_back() {
        for level in LimitLevel::ALL {
            assert_eq!(level.as_str().parse::<LimitLevel>().unwrap(), level);
            let limit = Limit::new(LimitSelector::new(level, "a*").of_tenants("acme"))
                .rate(RateLimit::per_second(5))
                .concurrency(2);
            assert_eq!(Limit::from_proto(limit.to_proto()), limit);
        }
        assert!("galaxy".parse::<LimitLevel>().is_err());
        assert!(
            Limit::new(LimitSelector::new(LimitLevel::Key, "vip"))
                .to_proto()
                .unlimited
        );
    }
}

//! Why a job does not run now.

use std::time::SystemTime;

use muster_proto::v1;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_proto::v1::wait_reason::Reason as Why;

use crate::client::Client;
use crate::error::Result;
use crate::id::JobId;
use crate::jobs::found;
use crate::limits::{Limit, LimitLevel};
use crate::stale::{Answer, Consistency};
use crate::states::JobState;
use crate::views::{JobInfo, time};

/// Why a job does not run now, as far as the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobExplanation {
    /// The job, without payload and result.
    pub job: JobInfo,
    /// Everything that keeps it from starting, what decides first. None: it has ended, it runs, or it is about to start.
    pub reasons: Vec<WaitReason>,
    /// Who runs it.
    pub holder: Option<AttemptHolder>,
    /// Its place among the available jobs that are like it; `None` unless it is available.
    pub position: Option<LanePosition>,
    /// Where its tenant stands before the largest group of like workers that accept it; `None` if none accepts it.
    pub share: Option<TenantShare>,
    /// How far the connected workers match it; `None` once it has ended.
    pub workers: Option<WorkerMatch>,
    /// When it starts if nothing happens that is not known now. `None`: unknown, or it runs already.
    pub expected_start: Option<SystemTime>,
    /// The session that gathers free slots for the tenant's next job that takes as many as this one.
    pub gatherer: Option<AttemptHolder>,
}

/// One thing that keeps a job from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitReason {
    /// Its time has not come.
    NotDue {
        /// When it comes.
        at: Option<SystemTime>,
        /// It waits for the backoff after an attempt, not for a delay that was asked for.
        backoff: bool,
    },
    /// An earlier job of its ordering key has not ended.
    Ordering(OrderingWait),
    /// No connected worker accepts it; [`JobExplanation::workers`] says what is missing.
    NoWorker,
    /// Nothing of its queue or kind starts until somebody resumes it.
    Paused {
        /// What is paused: [`LimitLevel::Queue`] or [`LimitLevel::Kind`].
        level: LimitLevel,
        /// Its name.
        name: String,
        /// Why, by who paused it.
        note: String,
    },
    /// A limit refuses its start.
    Limit(Box<LimitWait>),
    /// Workers accept it, and none of them has as many slots free as it takes.
    NoSlot,
    /// A reason that this version of the client does not know.
    Unknown,
}

/// Whom a job waits for within its ordering key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderingWait {
    /// The key.
    pub ordering_key: String,
    /// The dead job that holds the key: redrive it, or release the key.
    pub held_by: Option<String>,
    /// The first live job of the key.
    pub first: Option<String>,
    /// Its state.
    pub first_state: JobState,
    /// Live jobs of the key before this one.
    pub before: u64,
}

/// How a limit refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitCause {
    /// As many run as may: the next one starts when one of them ends.
    Full,
    /// There are not tokens enough.
    Rate,
    /// A worker reported that a service throttles.
    Throttled,
    /// The job costs more than the burst: it never starts under this rule.
    TooCostly,
}

impl LimitCause {
    /// In lower case, as in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Rate => "rate",
            Self::Throttled => "throttled",
            Self::TooCostly => "too_costly",
        }
    }
}

/// A limit that refuses the start of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitWait {
    /// Level.
    pub level: LimitLevel,
    /// Queue, kind or key; empty for cluster and tenant.
    pub name: String,
    /// How it refuses.
    pub cause: LimitCause,
    /// When it admits the next start, whosever that is.
    pub opens_at: Option<SystemTime>,
    /// The rule in force; `None` for a key that is throttled without one.
    pub rule: Option<Limit>,
    /// Tokens that a start of the job takes of its rate.
    pub cost: u32,
    /// Tokens left; `None` if no rate applies.
    pub tokens: Option<u32>,
    /// Running jobs.
    pub running: u64,
    /// Available jobs behind it, whatever they wait for.
    pub waiting: u64,
    /// The job waits in the line of this limit; others that are told refuse it besides.
    pub parked: bool,
    /// Running jobs that count at a full limit, at most 20.
    pub holders: Vec<String>,
}

/// A session that runs a job, or gathers slots for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptHolder {
    /// Identity.
    pub session_id: String,
    /// The worker's name.
    pub worker: String,
    /// The node that holds its stream.
    pub node_id: u64,
}

/// A place among the available jobs alike in queue, kind, schema version, required labels, cost and limit keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanePosition {
    /// Jobs before it.
    pub before: u64,
    /// `before` was not counted to the end, so it is nearly right.
    pub approximate: bool,
    /// All of them.
    pub available: u64,
}

/// A tenant's place in fair sharing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantShare {
    /// Its weight.
    pub weight: u32,
    /// Tenants that compete, this one included.
    pub tenants: u64,
    /// Sum of their weights; `None` if there are too many to add up.
    pub weights: Option<u64>,
    /// Tenants served before it; `None` if there are too many to count.
    pub before: Option<u64>,
    /// If queues of the tenant have weights: that of the job's queue, or 100 if it has none, and the sum of those of queues with
    /// available jobs.
    pub queue: Option<(u32, u64)>,
    /// Of those before it: they run in fewer slots than they are guaranteed, which it does not. `None` if there are too many to
    /// count.
    pub before_by_guarantee: Option<u64>,
    /// If slots are guaranteed to it: how many, and how many its running jobs take.
    pub guarantee: Option<(u32, u64)>,
}

/// Sessions of workers: each number is of those in the number before that match one thing more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerMatch {
    /// Connected.
    pub open: u64,
    /// They serve its tenant.
    pub tenant: u64,
    /// They serve its queue.
    pub queue: u64,
    /// They run its kind.
    pub kind: u64,
    /// They accept its schema version.
    pub version: u64,
    /// They carry its required labels.
    pub labels: u64,
    /// They have as many slots as it takes in all, and so accept it.
    pub accept: u64,
    /// Of those that accept it: they take no new jobs, since they drain.
    pub quiet: u64,
    /// Jobs that those that accept it run.
    pub running: u64,
    /// Slots that those that accept it have free, in all.
    pub free: u64,
    /// Most slots that one of those that accept it has free, but for one that gathers slots.
    pub most_free: u64,
}

impl WaitReason {
    fn from_proto(reason: v1::WaitReason) -> Self {
        match reason.reason {
            None => Self::Unknown,
            Some(Why::NotDue(wait)) => Self::NotDue {
                at: time(wait.at),
                backoff: wait.backoff,
            },
            Some(Why::Ordering(wait)) => Self::Ordering(OrderingWait {
                first_state: JobState::from_proto(wait.first_state),
                ordering_key: wait.ordering_key,
                held_by: some(wait.held_by),
                first: some(wait.first),
                before: wait.before,
            }),
            Some(Why::NoWorker(_)) => Self::NoWorker,
            Some(Why::Paused(paused)) => Self::Paused {
                level: LimitLevel::from_proto(paused.level()),
                name: paused.name,
                note: paused.note,
            },
            Some(Why::Limit(wait)) => LimitWait::from_proto(wait).map_or(Self::Unknown, Self::Limit),
            Some(Why::NoSlot(_)) => Self::NoSlot,
        }
    }
}

impl LimitWait {
    fn from_proto(wait: v1::LimitWait) -> Option<Box<Self>> {
        use v1::limit_wait::Cause;
        let cause = match wait.cause() {
            Cause::Unspecified => return None,
            Cause::Full => LimitCause::Full,
            Cause::Rate => LimitCause::Rate,
            Cause::Throttled => LimitCause::Throttled,
            Cause::TooCostly => LimitCause::TooCostly,
        };
        Some(Box::new(Self {
            level: LimitLevel::from_proto(wait.level()),
            cause,
            name: wait.name,
            opens_at: time(wait.opens_at),
            rule: wait.rule.map(Limit::from_proto),
            cost: wait.cost,
            tokens: wait.tokens,
            running: wait.running,
            waiting: wait.waiting,
            parked: wait.parked,
            holders: wait.holders,
        }))
    }
}

impl WorkerMatch {
    pub(crate) fn from_proto(workers: v1::WorkerMatch) -> Self {
        Self {
            open: workers.open,
            tenant: workers.tenant,
            queue: workers.queue,
            kind: workers.kind,
            version: workers.version,
            accept: workers.accept,
            quiet: workers.quiet,
            running: workers.running,
            free: workers.free,
            labels: workers.labels,
            most_free: workers.most_free,
        }
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn explanation(answer: v1::ExplainJobResponse) -> Result<JobExplanation> {
    Ok(JobExplanation {
        job: found(answer.job)?,
        reasons: answer.reasons.into_iter().map(WaitReason::from_proto).collect(),
        holder: answer.holder.map(session),
        position: answer.position.map(|position| LanePosition {
            before: position.before,
            approximate: position.approximate,
            available: position.available,
        }),
        share: answer.share.map(|share| TenantShare {
            weight: share.weight,
            tenants: share.tenants,
            weights: (share.weights > 0).then_some(share.weights),
            before: share.before,
            queue: (share.queue_weight > 0).then_some((share.queue_weight, share.queue_weights)),
            before_by_guarantee: share.before_by_guarantee,
            guarantee: (share.guaranteed_slots > 0).then_some((share.guaranteed_slots, share.running_slots)),
        }),
        workers: answer.workers.map(WorkerMatch::from_proto),
        expected_start: time(answer.expected_start),
        gatherer: answer.gatherer.map(session),
    })
}

fn session(holder: v1::AttemptHolder) -> AttemptHolder {
    AttemptHolder {
        session_id: holder.session_id,
        worker: holder.worker,
        node_id: holder.node_id,
    }
}

impl Client {
    /// Why a job does not run now, and when it starts if that can be known.
    pub async fn explain(&self, id: JobId) -> Result<JobExplanation> {
        Ok(self.read_explanation(id, Consistency::Linearizable).await?.0)
    }

    pub(crate) async fn read_explanation(&self, id: JobId, consistency: Consistency) -> Result<Answer<JobExplanation>> {
        let message = v1::ExplainJobRequest {
            id: id.to_string(),
            consistency: consistency.to_proto(),
        };
        let mut response = self
            .read(consistency, |channel, envelope| {
                let request = envelope.wrap(message.clone());
                async move { JobServiceClient::new(channel).explain_job(request).await }
            })
            .await?;
        let freshness = response.freshness.take();
        Ok((explanation(response)?, freshness))
    }
}

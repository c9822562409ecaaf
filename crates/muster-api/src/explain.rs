//! Why a job does not run now.

use muster_core::{Explanation, Holder, LimitCause, LimitLevel, LimitWait, OrderWait, TenantId, WaitReason};
use muster_proto::v1;
use muster_proto::v1::limit_wait::Cause;
use muster_proto::v1::wait_reason::Reason as Why;

use crate::api::{Api, Caller};
use crate::errors::Error;
use crate::limits::EXPLAINED_HOLDERS_MAX;
use crate::{convert, validate};

impl Api {
    pub(crate) async fn explain_job(
        &self,
        caller: Caller,
        request: v1::ExplainJobRequest,
    ) -> Result<v1::ExplainJobResponse, Error> {
        let id = validate::job_id("id", &request.id)?;
        let read = self.begin_read(request.consistency, caller.deadline).await?;
        let tenant = self.tenant_of_read(&caller.tenant)?;
        let live = self.raft().read(|core| core.explain(tenant, id));
        let mut answer = if let Some(explained) = live {
            self.explained(tenant, &explained)
        } else {
            let ended = self.find(tenant, id, caller.deadline).await?;
            v1::ExplainJobResponse {
                job: Some(convert::job_without_data(&ended)),
                ..Default::default()
            }
        };
        answer.freshness = read.freshness();
        Ok(answer)
    }

    fn explained(&self, tenant: TenantId, explained: &Explanation) -> v1::ExplainJobResponse {
        let share = explained.share.map(|share| v1::TenantShare {
            weight: share.weight,
            tenants: share.tenants,
            weights: share.weights.unwrap_or(0),
            before: share.before,
            queue_weight: share.line.map_or(0, |(weight, _)| weight),
            queue_weights: share.line.map_or(0, |(_, weights)| weights),
            before_by_guarantee: share.before_by_guarantee,
            guaranteed_slots: share.guarantee.map_or(0, |(guaranteed, _)| guaranteed),
            running_slots: share.guarantee.map_or(0, |(_, running)| running),
        });
        v1::ExplainJobResponse {
            job: Some(convert::job_without_data(&explained.job)),
            reasons: explained
                .reasons
                .iter()
                .map(|why| self.wait_reason(tenant, why))
                .collect(),
            holder: explained.holder.as_ref().map(session),
            position: explained.position.map(|position| v1::LanePosition {
                before: position.before,
                approximate: !position.exact,
                available: position.available,
            }),
            share,
            workers: Some(convert::worker_match(&explained.workers)),
            expected_start: explained.expected_start.and_then(convert::timestamp),
            freshness: None,
            gatherer: explained.gatherer.as_ref().map(session),
        }
    }

    fn wait_reason(&self, tenant: TenantId, why: &WaitReason) -> v1::WaitReason {
        let reason = match why {
            WaitReason::NotDue { at, backoff } => Why::NotDue(v1::NotDue {
                at: convert::timestamp(*at),
                backoff: *backoff,
            }),
            WaitReason::Ordering(wait) => Why::Ordering(ordering(wait)),
            WaitReason::NoWorker => Why::NoWorker(v1::NoWorker {}),
            WaitReason::Paused { level, name, note } => Why::Paused(v1::Paused {
                level: convert::level(*level),
                name: name.to_string(),
                note: note.to_string(),
            }),
            WaitReason::Limit(wait) => Why::Limit(self.limit_wait(tenant, wait)),
            WaitReason::NoSlot => Why::NoSlot(v1::NoSlot {}),
        };
        v1::WaitReason { reason: Some(reason) }
    }

    fn limit_wait(&self, tenant: TenantId, wait: &LimitWait) -> v1::LimitWait {
        // Whom they run for is nobody else's business.
        let holders = if wait.cause == LimitCause::Full && wait.level != LimitLevel::Cluster {
            self.holders(wait.level, tenant, &wait.name, EXPLAINED_HOLDERS_MAX)
        } else {
            Vec::new()
        };
        v1::LimitWait {
            level: convert::level(wait.level),
            name: wait.name.to_string(),
            cause: match wait.cause {
                LimitCause::Full => Cause::Full,
                LimitCause::Rate => Cause::Rate,
                LimitCause::Throttled => Cause::Throttled,
                LimitCause::TooCostly => Cause::TooCostly,
            }
            .into(),
            opens_at: convert::timestamp(wait.opens_at),
            rule: wait.rule.as_ref().map(|rule| convert::limit(rule, None)),
            cost: wait.cost,
            tokens: wait.tokens,
            running: wait.running,
            waiting: wait.waiting,
            parked: wait.parked,
            holders,
        }
    }
}

fn session(holder: &Holder) -> v1::AttemptHolder {
    v1::AttemptHolder {
        session_id: convert::session_id(holder.session.0),
        worker: holder.worker.to_string(),
        node_id: holder.node,
    }
}

fn ordering(wait: &OrderWait) -> v1::OrderingWait {
    let (first, state) = wait
        .first
        .map_or((String::new(), v1::JobState::Unspecified.into()), |(job, state)| {
            (job.to_string(), convert::state(state))
        });
    v1::OrderingWait {
        ordering_key: wait.key.to_string(),
        held_by: wait.held_by.map(|job| job.to_string()).unwrap_or_default(),
        first,
        first_state: state,
        before: wait.before,
    }
}

//! The rule book of limits: set, delete, list, explain; and keys that workers reported as throttled.

use std::collections::BTreeMap;

use muster_core::{Command, Core, LimitLevel, LimitSelector, LimitUse, LimiterView, Name, Reply, TenantId};
use muster_proto::v1;

use crate::api::{Api, Caller, unexpected};
use crate::errors::Error;
use crate::limits::EXPLAINED_JOBS_MAX;
use crate::{convert, validate};

/// Limiters, or leases, looked at under one lock of the state.
const LOOK_BUDGET: usize = 2_000;
/// Locks of the state to find those who hold a limiter; beyond, the list is short.
const HOLDER_LOOKS: usize = 50;

impl Api {
    pub(crate) async fn set_limit(
        &self,
        caller: Caller,
        request: v1::SetLimitRequest,
    ) -> Result<v1::SetLimitResponse, Error> {
        let rule = validate::limit(request.limit, &caller.tenant)?;
        let answer = v1::SetLimitResponse {
            limit: Some(convert::limit(&rule, None)),
        };
        self.done(Command::SetLimit(Box::new(rule)), caller).await?;
        Ok(answer)
    }

    pub(crate) async fn delete_limit(
        &self,
        caller: Caller,
        request: v1::DeleteLimitRequest,
    ) -> Result<v1::DeleteLimitResponse, Error> {
        let selector = validate::selector(request.level, &request.tenants, &request.names, &caller.tenant)?;
        // The command itself is a success also when there is nothing to delete, so that it may be repeated.
        self.linearize(caller.deadline).await?;
        if self.raft().read(|core| core.limit(&selector).is_none()) {
            return Err(Error::LimitNotFound(selector));
        }
        self.done(Command::DeleteLimit(selector), caller).await?;
        Ok(v1::DeleteLimitResponse {})
    }

    pub(crate) async fn list_limits(
        &self,
        caller: Caller,
        request: v1::ListLimitsRequest,
    ) -> Result<v1::ListLimitsResponse, Error> {
        self.linearize(caller.deadline).await?;
        let tenant = self.tenant_id(&caller.tenant, caller.deadline).await?;
        let mut rules = self.raft().read(Core::limits);
        if !request.all_tenants {
            rules.retain(|rule| Core::limit_concerns(&rule.selector, &caller.tenant));
        }
        let uses = self.limit_uses((!request.all_tenants).then_some(tenant));
        let limits = rules.iter().map(|rule| {
            let sum = uses.get(&rule.selector).copied().unwrap_or_default();
            convert::limit(rule, Some(sum))
        });
        Ok(v1::ListLimitsResponse {
            limits: limits.collect(),
        })
    }

    /// Sums over limiters, in looks so short that apply does not notice.
    fn limit_uses(&self, tenant: Option<TenantId>) -> BTreeMap<LimitSelector, LimitUse> {
        let mut sums: BTreeMap<LimitSelector, LimitUse> = BTreeMap::new();
        let mut from = 0;
        loop {
            let part = self.raft().read(|core| core.limit_uses(tenant, from, LOOK_BUDGET));
            for (selector, part) in part.uses {
                let sum = sums.entry(selector).or_default();
                sum.names += part.names;
                sum.running += part.running;
                sum.waiting += part.waiting;
                sum.closed += part.closed;
            }
            match part.next {
                Some(next) => from = next,
                None => return sums,
            }
        }
    }

    pub(crate) async fn explain_limit(
        &self,
        caller: Caller,
        request: v1::ExplainLimitRequest,
    ) -> Result<v1::ExplainLimitResponse, Error> {
        let level = validate::level("level", request.level)?;
        let name = validate::limiter_name(level, "name", &request.name)?;
        self.linearize(caller.deadline).await?;
        let tenant = self.tenant_id(&caller.tenant, caller.deadline).await?;
        let view = self
            .raft()
            .read(|core| core.limiter(level, tenant, &name, EXPLAINED_JOBS_MAX))
            .ok_or_else(|| Error::TenantNotFound(caller.tenant.clone()))?;
        let holders = if view.running == 0 {
            Vec::new()
        } else {
            self.holders(level, tenant, &name, EXPLAINED_JOBS_MAX)
        };
        Ok(explanation(&view, holders))
    }

    /// Running jobs behind a limiter, at most so many.
    pub(crate) fn holders(&self, level: LimitLevel, tenant: TenantId, name: &Name, most: usize) -> Vec<String> {
        let mut holders = Vec::new();
        let mut after = None;
        for _ in 0..HOLDER_LOOKS {
            let left = most - holders.len();
            let (found, next) = self
                .raft()
                .read(|core| core.holders(level, tenant, name, after, left, LOOK_BUDGET));
            holders.extend(found.into_iter().map(|job| job.to_string()));
            after = next;
            if after.is_none() || holders.len() >= most {
                break;
            }
        }
        holders
    }

    pub(crate) async fn open_limit_key(
        &self,
        caller: Caller,
        request: v1::OpenLimitKeyRequest,
    ) -> Result<v1::OpenLimitKeyResponse, Error> {
        let key = validate::limit_key("key", &request.key)?;
        let tenant = caller.tenant.clone();
        self.done(Command::OpenKey { tenant, key }, caller).await?;
        Ok(v1::OpenLimitKeyResponse {})
    }

    /// Proposes an administrative command that answers with nothing.
    pub(crate) async fn done(&self, command: Command, caller: Caller) -> Result<(), Error> {
        match self.propose_once(caller.request, command, caller.deadline).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn explanation(view: &LimiterView, holders: Vec<String>) -> v1::ExplainLimitResponse {
    use v1::explain_limit_response::State;
    let texts = |jobs: &[muster_core::JobId]| jobs.iter().map(ToString::to_string).collect();
    let state = if view.paused {
        State::Paused
    } else if view.throttled_until > view.shut_until {
        State::Throttled
    } else if view.shut_until > 0 {
        State::Shut
    } else if view.full {
        State::Full
    } else {
        State::Open
    };
    v1::ExplainLimitResponse {
        rules: view.rules.iter().map(|rule| convert::limit(rule, None)).collect(),
        tokens: view.tokens,
        running: view.running,
        waiting: view.waiting,
        state: state.into(),
        opens_at: convert::timestamp(view.throttled_until.max(view.shut_until)),
        holders,
        waiters: texts(&view.waiters),
        too_costly: texts(&view.too_costly),
    }
}

//! Accepting jobs, each once.

use std::collections::HashMap;
use std::sync::Arc;

use super::out_of_range;
use super::quota::Planned;
use crate::core::Core;
use crate::defect::Defect;
use crate::hash::{FixedState, fingerprint};
use crate::ids::{JobId, Name};
use crate::job::{Backoff, JobSpec, JobState, SLOTS_MAX};
use crate::limit::{LIMIT_COST_MAX, LIMIT_KEYS_MAX, LimitLevel};
use crate::live::{Job, Rare};
use crate::order::NO_ORDER;
use crate::reply::{Enqueued, Refusal, Reply};

/// What is to become of a job that is enqueued.
enum Decision {
    /// It is new: owner and fingerprint.
    Accept(u32, u64),
    /// It was accepted before.
    Existed(Enqueued),
}

/// Ids and keys of earlier items of the same call, with their fingerprints.
#[derive(Default)]
struct Earlier {
    ids: HashMap<JobId, (Name, u64), FixedState>,
    keys: HashMap<(Name, Name), (JobId, u64), FixedState>,
    planned: Planned,
}

impl Core {
    pub(super) fn enqueue(&mut self, spec: JobSpec) -> Result<Enqueued, Refusal> {
        match self.decide(&spec, None)? {
            Decision::Existed(first) => Ok(first),
            Decision::Accept(tenant, fingerprint) => {
                self.check_quota(tenant, &spec)?;
                Ok(self.accept(tenant, spec, fingerprint, None))
            }
        }
    }

    pub(super) fn enqueue_many(&mut self, jobs: Vec<JobSpec>, all_or_nothing: bool) -> Reply {
        if all_or_nothing
            && !self.has(Defect::AllOrNothingIgnored)
            && let Some(refusals) = self.refuse_all(&jobs)
        {
            return Reply::EnqueuedMany(refusals.into_iter().map(Err).collect());
        }
        self.entry.events.reserve(jobs.len());
        Reply::EnqueuedMany(jobs.into_iter().map(|spec| self.enqueue(spec)).collect())
    }

    pub(super) fn enqueue_redriven(&mut self, spec: JobSpec, from: JobId) -> Result<Enqueued, Refusal> {
        match self.decide(&spec, Some(from))? {
            Decision::Existed(first) => Ok(first),
            Decision::Accept(tenant, fingerprint) => {
                self.check_quota(tenant, &spec)?;
                Ok(self.accept(tenant, spec, fingerprint, Some(from)))
            }
        }
    }

    /// `None` if every item can be accepted, else a refusal for each.
    fn refuse_all(&self, jobs: &[JobSpec]) -> Option<Vec<Refusal>> {
        let mut earlier = Earlier::default();
        let refusals: Vec<Option<Refusal>> = jobs.iter().map(|spec| self.refusal_among(spec, &mut earlier)).collect();
        let item = refusals.iter().position(Option::is_some)? as u32;
        Some(
            refusals
                .into_iter()
                .map(|own| own.unwrap_or(Refusal::OtherItemRefused { item }))
                .collect(),
        )
    }

    /// Why an item would be refused if all earlier ones had been accepted.
    fn refusal_among(&self, spec: &JobSpec, earlier: &mut Earlier) -> Option<Refusal> {
        let (owner, fingerprint) = match self.decide(spec, None) {
            Err(refusal) => return Some(refusal),
            Ok(Decision::Existed(_)) => return None,
            Ok(Decision::Accept(owner, fingerprint)) => (owner, fingerprint),
        };
        if let Some((tenant, first)) = earlier.ids.get(&spec.id) {
            let same = *tenant == spec.tenant && *first == fingerprint;
            return (!same).then(|| conflict(spec.id, "id"));
        }
        if let Some(key) = &spec.idempotency_key {
            if let Some((first, other)) = earlier.keys.get(&(spec.tenant.clone(), key.clone())) {
                return (*other != fingerprint).then(|| conflict(*first, "idempotency_key"));
            }
            earlier
                .keys
                .insert((spec.tenant.clone(), key.clone()), (spec.id, fingerprint));
        }
        earlier.ids.insert(spec.id, (spec.tenant.clone(), fingerprint));
        self.plan_quota(owner, spec, &mut earlier.planned).err()
    }

    /// Decides without changing anything. `redriven`: a job whose idempotency key may be taken over.
    fn decide(&self, spec: &JobSpec, redriven: Option<JobId>) -> Result<Decision, Refusal> {
        let tenant = self.tenant_number(&spec.tenant)?;
        check_ranges(spec)?;
        let fingerprint = fingerprint(spec);
        if let Some((owner, state, first)) = self.known(spec.id) {
            return if owner == tenant && first == fingerprint {
                Ok(Decision::Existed(Enqueued {
                    job: spec.id,
                    state,
                    existed: true,
                }))
            } else {
                Err(conflict(spec.id, "id"))
            };
        }
        if let Some(key) = &spec.idempotency_key
            && let Some(holder) = self.holder_of_key(tenant, key)
            && Some(holder) != redriven
            && let Some((_, state, first)) = self.known(holder)
        {
            return if first == fingerprint {
                Ok(Decision::Existed(Enqueued {
                    job: holder,
                    state,
                    existed: true,
                }))
            } else {
                Err(conflict(holder, "idempotency_key"))
            };
        }
        if spec.history_searched < self.meta.ended_floor {
            return Err(Refusal::SearchHistoryAgain {
                searched: spec.history_searched,
                needed: self.meta.ended_floor,
            });
        }
        self.check_costs(tenant, spec)?;
        Ok(Decision::Accept(tenant, fingerprint))
    }

    fn holder_of_key(&self, tenant: u32, key: &Name) -> Option<JobId> {
        if self.has(Defect::KeyNotLooked) {
            return None;
        }
        if self.has(Defect::KeyAcrossTenants) {
            let mut owners = 0..self.tenants.len() as u32;
            return owners.find_map(|owner| self.keys.get(&(owner, key.clone())).copied());
        }
        self.keys.get(&(tenant, key.clone())).copied()
    }

    /// Refuses a job that costs more than may be taken at once, since it could never start. The rule may change later;
    /// a job that was accepted then waits.
    fn check_costs(&self, tenant: u32, spec: &JobSpec) -> Result<(), Refusal> {
        let limits = &spec.options.limits;
        if self.book.len() == 0 || (limits.cost == 1 && limits.keys.iter().all(|key| key.cost == 1)) {
            return Ok(());
        }
        let tenant = &self.tenants[tenant as usize].row.name;
        let check = |level: LimitLevel, tenant: &str, name: &str, field: &str, cost: u32| {
            let rule = self.book.of(level, tenant, name).next();
            match rule.and_then(|rule| rule.rate) {
                Some(rate) if cost > rate.burst => {
                    let allowed = format!(
                        "at most {}, the burst of the limit of its {}",
                        rate.burst,
                        level.as_str()
                    );
                    Err(out_of_range(field, cost, &allowed))
                }
                _ => Ok(()),
            }
        };
        check(LimitLevel::Cluster, "", "", "cost", limits.cost)?;
        check(LimitLevel::Tenant, tenant, "", "cost", limits.cost)?;
        check(LimitLevel::Queue, tenant, &spec.queue, "cost", limits.cost)?;
        check(LimitLevel::Kind, tenant, &spec.kind, "cost", limits.cost)?;
        for key in &limits.keys {
            check(LimitLevel::Key, tenant, &key.key, "limit_keys.cost", key.cost)?;
        }
        Ok(())
    }

    /// Owner, state and fingerprint of a live or lately ended job.
    pub(super) fn known(&self, id: JobId) -> Option<(u32, JobState, u64)> {
        if let Some(number) = self.live_number(id) {
            let job = &self.jobs[number];
            return Some((self.lanes[job.lane].tenant, job.state, job.fingerprint));
        }
        let ended = self.lately_ended(id).filter(|_| !self.has(Defect::EndedForgotten))?;
        Some(((ended.tenant.0 - 1) as u32, ended.state, ended.fingerprint))
    }

    pub(super) fn tenant_number(&self, name: &Name) -> Result<u32, Refusal> {
        self.tenant_of
            .get(name)
            .copied()
            .ok_or_else(|| Refusal::UnknownTenant(name.clone()))
    }

    fn accept(&mut self, tenant: u32, mut spec: JobSpec, fingerprint: u64, from: Option<JobId>) -> Enqueued {
        let now = self.meta.now;
        spec.available_at = spec.available_at.max(now);
        if self.has(Defect::ExpiryHalved) {
            spec.options.expires_in /= 2;
        }
        let lane = self.lane_number(tenant, &spec);
        self.share_names(tenant, lane, &mut spec);
        let id = spec.id;
        let available_at = spec.available_at;
        // The index stays below 2^40 (see `LeaseId::fence`); beyond, order among equals would suffer, nothing else.
        let mut sequence = (self.entry.index << 24).wrapping_add(self.entry.accepted);
        self.entry.accepted += 1;
        let order = self.join_order(lane, &mut spec);
        if order != NO_ORDER
            && self.orders[order]
                .held
                .is_some_and(|(held_by, _)| Some(held_by) == from)
        {
            // It takes the place of the dead job, at the front.
            sequence = self.free_order(order).unwrap_or(sequence);
        }
        let state = if available_at > now && !self.has(Defect::DelayIgnored) {
            JobState::Scheduled
        } else if self.must_wait(order, sequence) {
            JobState::Blocked
        } else {
            JobState::Available
        };
        self.effects.job(id, state, 0, fingerprint ^ available_at);
        let attempts = u32::from(from.is_some() && self.has(Defect::RedriveKeepsAttempts));
        let had_row = self.dirty.jobs.deleted.remove(&id);
        let number = self.place_job(
            tenant,
            Job {
                spec: Arc::new(spec),
                fingerprint,
                enqueued_at: now,
                available_at,
                sequence,
                changed_index: self.entry.index,
                started_at: 0,
                run: None,
                rare: from.map(|from| {
                    Box::new(Rare {
                        redriven_from: Some(from),
                        ..Rare::default()
                    })
                }),
                lane,
                order,
                attempts,
                failures: 0,
                crashes: 0,
                state,
                cancel_asked: false,
                dirty: false,
                written: had_row,
            },
        );
        self.mark_job(number);
        self.refresh_lane(lane);
        self.take_enqueue_token(tenant);
        let totals = &mut self.tenants[tenant as usize].row.totals;
        totals.enqueued += 1;
        self.mark_tenant(tenant);
        Enqueued {
            job: id,
            state,
            existed: false,
        }
    }

    /// Number of the job's ordering key, or `NO_ORDER`; the key's name is shared from then on.
    pub(crate) fn join_order(&mut self, lane: u32, spec: &mut JobSpec) -> u32 {
        let Some(ordering) = &mut spec.ordering else {
            return NO_ORDER;
        };
        let order = self.order_number(self.lanes[lane].queue, &ordering.key);
        ordering.key.clone_from(&self.orders[order].key);
        order
    }

    /// Whether a job that comes into this order at this place waits for another one.
    fn must_wait(&self, order: u32, sequence: u64) -> bool {
        if order == NO_ORDER || self.has(Defect::OrderOvertaken) {
            return false;
        }
        let order = &self.orders[order];
        order.held.is_some() || order.line.first().is_some_and(|(_, first, _)| first < sequence)
    }

    /// Replaces the job's own copies of names by shared ones.
    pub(crate) fn share_names(&mut self, tenant: u32, lane: u32, spec: &mut JobSpec) {
        let key = &self.routes.get(self.lanes[lane].route).key;
        spec.tenant.clone_from(&self.tenants[tenant as usize].row.name);
        spec.queue.clone_from(&key.queue);
        spec.kind.clone_from(&key.kind);
        spec.options.required_labels.clone_from(&key.labels);
        spec.options.preferred_labels.clone_from(&key.preferred);
        spec.options.limits.keys.clone_from(&self.lanes[lane].limits.keys);
        if spec.payload.content_type == self.content_type {
            spec.payload.content_type.clone_from(&self.content_type);
        } else {
            self.content_type.clone_from(&spec.payload.content_type);
        }
    }
}

fn conflict(first: JobId, what: &str) -> Refusal {
    Refusal::Conflict {
        first,
        what: what.into(),
    }
}

fn check_ranges(spec: &JobSpec) -> Result<(), Refusal> {
    let options = &spec.options;
    if options.max_attempts == 0 {
        return Err(out_of_range("max_attempts", 0, "from 1"));
    }
    if options.max_crashes == 0 {
        return Err(out_of_range("max_crashes", 0, "from 1"));
    }
    if !(1..=SLOTS_MAX).contains(&options.slots) {
        return Err(out_of_range("slots", options.slots, &format!("1 to {SLOTS_MAX}")));
    }
    let costs = || format!("1 to {LIMIT_COST_MAX}");
    let limits = &options.limits;
    if !(1..=LIMIT_COST_MAX).contains(&limits.cost) {
        return Err(out_of_range("cost", limits.cost, &costs()));
    }
    if limits.keys.len() > LIMIT_KEYS_MAX {
        return Err(out_of_range(
            "limit_keys",
            format!("a list of {}", limits.keys.len()),
            &format!("at most {LIMIT_KEYS_MAX}"),
        ));
    }
    if let Some(key) = limits.keys.iter().find(|key| !(1..=LIMIT_COST_MAX).contains(&key.cost)) {
        return Err(out_of_range("limit_keys.cost", key.cost, &costs()));
    }
    if !limits.keys.is_sorted_by(|a, b| a.key < b.key) {
        return Err(out_of_range(
            "limit_keys",
            "out of order",
            "each key once, in ascending order",
        ));
    }
    if let Backoff::Exponential { jitter_percent, .. } = options.backoff
        && jitter_percent > 100
    {
        return Err(out_of_range("jitter_percent", jitter_percent, "0 to 100"));
    }
    Ok(())
}

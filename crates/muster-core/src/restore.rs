//! From rows to state, and back.

use std::sync::Arc;

use crate::core::{Core, ENDED};
use crate::gate::{CLUSTER, NOBODY};
use crate::ids::TenantId;
use crate::job::{JobRow, JobState};
use crate::limit::{LimitLevel, LimitRule};
use crate::live::{Job, Rare, Run};
use crate::row::{
    EndedRow, FleetKey, FleetRow, GateRow, KindCostRow, MetaRow, OrderRow, QueueRow, Row, SessionRow, TenantRow,
};
use crate::tenant::Tenant;

/// Rows that do not make a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored rows contradict each other: {0}")]
pub struct RestoreError(pub String);

fn wrong<T>(text: impl Into<String>) -> Result<T, RestoreError> {
    Err(RestoreError(text.into()))
}

#[derive(Default)]
struct Sorted {
    meta: Option<MetaRow>,
    tenants: Vec<TenantRow>,
    queues: Vec<QueueRow>,
    jobs: Vec<Arc<JobRow>>,
    sessions: Vec<SessionRow>,
    ended: Vec<EndedRow>,
    costs: Vec<KindCostRow>,
    limits: Vec<LimitRule>,
    gates: Vec<GateRow>,
    orders: Vec<OrderRow>,
    fleets: Vec<FleetRow>,
}

impl Core {
    /// The state whose rows were written at one checkpoint, in any order. No rows: the state before the first entry.
    pub fn restore(rows: impl IntoIterator<Item = Row>) -> Result<Self, RestoreError> {
        let mut sorted = Sorted::default();
        let mut core = Self::empty();
        let mut any = false;
        for row in rows {
            any = true;
            match row {
                Row::Meta(row) => {
                    if sorted.meta.replace(row).is_some() {
                        return wrong("two rows of counters");
                    }
                }
                Row::Tenant(row) => sorted.tenants.push(row),
                Row::Queue(row) => sorted.queues.push(row),
                Row::Job(row) => sorted.jobs.push(row),
                Row::Session(row) => sorted.sessions.push(row),
                Row::Ended(row) => sorted.ended.push(row),
                Row::KindCost(row) => sorted.costs.push(row),
                Row::Limit(rule) => sorted.limits.push(rule),
                Row::Gate(row) => sorted.gates.push(row),
                Row::Order(row) => sorted.orders.push(row),
                Row::Fleet(row) => sorted.fleets.push(row),
                Row::Node(row) => core.cluster.restore(row).map_err(RestoreError)?,
                Row::JoinToken(row) => drop(core.cluster.tokens.insert((row.node, row.hash), row)),
                Row::Changes(row) => core.cluster.changes = row,
                Row::Request(row) => core.requests.restore(row).map_err(RestoreError)?,
            }
        }
        if !any {
            return Ok(Self::new());
        }
        let Some(meta) = sorted.meta else {
            return wrong("no row of counters");
        };
        core.meta = meta;
        for rule in sorted.limits {
            core.dirty.limits.restored(rule.selector.clone());
            core.book.insert(rule);
        }
        core.refresh_limit(CLUSTER);
        core.restore_tenants(sorted.tenants)?;
        core.restore_costs(sorted.costs)?;
        core.restore_gates(sorted.gates)?;
        core.restore_queues(sorted.queues)?;
        core.restore_orders(sorted.orders)?;
        core.restore_fleets(sorted.fleets)?;
        core.restore_sessions(sorted.sessions)?;
        core.restore_ended(sorted.ended)?;
        // Numbers follow the order of acceptance, so that the lanes are filled in order.
        sorted.jobs.sort_by_key(|row| (row.available_at, row.sequence));
        for row in sorted.jobs {
            core.restore_job(&row)?;
        }
        let lanes: Vec<u32> = core.lanes.iter().map(|(lane, _)| lane).collect();
        for lane in lanes {
            // Without joining: tags are as they were.
            let head = core.next_head(lane);
            core.set_head(lane, head, false);
        }
        core.gates_are_written();
        core.reheat();
        Ok(core)
    }

    fn number_of(&self, id: TenantId, what: &str) -> Result<u32, RestoreError> {
        match self.tenant_by_id(id) {
            Some(_) => Ok((id.0 - 1) as u32),
            None => wrong(format!("{what} of tenant {}, which is not there", id.0)),
        }
    }

    fn restore_tenants(&mut self, mut rows: Vec<TenantRow>) -> Result<(), RestoreError> {
        rows.sort_by_key(|row| row.id);
        for (number, row) in rows.into_iter().enumerate() {
            if row.id.0 != number as u64 + 1 {
                return wrong(format!("tenant {} stands where {} belongs", row.id.0, number + 1));
            }
            if self.tenant_of.insert(row.name.clone(), number as u32).is_some() {
                return wrong(format!("two tenants are named {:?}", row.name));
            }
            self.tenants.push(Tenant::new(row));
            self.tenant_gate(number as u32);
        }
        if self.meta.next_tenant != self.tenants.len() as u64 + 1 {
            return wrong(format!(
                "{} tenants, next id {}",
                self.tenants.len(),
                self.meta.next_tenant
            ));
        }
        Ok(())
    }

    fn restore_costs(&mut self, rows: Vec<KindCostRow>) -> Result<(), RestoreError> {
        for row in rows {
            let tenant = self.number_of(row.tenant, "a run time")?;
            let tenant = &mut self.tenants[tenant as usize];
            let number = tenant.cost_number(&row.kind);
            if let Some(cost) = tenant.costs.get_mut(number as usize) {
                cost.mean = row.mean;
            }
        }
        Ok(())
    }

    fn restore_queues(&mut self, rows: Vec<QueueRow>) -> Result<(), RestoreError> {
        for row in rows {
            let tenant = self.number_of(row.tenant, "a queue")?;
            let number = self.queue_number(tenant, &row.queue);
            self.queues[number].paused = row.paused;
            self.queues[number].note = row.note;
            self.limited += u32::from(row.paused);
            self.queues[number].weight = row.weight;
            if row.weight != 0 {
                self.tenants[tenant as usize].weighted.insert(row.queue.clone(), number);
            }
            self.dirty.queues.restored((tenant, row.queue));
        }
        Ok(())
    }

    fn restore_gates(&mut self, rows: Vec<GateRow>) -> Result<(), RestoreError> {
        for row in rows {
            let (tenant, owner) = match row.level {
                LimitLevel::Cluster => (0, 0),
                LimitLevel::Queue => (self.number_of(row.tenant, "a limiter")?, NOBODY),
                _ => {
                    let tenant = self.number_of(row.tenant, "a limiter")?;
                    (tenant, tenant)
                }
            };
            let number = self.gate_number(row.level, tenant, &row.name, owner);
            if row.arrival != 0 && self.gates[number].limit.rate.is_none() {
                return wrong(format!(
                    "the limiter of {} {:?} has used a rate that no rule gives it",
                    row.level.as_str(),
                    row.name
                ));
            }
            if row.paused.is_some() && row.level != LimitLevel::Kind {
                return wrong(format!(
                    "the limiter of {} {:?} is paused, and only kinds are",
                    row.level.as_str(),
                    row.name
                ));
            }
            self.change_gate(number, |gate| {
                gate.arrival = row.arrival;
                gate.shut_until = row.shut_until;
                gate.throttled_until = row.throttled_until;
                gate.paused.clone_from(&row.paused);
            });
            if row.paused.is_some() {
                self.tenants[tenant as usize].paused_kinds.insert(row.name);
            }
        }
        Ok(())
    }

    fn restore_orders(&mut self, rows: Vec<OrderRow>) -> Result<(), RestoreError> {
        for row in rows {
            let tenant = self.number_of(row.tenant, "an ordering key")?;
            let queue = self.queue_number(tenant, &row.queue);
            self.queues[queue].held_orders.insert(row.key.clone());
            let order = self.order_number(queue, &row.key);
            self.orders[order].held = Some((row.held_by, row.sequence));
            self.dirty.orders.restored((tenant, row.queue, row.key));
        }
        Ok(())
    }

    fn restore_fleets(&mut self, rows: Vec<FleetRow>) -> Result<(), RestoreError> {
        for row in rows {
            if row.id >= self.meta.next_fleet || self.fleets.contains_key(&row.id) {
                return wrong(format!("fleet {} is there twice, or not born yet", row.id));
            }
            self.add_fleet(row, true);
        }
        Ok(())
    }

    fn restore_sessions(&mut self, mut rows: Vec<SessionRow>) -> Result<(), RestoreError> {
        rows.sort_by_key(|row| row.spec.session);
        for row in rows {
            if self.session_of.contains_key(&row.spec.session) {
                return wrong(format!("two sessions {:032x}", row.spec.session.0));
            }
            let fleet = self.fleet_of.get(&FleetKey::of(&row.spec.class));
            if fleet.is_none_or(|id| self.fleets[id].row.idle_since != 0) {
                return wrong(format!("session {:032x} has no fleet", row.spec.session.0));
            }
            let (gathers, id) = (row.gathers, row.spec.session);
            let number = self.add_session(row, true);
            if let Some(gathers) = gathers {
                self.number_of(gathers.tenant, "a session that gathers slots")?;
                if !self.restore_gather(self.sessions[number].class, number, gathers) {
                    return wrong(format!("session {:032x} gathers slots beside another one", id.0));
                }
            }
        }
        Ok(())
    }

    fn restore_ended(&mut self, mut rows: Vec<EndedRow>) -> Result<(), RestoreError> {
        rows.sort_by_key(|row| row.index);
        for row in rows {
            for job in row.jobs {
                let tenant = self.number_of(job.tenant, "an ended job")?;
                if let Some(key) = &job.idempotency_key {
                    self.keys.insert((tenant, key.clone()), job.job);
                }
                let id = job.job;
                let number = self.ended.push(row.index, row.at, job);
                if self.ids.insert(id, number | ENDED).is_some() {
                    return wrong(format!("job {id} ended twice"));
                }
            }
        }
        self.ended.take_fresh();
        Ok(())
    }

    fn restore_job(&mut self, row: &JobRow) -> Result<(), RestoreError> {
        let id = row.spec.id;
        let tenant = self.number_of(row.tenant, "a job")?;
        if self.ids.contains_key(&id) {
            return wrong(format!("job {id} is there twice"));
        }
        if !matches!(
            row.state,
            JobState::Scheduled | JobState::Blocked | JobState::Available | JobState::Running | JobState::Retrying
        ) {
            return wrong(format!("live job {id} is {:?}", row.state));
        }
        if row.lease.is_some() != (row.state == JobState::Running) {
            return wrong(format!("job {id} is {:?}, its lease {:?}", row.state, row.lease));
        }
        let run = match &row.lease {
            None => None,
            Some(lease) => {
                let Some(session) = self.session_of.get(&lease.session).copied() else {
                    return wrong(format!("job {id} is leased to a session that is not open"));
                };
                let held = self.sessions[session].leases.len() as u32;
                Some(Box::new(Run {
                    lease: lease.id,
                    deadline: lease.deadline,
                    charged: lease.charged,
                    guaranteed: lease.guaranteed,
                    holder: lease.session,
                    session,
                    held,
                }))
            }
        };
        let rare = Rare {
            error: row.error.clone(),
            last_report: row.last_report,
            redriven_from: row.redriven_from,
        };
        let rare = (rare != Rare::default()).then(|| Box::new(rare));
        let lane = self.lane_number(tenant, &row.spec);
        let mut spec = Arc::clone(&row.spec);
        let order = self.join_order(lane, Arc::make_mut(&mut spec));
        self.share_names(tenant, lane, Arc::make_mut(&mut spec));
        let session = run.as_ref().map(|run| run.session);
        let number = self.place_job(
            tenant,
            Job {
                spec,
                fingerprint: row.fingerprint,
                enqueued_at: row.enqueued_at,
                available_at: row.available_at,
                sequence: row.sequence,
                changed_index: row.changed_index,
                started_at: row.started_at,
                run,
                rare,
                lane,
                order,
                attempts: row.attempts,
                failures: row.failures,
                crashes: row.crashes,
                state: row.state,
                cancel_asked: row.cancel_asked,
                dirty: false,
                written: true,
            },
        );
        if let Some(session) = session {
            self.sessions[session].leases.push(number);
            self.sessions[session].held += u64::from(row.spec.options.slots);
            self.tenants[tenant as usize].charged += row.lease.as_ref().map_or(0, |lease| lease.charged);
        }
        Ok(())
    }

    /// All rows of the state, as `restore` takes them.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = vec![Row::Meta(self.meta.clone())];
        rows.extend(self.book.rules().cloned().map(Row::Limit));
        rows.extend(
            self.gates
                .iter()
                .filter_map(|(gate, _)| self.gate_row(gate))
                .map(Row::Gate),
        );
        rows.extend(
            self.orders
                .iter()
                .filter_map(|(order, _)| self.order_row(order))
                .map(Row::Order),
        );
        let mut fleets: Vec<_> = self.fleets.values().map(|fleet| fleet.row.clone()).collect();
        fleets.sort_unstable_by_key(|fleet| fleet.id);
        rows.extend(fleets.into_iter().map(Row::Fleet));
        for tenant in &self.tenants {
            rows.push(Row::Tenant(tenant.row()));
            rows.extend(
                (0..tenant.costs.len())
                    .filter_map(|cost| tenant.cost_row(cost as u32))
                    .map(Row::KindCost),
            );
            let queues = tenant
                .queues
                .values()
                .map(|queue| &self.queues[*queue])
                .filter(|queue| queue.has_row());
            rows.extend(queues.map(|queue| Row::Queue(queue.row(tenant.row.id))));
            rows.extend(tenant.jobs.values().map(|job| Row::Job(self.job_row(*job))));
        }
        rows.extend(
            self.session_of
                .values()
                .map(|session| Row::Session(self.sessions[*session].row.clone())),
        );
        rows.extend(self.ended.rows().map(Row::Ended));
        rows.extend(self.cluster.rows());
        rows.extend(self.requests.rows());
        rows
    }
}

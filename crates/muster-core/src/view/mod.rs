//! What can be asked of the state.

mod explain;
mod kinds;
mod limits;
mod orders;

use std::sync::Arc;

use crate::core::Core;
use crate::ids::{JobId, Name, TenantId};
use crate::job::{JobRow, JobSpec};
use crate::query::{JobFilter, LiveCounts, QueueView, SessionView, TenantView};
use crate::quota::{Quota, QuotaUse};
use crate::tenant::{Queue, Tenant};

impl Core {
    /// Identity of a tenant.
    pub fn tenant_id(&self, name: &str) -> Option<TenantId> {
        let number = self.tenant_of.get(name)?;
        Some(self.tenants[*number as usize].row.id)
    }

    pub(crate) fn tenant_by_id(&self, id: TenantId) -> Option<&Tenant> {
        self.tenants.get(usize::try_from(id.0.checked_sub(1)?).ok()?)
    }

    /// One tenant.
    pub fn tenant(&self, id: TenantId) -> Option<TenantView> {
        self.tenant_by_id(id).map(|tenant| self.tenant_view(tenant))
    }

    /// All tenants by name.
    pub fn tenants(&self) -> Vec<TenantView> {
        self.tenant_of
            .values()
            .map(|number| self.tenant_view(&self.tenants[*number as usize]))
            .collect()
    }

    fn tenant_view(&self, tenant: &Tenant) -> TenantView {
        let settings = &tenant.row.settings;
        TenantView {
            id: tenant.row.id,
            name: tenant.row.name.clone(),
            settings: settings.clone(),
            totals: tenant.row.totals,
            live: tenant.live,
            quota_use: tenant.quota_use(),
            concurrency: self.gates[tenant.gate].limit.concurrency,
            running_slots: tenant.running_slots,
        }
    }

    /// A tenant's quota and what is used of it.
    pub fn quota(&self, id: TenantId) -> Option<(Quota, QuotaUse)> {
        let tenant = self.tenant_by_id(id)?;
        Some((tenant.row.settings.quota, tenant.quota_use()))
    }

    /// Whether a job is known, live or lately ended, by its id or as the holder of its idempotency key.
    pub fn knows(&self, tenant: TenantId, spec: &JobSpec) -> bool {
        let key = spec.idempotency_key.as_ref();
        self.ids.contains_key(&spec.id) || key.is_some_and(|key| self.job_of_key(tenant, key).is_some())
    }

    /// Queues of a tenant that have jobs or settings, by name.
    pub fn queues(&self, tenant: TenantId) -> Vec<QueueView> {
        let Some(tenant) = self.tenant_by_id(tenant) else {
            return Vec::new();
        };
        tenant
            .queues
            .values()
            .map(|number| self.queue_view(&self.queues[*number]))
            .collect()
    }

    fn queue_view(&self, queue: &Queue) -> QueueView {
        let lanes = || queue.lanes.iter().map(|lane| &self.lanes[*lane]);
        QueueView {
            name: queue.name.clone(),
            paused: queue.paused,
            note: queue.note.clone(),
            weight: queue.weight,
            live: queue.live,
            oldest_available_at: lanes().filter_map(crate::lane::Lane::oldest).min().unwrap_or(0),
            unroutable: lanes()
                .filter(|lane| lane.classes.is_empty())
                .map(|lane| lane.available() as u64)
                .sum(),
        }
    }

    /// Open sessions by id.
    pub fn sessions(&self) -> Vec<SessionView> {
        let view = |number: &u32| {
            let session = &self.sessions[*number];
            SessionView {
                row: session.row.clone(),
                running: session.leases.len() as u32,
            }
        };
        self.session_of.values().map(view).collect()
    }

    /// A live job.
    pub fn job(&self, id: JobId) -> Option<Arc<JobRow>> {
        self.live_number(id).map(|number| self.job_row(number))
    }

    pub(crate) fn job_row(&self, number: u32) -> Arc<JobRow> {
        let job = &self.jobs[number];
        Arc::new(job.row(self.tenants[self.lanes[job.lane].tenant as usize].row.id))
    }

    /// Live jobs of a tenant that match, newest id first, from below `before`; looks at no more than `budget` jobs.
    /// Returns the jobs and, if there is more to look at, the id to go on from.
    pub fn jobs(
        &self,
        tenant: TenantId,
        filter: &JobFilter,
        before: Option<JobId>,
        limit: usize,
        budget: usize,
    ) -> (Vec<Arc<JobRow>>, Option<JobId>) {
        let Some(tenant) = self.tenant_by_id(tenant) else {
            return (Vec::new(), None);
        };
        let upper = before.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut found = Vec::new();
        let mut last = before;
        for (looked, (id, number)) in tenant.jobs.range((std::ops::Bound::Unbounded, upper)).rev().enumerate() {
            if looked >= budget || found.len() >= limit {
                return (found, last);
            }
            last = Some(*id);
            let job = &self.jobs[*number];
            let matches = filter.queue.as_ref().is_none_or(|queue| *queue == job.spec.queue)
                && filter.kind.as_ref().is_none_or(|kind| *kind == job.spec.kind)
                && (filter.states.is_empty() || filter.states.contains(&job.state));
            if matches {
                found.push(self.job_row(*number));
            }
        }
        (found, None)
    }

    /// The job that holds an idempotency key, live or lately ended.
    pub fn job_of_key(&self, tenant: TenantId, key: &Name) -> Option<JobId> {
        let number = u32::try_from(tenant.0.checked_sub(1)?).ok()?;
        self.keys.get(&(number, key.clone())).copied()
    }

    /// Live jobs of all tenants.
    pub fn live(&self) -> LiveCounts {
        self.live
    }

    /// Available jobs of all tenants that no open session accepts; looks at every lane.
    pub fn unroutable(&self) -> u64 {
        let lanes = self.lanes.iter().map(|(_, lane)| lane);
        lanes
            .filter(|lane| lane.classes.is_empty())
            .map(|lane| lane.available() as u64)
            .sum()
    }
}

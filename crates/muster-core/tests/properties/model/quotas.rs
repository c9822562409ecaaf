//! Quotas: what a tenant may bring in, counted anew each time.

use muster_core::{Core, JobSpec, RateLimit, TenantId, Timestamp};

use super::limits::Bucket;
use super::{Check, Model, Tenant};

fn bytes(spec: &JobSpec) -> u64 {
    let mut bytes = spec.payload.data.len();
    bytes += spec.idempotency_key.as_ref().map_or(0, |key| key.len());
    bytes += spec.ordering.as_ref().map_or(0, |ordering| ordering.key.len());
    bytes += spec
        .metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum::<usize>();
    bytes as u64
}

impl Tenant {
    /// What was used of the old rate counts as as many tokens of the new one.
    pub fn set_enqueue_rate(&mut self, rate: Option<RateLimit>, now: Timestamp) {
        let old = self.enqueue_rate.take();
        self.enqueue_rate = rate.map(|rate| match old {
            Some(bucket) => bucket.converted(rate, now),
            None => Bucket::new(rate),
        });
    }
}

impl Model {
    /// Live jobs of a tenant, and their bytes.
    fn quota_use(&self, tenant: TenantId) -> (u64, u64) {
        let live = self.jobs.iter().filter(|job| job.tenant == tenant && job.is_live());
        live.fold((0, 0), |(jobs, all), job| (jobs + 1, all + bytes(&job.spec)))
    }

    /// Whether the quota refuses a new job once these others have come in.
    pub fn over_quota(&self, spec: &JobSpec, others: &[&JobSpec]) -> bool {
        let Some(tenant) = self.tenant(&spec.tenant) else {
            return false;
        };
        let quota = &tenant.settings.quota;
        let (mut jobs, mut all) = self.quota_use(tenant.id);
        let mut rate = tenant.enqueue_rate.clone();
        for other in others {
            jobs += 1;
            all += bytes(other);
            if let Some(rate) = &mut rate {
                rate.take(self.now, 1);
            }
        }
        (quota.jobs_max != 0 && jobs + 1 > quota.jobs_max)
            || (quota.bytes_max != 0 && all + bytes(spec) > quota.bytes_max)
            || rate.is_some_and(|rate| !rate.allows(self.now, 1))
    }

    pub fn take_enqueue_token(&mut self, tenant: TenantId) {
        let now = self.now;
        if let Some(rate) = &mut self.tenant_of(tenant).enqueue_rate {
            rate.take(now, 1);
        }
    }

    pub fn same_quota(&self, core: &Core, tenant: &Tenant) -> Check {
        let Some(view) = core.tenant(tenant.id) else {
            return Err(format!("tenant {} is gone", tenant.name));
        };
        let shown = (view.quota_use.jobs, view.quota_use.bytes);
        let counted = self.quota_use(tenant.id);
        let tokens = tenant.enqueue_rate.as_ref().map(|rate| rate.level(self.now));
        let shown_tokens = view.settings.quota.tokens(&view.quota_use, self.now);
        if shown == counted && shown_tokens == tokens && view.settings.quota == tenant.settings.quota {
            return Ok(());
        }
        Err(format!(
            "tenant {} has jobs, bytes {counted:?} and tokens {tokens:?}; the core shows {view:?}",
            tenant.name
        ))
    }
}

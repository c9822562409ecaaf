//! How much memory the live jobs take. Counted, not measured: the same on every node at the same log index.

use crate::core::Core;
use crate::ids::TenantId;
use crate::job::JobSpec;
use crate::live::Job;

/// Memory of a live job besides its own bytes: the job and its places in the indexes, as `examples/core_speed` measures it.
const JOB_MEMORY: u64 = 512;

impl Core {
    /// Bytes of memory that the live jobs take, about.
    pub fn memory(&self) -> u64 {
        self.live.total() * JOB_MEMORY + self.job_bytes
    }

    /// The same of one tenant, without the texts of failures.
    pub fn memory_of(&self, tenant: TenantId) -> u64 {
        self.tenant_by_id(tenant)
            .map_or(0, |tenant| tenant.live.total() * JOB_MEMORY + tenant.bytes)
    }
}

impl JobSpec {
    /// Bytes of memory that the job takes while it lives, about.
    pub fn memory(&self) -> u64 {
        JOB_MEMORY + self.bytes()
    }
}

impl Job {
    /// Its own bytes: what it came with, and its last failure.
    pub(crate) fn bytes(&self) -> u64 {
        let error = self.rare.as_deref().and_then(|rare| rare.error.as_ref());
        self.spec.bytes() + error.map_or(0, |error| (error.class.len() + error.message.len()) as u64)
    }
}

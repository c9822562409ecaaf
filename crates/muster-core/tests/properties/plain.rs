//! A worker and jobs with nothing special, for tests that look at one thing.

use muster_core::{
    JobId, JobOptions, JobSpec, KindVersions, Origin, Payload, Priority, SessionId, SessionSpec, WorkerClass,
};

/// A worker of any tenant for jobs as [`plain_job`] makes them.
pub fn plain_session(session: SessionId, slots: u32) -> SessionSpec {
    SessionSpec {
        session,
        node: 1,
        worker: "worker".into(),
        class: WorkerClass {
            tenants: vec![],
            queues: vec![],
            kinds: vec![KindVersions {
                kind: "mail".into(),
                min_version: 1,
                max_version: 1,
            }],
            labels: vec![],
            slots,
        },
        ttl: 10_000,
        proposed_after: 0,
    }
}

/// A job of tenant `default` with nothing special.
pub fn plain_job(id: JobId) -> JobSpec {
    JobSpec {
        id,
        tenant: "default".into(),
        queue: "mail".into(),
        kind: "mail".into(),
        schema_version: 1,
        payload: Payload::default(),
        priority: Priority::Normal,
        available_at: 0,
        idempotency_key: None,
        options: JobOptions::default(),
        ordering: None,
        metadata: vec![],
        seed: 0,
        origin: Origin::Api,
        history_searched: u64::MAX,
    }
}

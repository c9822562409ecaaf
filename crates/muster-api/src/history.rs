//! Looking for a client's id or key among the jobs that ended.
//!
//! The core remembers live and lately ended jobs alone. Who proposes a job under an id or key that was used before must
//! therefore have looked here, up to an applied index read before looking.

use std::sync::Arc;

use muster_core::{Enqueued, JobRow, JobSpec, Refusal, TenantId, Timestamp};
use muster_store::StateStore;

use crate::errors::Error;
use crate::limits::IDEMPOTENCY_WINDOW_MS;

/// Lookups of one call from which on they move off the async threads.
const INLINE_MAX: usize = 32;

/// A job to be looked for.
pub(crate) struct Wanted {
    /// As it will be proposed.
    pub(crate) spec: JobSpec,
    /// The client chose the id, and may have used it before.
    pub(crate) id_given: bool,
}

impl Wanted {
    fn lookups(&self) -> usize {
        usize::from(self.id_given) + usize::from(self.spec.idempotency_key.is_some())
    }
}

/// What the history has for each job, in order: nothing, the first job, or a conflict.
pub(crate) async fn search(
    store: &StateStore,
    tenant: TenantId,
    now: Timestamp,
    wanted: Vec<Wanted>,
) -> Result<(Vec<Wanted>, Vec<Option<Result<Enqueued, Error>>>), Error> {
    let lookups: usize = wanted.iter().map(Wanted::lookups).sum();
    if lookups == 0 {
        let found = wanted.iter().map(|_| None).collect();
        return Ok((wanted, found));
    }
    if lookups <= INLINE_MAX {
        let found = search_all(store, tenant, now, &wanted)?;
        return Ok((wanted, found));
    }
    let store = store.clone();
    tokio::task::spawn_blocking(move || {
        let found = search_all(&store, tenant, now, &wanted)?;
        Ok((wanted, found))
    })
    .await
    .map_err(|error| Error::Internal(format!("searching the history: {error}")))?
}

fn search_all(
    store: &StateStore,
    tenant: TenantId,
    now: Timestamp,
    wanted: &[Wanted],
) -> Result<Vec<Option<Result<Enqueued, Error>>>, Error> {
    wanted
        .iter()
        .map(|wanted| search_one(store, tenant, now, wanted))
        .collect()
}

fn search_one(
    store: &StateStore,
    tenant: TenantId,
    now: Timestamp,
    wanted: &Wanted,
) -> Result<Option<Result<Enqueued, Error>>, Error> {
    if wanted.id_given
        && let Some(row) = store.history_job(wanted.spec.id)?
    {
        return Ok(Some(compare(&row, tenant, &wanted.spec, "id")));
    }
    if let Some(key) = &wanted.spec.idempotency_key
        && let Some(holder) = store.history_key_holder(tenant, key)?
        && holder.enqueued_at.saturating_add(IDEMPOTENCY_WINDOW_MS) > now
        && let Some(row) = store.history_job(holder.job)?
    {
        return Ok(Some(compare(&row, tenant, &wanted.spec, "idempotency_key")));
    }
    Ok(None)
}

fn compare(row: &Arc<JobRow>, tenant: TenantId, spec: &JobSpec, what: &str) -> Result<Enqueued, Error> {
    if row.tenant == tenant && row.fingerprint == spec.fingerprint() {
        return Ok(Enqueued {
            job: row.spec.id,
            state: row.state,
            existed: true,
        });
    }
    // The first job of another tenant is not named.
    let first = if row.tenant == tenant { row.spec.id } else { spec.id };
    Err(Refusal::Conflict {
        first,
        what: what.into(),
    }
    .into())
}

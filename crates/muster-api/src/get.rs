//! One job, live or from history.

use std::sync::Arc;

use muster_core::{JobId, JobRow, TenantId};
use muster_proto::v1;
use tokio::time::Instant;

use crate::api::{Api, Caller};
use crate::convert;
use crate::errors::Error;
use crate::validate;

impl Api {
    pub(crate) async fn get_job(
        &self,
        caller: Caller,
        request: v1::GetJobRequest,
    ) -> Result<v1::GetJobResponse, Error> {
        let id = validate::job_id("id", &request.id)?;
        let read = self.begin_read(request.consistency, caller.deadline).await?;
        let tenant = self.tenant_of_read(&caller.tenant)?;
        let row = self.find(tenant, id, caller.deadline).await?;
        Ok(v1::GetJobResponse {
            job: Some(convert::job(&row)),
            freshness: read.freshness(),
        })
    }

    /// A job of the tenant as this node knows it: first the live ones, since a job goes from there to the history.
    pub(crate) async fn find(&self, tenant: TenantId, id: JobId, deadline: Instant) -> Result<Arc<JobRow>, Error> {
        let row = match self.raft().read(|core| core.job(id)) {
            Some(row) => Some(row),
            None => self.find_ended(id, deadline).await?,
        };
        // Another tenant's job is as good as none.
        row.filter(|row| row.tenant == tenant).ok_or(Error::JobNotFound(id))
    }

    async fn find_ended(&self, id: JobId, deadline: Instant) -> Result<Option<Arc<JobRow>>, Error> {
        let store = self.history().clone();
        let search = tokio::task::spawn_blocking(move || store.history_job(id));
        match tokio::time::timeout_at(deadline, search).await {
            Ok(Ok(found)) => Ok(found?),
            Ok(Err(error)) => Err(Error::Internal(format!("reading the history: {error}"))),
            Err(_) => Err(Error::DeadlinePassed("the history was being read")),
        }
    }
}

//! Cancelling a job.

use muster_core::{Command, Reply};
use muster_proto::v1;

use crate::api::{Api, Caller, unexpected};
use crate::errors::Error;
use crate::{convert, validate};

impl Api {
    pub(crate) async fn cancel_job(
        &self,
        caller: Caller,
        request: v1::CancelJobRequest,
    ) -> Result<v1::CancelJobResponse, Error> {
        let job = validate::job_id("id", &request.id)?;
        let tenant = self.tenant_id(&caller.tenant, caller.deadline).await?;
        let command = Command::Cancel {
            tenant: caller.tenant,
            job,
        };
        let state = match self.propose(command, caller.deadline).await {
            Ok(Reply::Cancelled(state)) => state,
            Ok(other) => return Err(unexpected(&other)),
            // It may have ended so long ago that the core forgot it: then its state is the answer.
            Err(Error::JobNotFound(_)) => {
                self.linearize(caller.deadline).await?;
                self.find(tenant, job, caller.deadline).await?.state
            }
            Err(error) => return Err(error),
        };
        Ok(v1::CancelJobResponse {
            state: convert::state(state),
        })
    }
}

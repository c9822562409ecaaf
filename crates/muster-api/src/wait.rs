//! Waiting for the end of a job, and watching it.

use muster_core::{JobId, JobState, TenantId};
use muster_node::{JobChange, JobWatch};
use muster_proto::v1;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::api::{Answers, Api};
use crate::errors::Error;
use crate::limits::WAIT_MAX;
use crate::{convert, deadline, tenant, validate};

impl Api {
    pub(crate) async fn wait_job(
        &self,
        request: Request<v1::WaitJobRequest>,
    ) -> Result<Response<v1::WaitJobResponse>, Status> {
        let _permit = self.waits().enter()?;
        let until = deadline::of_call(request.metadata(), WAIT_MAX);
        let tenant = tenant::of_call(request.metadata())?;
        let id = validate::job_id("id", &request.get_ref().id).map_err(Error::from)?;
        let soon = until.min(Instant::now() + self.call_timeout());
        // Watch first, look then: what changes between the two is not missed.
        let mut watch = self.node().watch_job(id);
        self.linearize(soon).await?;
        let tenant = self.tenant_id(&tenant, soon).await?;
        let mut job = self.find(tenant, id, soon).await?;
        while !job.state.is_terminal() {
            match tokio::time::timeout_at(until, watch.next()).await {
                Ok(Some(JobChange::Ended(row))) => job = row,
                Ok(Some(JobChange::State { .. })) => {}
                Ok(Some(JobChange::LookAgain)) => job = self.find(tenant, id, until).await?,
                Ok(None) => return Err(Error::Stopping.into()),
                // The time is up: the live job is the answer.
                Err(_) => {
                    job = self.find(tenant, id, until + self.call_timeout()).await?;
                    break;
                }
            }
        }
        Ok(Response::new(v1::WaitJobResponse {
            job: Some(convert::job(&job)),
        }))
    }

    pub(crate) async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Answers<v1::WatchJobResponse>>, Status> {
        let permit = self.waits().enter()?;
        let caller = self.caller(request.metadata())?;
        let id = validate::job_id("id", &request.get_ref().id).map_err(Error::from)?;
        let watch = self.node().watch_job(id);
        self.linearize(caller.deadline).await?;
        let tenant = self.tenant_id(&caller.tenant, caller.deadline).await?;
        let job = self.find(tenant, id, caller.deadline).await?;
        let next = if job.state.is_terminal() {
            Step::Over
        } else {
            Step::Watch(watch)
        };
        let first = v1::WatchJobResponse {
            job: Some(convert::job(&job)),
        };
        let shown = (job.state, job.attempts);
        let changes = futures::stream::unfold((self.clone(), next, shown), move |(api, step, shown)| {
            // Held until the stream is dropped.
            let _ = &permit;
            async move {
                let Step::Watch(watch) = step else {
                    return None;
                };
                let (answer, next, shown) = api.next_change(watch, tenant, id, shown).await;
                Some((answer, (api, next, shown)))
            }
        });
        let answers = futures::StreamExt::chain(futures::stream::iter([Ok(first)]), changes);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn next_change(
        &self,
        mut watch: JobWatch,
        tenant: TenantId,
        id: JobId,
        shown: (JobState, u32),
    ) -> (Result<v1::WatchJobResponse, Status>, Step, (JobState, u32)) {
        loop {
            let job = match watch.next().await {
                Some(JobChange::Ended(row)) => Ok(row),
                Some(JobChange::State { state, attempts }) if (state, attempts) == shown => continue,
                Some(JobChange::State { .. } | JobChange::LookAgain) => {
                    self.find(tenant, id, Instant::now() + self.call_timeout()).await
                }
                None => Err(Error::Stopping),
            };
            return match job {
                Ok(job) => {
                    let next = if job.state.is_terminal() {
                        Step::Over
                    } else {
                        Step::Watch(watch)
                    };
                    let answer = v1::WatchJobResponse {
                        job: Some(convert::job(&job)),
                    };
                    (Ok(answer), next, (job.state, job.attempts))
                }
                Err(error) => (Err(error.into()), Step::Over, shown),
            };
        }
    }
}

enum Step {
    Watch(JobWatch),
    Over,
}

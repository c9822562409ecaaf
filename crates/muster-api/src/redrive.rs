//! Reviving a dead job.

use muster_core::{Command, Enqueued, JobSpec, JobState, Origin, Refusal, Reply};
use muster_proto::v1;

use crate::api::{Api, Caller, unexpected};
use crate::enqueue::count_accepted;
use crate::errors::Error;
use crate::mint::Mint;
use crate::{convert, validate};

/// How often the history is searched again before the client is told to repeat the call.
const SEARCHES_MAX: u32 = 3;

impl Api {
    pub(crate) async fn redrive_job(
        &self,
        caller: Caller,
        request: v1::RedriveJobRequest,
    ) -> Result<v1::RedriveJobResponse, Error> {
        let from = validate::job_id("id", &request.id)?;
        let given = match request.new_id.as_str() {
            "" => None,
            text => Some(validate::job_id("new_id", text)?),
        };
        let mut mint = Mint::new();
        let mut again = None;
        let mut new_id = given;
        for _ in 0..SEARCHES_MAX {
            self.linearize(caller.deadline).await?;
            let tenant = self.tenant_id(&caller.tenant, caller.deadline).await?;
            // Read before the history is searched: what ends later, the core knows itself.
            let applied = self.raft().read(|core| core.meta().applied);
            let dead = self.find(tenant, from, caller.deadline).await?;
            if dead.state != JobState::Dead {
                return Err(Error::JobNotDead {
                    job: from,
                    state: dead.state,
                });
            }
            let id = *new_id.get_or_insert_with(|| mint.job_id(self.raft().clock()));
            if given.is_some()
                && let Ok(first) = self.find(tenant, id, caller.deadline).await
            {
                return match first.redriven_from {
                    Some(origin) if origin == from => Ok(answer(&Enqueued {
                        job: id,
                        state: first.state,
                        existed: true,
                    })),
                    _ => Err(Refusal::Conflict {
                        first: id,
                        what: "new_id".into(),
                    }
                    .into()),
                };
            }
            let spec = JobSpec {
                id,
                available_at: 0,
                // The key stays with the first job: a repeat of its enqueue must not find the revived one.
                idempotency_key: None,
                seed: mint.seed(),
                origin: Origin::Redrive,
                history_searched: applied,
                ..JobSpec::clone(&dead.spec)
            };
            match self
                .propose(
                    Command::Redrive {
                        from,
                        spec: Box::new(spec),
                    },
                    caller.deadline,
                )
                .await
            {
                Ok(Reply::Enqueued(job)) => {
                    count_accepted(u64::from(!job.existed));
                    return Ok(answer(&job));
                }
                Ok(other) => return Err(unexpected(&other)),
                Err(error @ Error::Refused(Refusal::SearchHistoryAgain { .. })) => again = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(again.unwrap_or_else(|| Error::NotDone("the history moved while it was searched".to_owned())))
    }
}

fn answer(job: &Enqueued) -> v1::RedriveJobResponse {
    v1::RedriveJobResponse {
        job: Some(convert::enqueued(job)),
    }
}

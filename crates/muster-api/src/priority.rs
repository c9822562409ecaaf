//! Other priorities for live jobs, by id or by filter.

use muster_core::{Command, JobFilter, JobId, Priority, Reply, TenantId};
use muster_proto::v1;

use crate::api::{Api, Caller, unexpected};
use crate::errors::{Error, Violation};
use crate::limits::PRIORITIES_MAX;
use crate::list::optional_name;
use crate::reason::Reason;
use crate::validate;

/// Live jobs looked at under one lock of the state.
const LOOK_BUDGET: usize = 2_000;
/// Locks of the state for one call; it may end before a job was found, with a token to go on.
const LOOKS: usize = 50;

/// Which jobs are meant.
enum Which {
    Ids(Vec<JobId>),
    Filter(JobFilter, Option<JobId>),
}

impl Api {
    pub(crate) async fn set_priority(
        &self,
        caller: Caller,
        request: v1::SetPriorityRequest,
    ) -> Result<v1::SetPriorityResponse, Error> {
        if request.priority == 0 {
            return Err(validate::required("priority", "1 (critical) to 5 (bulk)").into());
        }
        let priority = validate::priority(request.priority)?;
        let which = which(&request)?;
        self.linearize(caller.deadline).await?;
        let tenant = self.tenant_id(&caller.tenant, caller.deadline).await?;
        let mut answer = v1::SetPriorityResponse::default();
        let set = |jobs| Command::SetPriority {
            tenant: caller.tenant.clone(),
            jobs,
            priority,
        };
        let reply = match which {
            Which::Ids(jobs) => {
                answer.not_live = self.raft().read(|core| {
                    let mine = |id: &JobId| core.job(*id).is_some_and(|row| row.tenant == tenant);
                    let gone = jobs.iter().filter(|id| !mine(id));
                    gone.map(ToString::to_string).collect()
                });
                // With those that have ended: a repeat of the request must be the same command.
                self.propose_once(caller.request, set(jobs), caller.deadline).await?
            }
            Which::Filter(filter, before) => {
                let (jobs, next) = self.with_other_priority(tenant, &filter, before, priority);
                answer.next_page_token = next.map(|id| id.to_string()).unwrap_or_default();
                if jobs.is_empty() {
                    return Ok(answer);
                }
                // Not under the id of the request: a repeat of it meets other jobs, since those of the first time are done.
                self.propose(set(jobs), caller.deadline).await?
            }
        };
        match reply {
            Reply::Prioritised { changed } => answer.changed = changed,
            other => return Err(unexpected(&other)),
        }
        Ok(answer)
    }

    /// Live jobs that the filter matches and that have another priority, from below `before`; and where to go on.
    fn with_other_priority(
        &self,
        tenant: TenantId,
        filter: &JobFilter,
        mut before: Option<JobId>,
        priority: Priority,
    ) -> (Vec<JobId>, Option<JobId>) {
        let mut jobs = Vec::new();
        for _ in 0..LOOKS {
            let left = PRIORITIES_MAX - jobs.len();
            let (rows, next) = self
                .raft()
                .read(|core| core.jobs(tenant, filter, before, left, LOOK_BUDGET));
            let others = rows.iter().filter(|row| row.spec.priority != priority);
            jobs.extend(others.map(|row| row.spec.id));
            before = next;
            if before.is_none() || jobs.len() >= PRIORITIES_MAX {
                break;
            }
        }
        (jobs, before)
    }
}

fn which(request: &v1::SetPriorityRequest) -> Result<Which, Error> {
    let Some(filter) = &request.filter else {
        if request.ids.is_empty() {
            return Err(validate::required("ids", "ids of jobs, or a filter").into());
        }
        validate::count("ids", request.ids.len(), PRIORITIES_MAX)?;
        if !request.page_token.is_empty() {
            let given = "given together with ids";
            return Err(Violation::new(Reason::FieldsExclusive, "page_token", given, "one of the two").into());
        }
        let ids = request.ids.iter().map(|id| validate::job_id("ids", id));
        return Ok(Which::Ids(ids.collect::<Result<_, _>>()?));
    };
    if !request.ids.is_empty() {
        let given = "given together with ids";
        return Err(Violation::new(Reason::FieldsExclusive, "filter", given, "one of the two").into());
    }
    let before = match request.page_token.as_str() {
        "" => None,
        text => Some(validate::job_id("page_token", text)?),
    };
    let filter = JobFilter {
        queue: optional_name("filter.queue", &filter.queue)?,
        kind: optional_name("filter.kind", &filter.kind)?,
        states: validate::states(&filter.states)?,
    };
    Ok(Which::Filter(filter, before))
}

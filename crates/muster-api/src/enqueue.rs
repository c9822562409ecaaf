//! Accepting jobs.

use muster_core::{Command, Enqueued, Name, Refusal, Reply, TenantId};
use muster_proto::v1;
use tokio::time::Instant;

use crate::api::{Api, unexpected};
use crate::convert;
use crate::errors::{Error, Violation};
use crate::history::{self, Wanted};
use crate::limits::{JOBS_BYTES_MAX, JOBS_MAX};
use crate::quota::{count_refused, refused_for_load};
use crate::reason::Reason;
use crate::validate::{self, Context};

/// How often the history is searched again for a call before its client is told to repeat it.
const SEARCHES_MAX: u32 = 3;

/// What became of one job of a call.
pub(crate) type Outcome = Result<Enqueued, Error>;

impl Api {
    pub(crate) async fn enqueue(
        &self,
        tenant: Name,
        deadline: Instant,
        request: v1::EnqueueRequest,
    ) -> Result<v1::EnqueueResponse, Error> {
        let Some(job) = request.job else {
            return Err(Violation::new(Reason::FieldRequired, "job", "absent", "a job").into());
        };
        let mut outcomes = self.accept(tenant, deadline, vec![job], false).await?;
        match outcomes.pop() {
            Some(Ok(job)) => Ok(v1::EnqueueResponse {
                job: Some(convert::enqueued(&job)),
            }),
            Some(Err(error)) => Err(error.within("job")),
            None => Err(Error::Internal("a job without an outcome".to_owned())),
        }
    }

    pub(crate) async fn enqueue_many(
        &self,
        tenant: Name,
        deadline: Instant,
        request: v1::EnqueueManyRequest,
    ) -> Result<v1::EnqueueManyResponse, Error> {
        check_size("jobs", &request.jobs)?;
        let outcomes = self
            .accept(tenant, deadline, request.jobs, request.all_or_nothing)
            .await?;
        Ok(v1::EnqueueManyResponse {
            results: outcomes.into_iter().map(result).collect(),
        })
    }

    /// Accepts the jobs of one call or frame in one proposal; an outcome for each, in order. A malformed job of an
    /// all-or-nothing call fails the whole call.
    pub(crate) async fn accept(
        &self,
        tenant: Name,
        deadline: Instant,
        jobs: Vec<v1::JobSpec>,
        all_or_nothing: bool,
    ) -> Result<Vec<Outcome>, Error> {
        let _room = self
            .job_bytes()
            .enter_with(jobs.iter().map(weight).sum())
            .inspect_err(|_| refused_for_load("arriving", jobs.len()))?;
        let view = self.tenant(&tenant, deadline).await?;
        // Read before the history is searched: what ends later, the core knows itself.
        let applied = self.raft().read(|core| core.meta().applied);
        let mut context = Context::new(tenant, view.settings.payload_bytes_max, self.raft().clock(), applied);
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(jobs.len());
        let mut wanted = Vec::with_capacity(jobs.len());
        let mut positions = Vec::with_capacity(jobs.len());
        for (position, job) in jobs.into_iter().enumerate() {
            let id_given = !job.id.is_empty();
            match validate::job_spec(job, &mut context) {
                Ok(spec) => {
                    outcomes.push(None);
                    positions.push(position);
                    wanted.push(Wanted { spec, id_given });
                }
                Err(violation) if all_or_nothing => return Err(violation.within(&format!("jobs[{position}]")).into()),
                Err(violation) => outcomes.push(Some(Err(violation.into()))),
            }
        }
        let pending = Pending {
            tenant: view.id,
            all_or_nothing,
            wanted,
            positions,
        };
        self.settle(pending, deadline, &mut outcomes).await?;
        let new = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Some(Ok(job)) if !job.existed));
        count_accepted(new.count() as u64);
        count_refused(&outcomes);
        outcomes
            .into_iter()
            .map(|outcome| outcome.ok_or_else(|| Error::Internal("a job without an outcome".to_owned())))
            .collect()
    }

    /// Searches, proposes, and does so again for jobs whose search was too old.
    async fn settle(
        &self,
        mut pending: Pending,
        deadline: Instant,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(), Error> {
        for _ in 0..SEARCHES_MAX {
            pending = self.search(pending, outcomes).await?;
            pending = self.refuse_without_room(pending, outcomes);
            if pending.wanted.is_empty() {
                return Ok(());
            }
            let jobs = pending.wanted.iter().map(|wanted| wanted.spec.clone()).collect();
            let command = Command::EnqueueMany {
                jobs,
                all_or_nothing: pending.all_or_nothing,
            };
            let replies = match self.propose(command, deadline).await? {
                Reply::EnqueuedMany(replies) if replies.len() == pending.wanted.len() => replies,
                other => return Err(unexpected(&other)),
            };
            pending = pending.keep_unsearched(replies, outcomes);
            if pending.wanted.is_empty() {
                return Ok(());
            }
            self.linearize(deadline).await?;
            let applied = self.raft().read(|core| core.meta().applied);
            for wanted in &mut pending.wanted {
                wanted.spec.history_searched = applied;
            }
        }
        for position in pending.positions {
            outcomes[position] = Some(Err(Error::NotDone(
                "the history moved while it was searched".to_owned(),
            )));
        }
        Ok(())
    }

    /// Answers the jobs that are found in the history; the others stay.
    async fn search(&self, pending: Pending, outcomes: &mut [Option<Outcome>]) -> Result<Pending, Error> {
        let now = self.raft().read(|core| core.meta().now);
        let (wanted, found) = history::search(self.history(), pending.tenant, now, pending.wanted).await?;
        // One conflict refuses all: nothing is proposed.
        let conflict = found.iter().position(|found| matches!(found, Some(Err(_))));
        let refuse_all = conflict.filter(|_| pending.all_or_nothing);
        let mut rest = Pending {
            wanted: Vec::with_capacity(wanted.len()),
            positions: Vec::new(),
            ..pending
        };
        for ((wanted, found), position) in wanted.into_iter().zip(found).zip(pending.positions) {
            match (found, refuse_all) {
                (Some(Err(error)), _) => outcomes[position] = Some(Err(error)),
                (_, Some(item)) => {
                    let refusal = Refusal::OtherItemRefused {
                        item: u32::try_from(item).unwrap_or(u32::MAX),
                    };
                    outcomes[position] = Some(Err(refusal.into()));
                }
                (Some(Ok(first)), None) => outcomes[position] = Some(Ok(first)),
                (None, None) => {
                    rest.wanted.push(wanted);
                    rest.positions.push(position);
                }
            }
        }
        Ok(rest)
    }
}

/// Jobs of a call that have no outcome yet, and their places in it.
pub(crate) struct Pending {
    pub(crate) tenant: TenantId,
    pub(crate) all_or_nothing: bool,
    pub(crate) wanted: Vec<Wanted>,
    positions: Vec<usize>,
}

impl Pending {
    /// Notes what stands against some of the jobs; the others stay, unless all or none are to be accepted.
    pub(crate) fn refuse(self, errors: Vec<Option<Error>>, outcomes: &mut [Option<Outcome>]) -> Self {
        let first = errors.iter().position(Option::is_some);
        let first = first.filter(|_| self.all_or_nothing).map(|at| self.positions[at]);
        let other = first.map(|position| {
            let item = u32::try_from(position).unwrap_or(u32::MAX);
            Error::Refused(Refusal::OtherItemRefused { item })
        });
        let mut rest = Self {
            wanted: Vec::with_capacity(self.wanted.len()),
            positions: Vec::new(),
            ..self
        };
        for ((wanted, error), position) in self.wanted.into_iter().zip(errors).zip(self.positions) {
            if let Some(error) = error.or_else(|| other.clone()) {
                outcomes[position] = Some(Err(error));
            } else {
                rest.wanted.push(wanted);
                rest.positions.push(position);
            }
        }
        rest
    }

    /// Notes the replies; what stays must be searched again.
    fn keep_unsearched(self, replies: Vec<Result<Enqueued, Refusal>>, outcomes: &mut [Option<Outcome>]) -> Self {
        let again = |reply: &Result<Enqueued, Refusal>| matches!(reply, Err(Refusal::SearchHistoryAgain { .. }));
        if self.all_or_nothing && replies.iter().any(again) {
            return self;
        }
        let mut rest = Self {
            wanted: Vec::new(),
            positions: Vec::new(),
            ..self
        };
        for ((wanted, reply), position) in self.wanted.into_iter().zip(replies).zip(self.positions) {
            if again(&reply) {
                rest.wanted.push(wanted);
                rest.positions.push(position);
            } else {
                outcomes[position] = Some(reply.map_err(Into::into));
            }
        }
        rest
    }
}

/// Counts jobs accepted on this node; repeats of a known id or key do not count.
pub(crate) fn count_accepted(jobs: u64) {
    metrics::counter!("muster_jobs_enqueued_total").increment(jobs);
}

/// The number and size of the jobs of one call or frame.
pub(crate) fn check_size(field: &str, jobs: &[v1::JobSpec]) -> Result<(), Violation> {
    if jobs.is_empty() {
        return Err(Violation::new(
            Reason::FieldRequired,
            field,
            "empty",
            format!("1 to {JOBS_MAX} jobs"),
        ));
    }
    if jobs.len() > JOBS_MAX {
        let given = format!("a list of {}", jobs.len());
        return Err(Violation::new(
            Reason::TooMany,
            field,
            given,
            format!("at most {JOBS_MAX} jobs"),
        ));
    }
    let bytes: usize = jobs
        .iter()
        .map(|job| job.payload.as_ref().map_or(0, |payload| payload.data.len()))
        .sum();
    if bytes > JOBS_BYTES_MAX {
        let given = format!("{bytes} bytes of payloads together");
        return Err(Violation::new(
            Reason::RequestTooLarge,
            field,
            given,
            format!("at most {JOBS_BYTES_MAX} bytes"),
        ));
    }
    Ok(())
}

/// What a job weighs on its way: its text and what is kept around it.
fn weight(job: &v1::JobSpec) -> usize {
    const BASE: usize = 512;
    let payload = job.payload.as_ref().map_or(0, |payload| payload.data.len());
    let metadata = job.metadata.iter().map(|(key, value)| key.len() + value.len());
    BASE + payload + metadata.sum::<usize>()
}

/// One job's result.
pub(crate) fn result(outcome: Outcome) -> v1::EnqueueResult {
    use v1::enqueue_result::Result as Of;
    let result = match outcome {
        Ok(job) => Of::Job(convert::enqueued(&job)),
        Err(error) => Of::Error(error.item()),
    };
    v1::EnqueueResult { result: Some(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(all_or_nothing: bool) -> Pending {
        let wanted = |_| {
            let mut context = Context::new("acme".into(), 1, 0, 0);
            let job = v1::JobSpec {
                kind: "mail".into(),
                ..Default::default()
            };
            Wanted {
                spec: validate::job_spec(job, &mut context).expect("valid"),
                id_given: false,
            }
        };
        Pending {
            tenant: TenantId(1),
            all_or_nothing,
            wanted: (0..3).map(wanted).collect(),
            // The first job of the call has its outcome already.
            positions: vec![1, 2, 3],
        }
    }

    #[test]
    fn one_refused_early_takes_the_others_along_only_if_none_is_to_be_left() {
        let refusals = || vec![None, Some(Error::Stopping), None];
        let mut outcomes = vec![None, None, None, None];
        let rest = pending(false).refuse(refusals(), &mut outcomes);
        assert_eq!((rest.wanted.len(), rest.positions), (2, vec![1, 3]));
        assert!(outcomes[2].is_some() && outcomes[1].is_none());
        let mut outcomes = vec![None, None, None, None];
        let rest = pending(true).refuse(refusals(), &mut outcomes);
        assert!(rest.wanted.is_empty());
        let Some(Err(Error::Refused(refusal))) = &outcomes[3] else {
            panic!("{:?}", outcomes[3])
        };
        assert_eq!(*refusal, Refusal::OtherItemRefused { item: 2 });
    }

    #[test]
    fn a_call_keeps_to_its_size() {
        let check = |number: usize, bytes: usize| {
            let payload = v1::Payload {
                data: vec![0; bytes].into(),
                ..Default::default()
            };
            let job = v1::JobSpec {
                payload: Some(payload),
                ..Default::default()
            };
            check_size("jobs", &vec![job; number]).map_err(|violation| violation.reason)
        };
        assert_eq!(check(0, 0), Err(Reason::FieldRequired));
        assert_eq!(check(10_000, 1), Ok(()));
        assert_eq!(check(10_001, 0), Err(Reason::TooMany));
        assert_eq!(check(2, 8 << 20), Ok(()));
        assert_eq!(check(3, 8 << 20), Err(Reason::RequestTooLarge));
    }
}

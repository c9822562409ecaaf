//! Calls about jobs.

use std::marker::PhantomData;
use std::time::Duration;

use futures::{Stream, StreamExt};
use muster_proto::v1;
use muster_proto::v1::job_service_client::JobServiceClient;
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;

use crate::call::stream_request;
use crate::client::Client;
use crate::error::{Attempt, Error, Result, local, settle};
use crate::id::JobId;
use crate::job::{Enqueue, Job, RawJob, decode_output};
use crate::producer::Entry;
use crate::stale::{Answer, Consistency};
use crate::states::JobState;
use crate::views::{JobInfo, JobPage};

/// Jobs of one all-or-nothing call at most.
const MANY_MAX: usize = 10_000;
/// A wait is a series of calls no longer than this, so that a silent node is noticed.
const WAIT_SLICE: Duration = Duration::from_secs(20);
const MESSAGE_MAX: usize = 64 << 20;

fn service(channel: Channel) -> JobServiceClient<Channel> {
    JobServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// A job was accepted: synced to disk on a majority of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// Its id; that of the first job when this was a repeat.
    pub id: JobId,
    /// Where it stood when accepted.
    pub state: JobState,
    /// It had been accepted before, under this id or idempotency key.
    pub existed: bool,
}

impl Enqueued {
    /// `minted` spares parsing the id in the usual case that the server kept it.
    pub(crate) fn from_proto(enqueued: &v1::Enqueued, minted: JobId) -> Self {
        let id = if enqueued.existed {
            enqueued.id.parse().unwrap_or(minted)
        } else {
            minted
        };
        Self {
            id,
            state: JobState::from_proto(enqueued.state),
            existed: enqueued.existed,
        }
    }
}

/// An accepted job of a known type.
pub struct JobHandle<J> {
    client: Client,
    enqueued: Enqueued,
    kind: PhantomData<fn() -> J>,
}

impl<J> Clone for JobHandle<J> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            enqueued: self.enqueued,
            kind: PhantomData,
        }
    }
}

impl<J> std::fmt::Debug for JobHandle<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.enqueued.fmt(f)
    }
}

impl<J: Job> JobHandle<J> {
    fn new(client: &Client, enqueued: Enqueued) -> Self {
        Self {
            client: client.clone(),
            enqueued,
            kind: PhantomData,
        }
    }

    /// Its id.
    pub fn id(&self) -> JobId {
        self.enqueued.id
    }

    /// True when it had been accepted before.
    pub fn existed(&self) -> bool {
        self.enqueued.existed
    }

    /// What the acceptance said.
    pub fn enqueued(&self) -> Enqueued {
        self.enqueued
    }

    /// The job as it stands.
    pub async fn get(&self) -> Result<JobInfo> {
        self.client.get(self.enqueued.id).await
    }

    /// Waits at most `timeout` for the handler's output. [`Error::JobEnded`] when the job ended otherwise,
    /// [`Error::StillLive`] when the time passed first.
    pub async fn wait(&self, timeout: Duration) -> Result<J::Output> {
        let job = self.client.wait(self.enqueued.id, timeout).await?;
        if job.state == JobState::Succeeded {
            return decode_output::<J>(&job.result);
        }
        Err(Error::JobEnded {
            id: job.id,
            state: job.state,
            failure: job.failure,
        })
    }

    /// See [`Client::cancel`].
    pub async fn cancel(&self) -> Result<JobState> {
        self.client.cancel(self.enqueued.id).await
    }
}

/// Which jobs to list. What is not set matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ListJobs {
    /// Of this queue.
    pub queue: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// In one of these states; empty: in any.
    pub states: Vec<JobState>,
    /// Jobs per page, 1–1,000; 0 means 100.
    pub page_size: u32,
    /// [`JobPage::next`] of the page before.
    pub page: Option<String>,
}

impl Client {
    /// Enqueues a job. `Ok`: it is synced to disk on a majority of nodes and will run.
    ///
    /// Concurrent calls share frames, so many tasks that each await one enqueue are fast. A call whose connection breaks
    /// is repeated with the same id until the deadline; [`Error::Unknown`] says that it may have been accepted.
    /// Dropping the future neither recalls the job nor hurts other callers.
    pub async fn enqueue<J: Job>(&self, job: J) -> Result<JobHandle<J>> {
        self.enqueue_with(job, Enqueue::new()).await
    }

    /// Enqueues a job with options.
    pub async fn enqueue_with<J: Job>(&self, job: J, options: Enqueue) -> Result<JobHandle<J>> {
        let deadline = self.deadline_of(options.call_deadline());
        let (id, spec) = options.typed(&job)?;
        drop(job);
        let enqueued = self.producer().enqueue(Entry::new(id, spec), deadline).await?;
        Ok(JobHandle::new(self, enqueued))
    }

    /// Enqueues a job without a Rust type.
    pub async fn enqueue_raw(&self, job: RawJob, options: Enqueue) -> Result<Enqueued> {
        let deadline = self.deadline_of(options.call_deadline());
        let (id, spec) = options.raw(job);
        self.producer().enqueue(Entry::new(id, spec), deadline).await
    }

    /// Enqueues many jobs, each with its own result, in the order given. They share frames with other callers.
    pub async fn enqueue_many<J: Job>(&self, jobs: impl IntoIterator<Item = J>) -> Result<Vec<Result<JobHandle<J>>>> {
        let mut entries = Vec::new();
        for job in jobs {
            let (id, spec) = Enqueue::new().typed(&job)?;
            entries.push(Entry::new(id, spec));
        }
        let results = self.producer().enqueue_many(entries, self.deadline_of(None)).await;
        Ok(results
            .into_iter()
            .map(|result| result.map(|enqueued| JobHandle::new(self, enqueued)))
            .collect())
    }

    /// As [`Self::enqueue_many`], for jobs without a Rust type.
    pub async fn enqueue_many_raw(&self, jobs: impl IntoIterator<Item = (RawJob, Enqueue)>) -> Vec<Result<Enqueued>> {
        let entries = jobs
            .into_iter()
            .map(|(job, options)| {
                let (id, spec) = options.raw(job);
                Entry::new(id, spec)
            })
            .collect();
        self.producer().enqueue_many(entries, self.deadline_of(None)).await
    }

    /// Enqueues all of these jobs or none, in one log entry: 1–10,000 jobs, at most 16 MiB.
    pub async fn enqueue_all(&self, jobs: impl IntoIterator<Item = (RawJob, Enqueue)>) -> Result<Vec<Enqueued>> {
        let (ids, specs): (Vec<_>, Vec<_>) = jobs.into_iter().map(|(job, options)| options.raw(job)).unzip();
        if specs.is_empty() || specs.len() > MANY_MAX {
            return Err(Error::Invalid {
                field: "jobs",
                message: format!("{} given, allowed are 1 to {MANY_MAX}", specs.len()),
            });
        }
        let request = v1::EnqueueManyRequest {
            jobs: specs,
            all_or_nothing: true,
        };
        let response = self
            .call(|channel, envelope| {
                let request = envelope.wrap(request.clone());
                async move { service(channel).enqueue_many(request).await }
            })
            .await?;
        let mut accepted = Vec::with_capacity(ids.len());
        let mut refused = None;
        for (result, id) in response.results.into_iter().zip(&ids) {
            match result.result {
                Some(v1::enqueue_result::Result::Job(enqueued)) => accepted.push(Enqueued::from_proto(&enqueued, *id)),
                // Of a refused call, one item names the cause and the others only point at it.
                Some(v1::enqueue_result::Result::Error(error))
                    if refused.is_none() || error.reason != "OTHER_ITEM_REFUSED" =>
                {
                    refused = Some(Attempt::from_item(error));
                }
                _ => {}
            }
        }
        match refused {
            Some(Attempt::Refused(reason) | Attempt::Retry(reason)) => Err(settle(reason, false)),
            Some(Attempt::Unanswered(reason)) => Err(settle(reason, true)),
            None if accepted.len() == ids.len() => Ok(accepted),
            None => Err(settle(
                local(Code::Internal, "BAD_ANSWER", "fewer results than jobs"),
                true,
            )),
        }
    }

    /// A job, live or from history.
    pub async fn get(&self, id: JobId) -> Result<JobInfo> {
        Ok(self.read_job(id, Consistency::Linearizable).await?.0)
    }

    pub(crate) async fn read_job(&self, id: JobId, consistency: Consistency) -> Result<Answer<JobInfo>> {
        let message = v1::GetJobRequest {
            id: id.to_string(),
            consistency: consistency.to_proto(),
        };
        let response = self
            .read(consistency, |channel, envelope| {
                let request = envelope.wrap(message.clone());
                async move { service(channel).get_job(request).await }
            })
            .await?;
        Ok((found(response.job)?, response.freshness))
    }

    /// A page of the tenant's jobs, without payloads: live ones first, then ended ones, newest first within each.
    pub async fn list(&self, filter: &ListJobs) -> Result<JobPage> {
        Ok(self.read_jobs(filter, Consistency::Linearizable).await?.0)
    }

    pub(crate) async fn read_jobs(&self, filter: &ListJobs, consistency: Consistency) -> Result<Answer<JobPage>> {
        let request = v1::ListJobsRequest {
            queue: filter.queue.clone().unwrap_or_default(),
            kind: filter.kind.clone().unwrap_or_default(),
            states: filter.states.iter().map(|state| state.to_proto()).collect(),
            page_size: filter.page_size,
            page_token: filter.page.clone().unwrap_or_default(),
            consistency: consistency.to_proto(),
        };
        let response = self
            .read(consistency, |channel, envelope| {
                let request = envelope.wrap(request.clone());
                async move { service(channel).list_jobs(request).await }
            })
            .await?;
        let page = JobPage {
            jobs: response.jobs.into_iter().map(JobInfo::from).collect(),
            next: (!response.next_page_token.is_empty()).then_some(response.next_page_token),
        };
        Ok((page, response.freshness))
    }

    /// Waits until the job has ended, at most `timeout`: then [`Error::StillLive`].
    pub async fn wait(&self, id: JobId, timeout: Duration) -> Result<JobInfo> {
        let until = Instant::now() + timeout;
        loop {
            let slice = WAIT_SLICE
                .min(until.saturating_duration_since(Instant::now()))
                .max(Duration::from_millis(50));
            let response = self
                .call_until(
                    self.deadline_of(None)
                        .max(Instant::now() + slice + Duration::from_secs(1)),
                    slice,
                    |channel, envelope| {
                        let request = envelope.wrap(v1::WaitJobRequest { id: id.to_string() });
                        async move { service(channel).wait_job(request).await }
                    },
                )
                .await;
            let job = match response {
                Ok(response) => found(response.job)?,
                Err(error) if error.is_unknown() && Instant::now() < until => continue,
                Err(error) => return Err(error),
            };
            if job.state.is_terminal() {
                return Ok(job);
            }
            if Instant::now() >= until {
                return Err(Error::StillLive {
                    id: job.id,
                    state: job.state,
                });
            }
        }
    }

    /// The job now, then as it stands after each change until it ends. Changes that follow each other fast, or while a
    /// broken connection is replaced by one to another node, are told as one; the end always is.
    pub fn watch(&self, id: JobId) -> impl Stream<Item = Result<JobInfo>> + Send + 'static {
        let client = self.clone();
        let state = Watch {
            client,
            id,
            stream: None,
            seen: 0,
            ended: false,
        };
        futures::stream::unfold(state, |mut watch| async move {
            watch.next().await.map(|item| (item, watch))
        })
        .fuse()
    }

    /// Cancels a job: one that waits ends at once; the worker of one that runs is told ([`JobState::Running`] is
    /// returned; [`Self::wait`] for its end).
    pub async fn cancel(&self, id: JobId) -> Result<JobState> {
        let response = self
            .call(|channel, envelope| {
                let request = envelope.wrap(v1::CancelJobRequest { id: id.to_string() });
                async move { service(channel).cancel_job(request).await }
            })
            .await?;
        Ok(JobState::from_proto(response.state))
    }

    /// Makes a new job out of a dead one, with fresh budgets.
    pub async fn redrive(&self, id: JobId) -> Result<Enqueued> {
        self.redrive_as(id, JobId::new()).await
    }

    /// As [`Self::redrive`], with the new job's id given: a repeat is recognised.
    pub async fn redrive_as(&self, id: JobId, new_id: JobId) -> Result<Enqueued> {
        let response = self
            .call(|channel, envelope| {
                let request = v1::RedriveJobRequest {
                    id: id.to_string(),
                    new_id: new_id.to_string(),
                };
                let request = envelope.wrap(request);
                async move { service(channel).redrive_job(request).await }
            })
            .await?;
        Ok(Enqueued::from_proto(&response.job.unwrap_or_default(), new_id))
    }
}

pub(crate) fn found(job: Option<v1::Job>) -> Result<JobInfo> {
    job.map(JobInfo::from)
        .ok_or_else(|| settle(local(Code::Internal, "BAD_ANSWER", "the answer has no job"), false))
}

struct Watch {
    client: Client,
    id: JobId,
    stream: Option<tonic::Streaming<v1::WatchJobResponse>>,
    seen: u64,
    ended: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Result<JobInfo>> {
        if self.ended {
            return None;
        }
        loop {
            let Some(stream) = &mut self.stream else {
                let id = self.id.to_string();
                let tenant = self.client.tenant_value().clone();
                let opened = self.client.call(|channel, _| {
                    // Without a time limit: a job may take days.
                    let request = stream_request(v1::WatchJobRequest { id: id.clone() }, &tenant);
                    async move { service(channel).watch_job(request).await }
                });
                match opened.await {
                    Ok(stream) => self.stream = Some(stream),
                    Err(error) => {
                        self.ended = true;
                        return Some(Err(error));
                    }
                }
                continue;
            };
            match stream.message().await {
                Ok(Some(response)) => {
                    let Ok(job) = found(response.job) else { continue };
                    self.ended = job.state.is_terminal();
                    // After a change of node the state already told comes again.
                    if job.changed_index > self.seen || self.ended {
                        self.seen = job.changed_index;
                        return Some(Ok(job));
                    }
                }
                Ok(None) => self.reopen().await,
                Err(status) => match Attempt::from_status(&status) {
                    Attempt::Refused(reason) => {
                        self.ended = true;
                        return Some(Err(settle(reason, false)));
                    }
                    Attempt::Retry(_) | Attempt::Unanswered(_) => self.reopen().await,
                },
            }
        }
    }

    /// A pause keeps a node that ends every stream at once from being asked without end.
    async fn reopen(&mut self) {
        self.stream = None;
        tokio::time::sleep(crate::members::jittered(Duration::from_millis(100))).await;
    }
}

//! The fast way in: frames of jobs, many under way at once.

use futures::StreamExt;
use muster_core::Name;
use muster_proto::v1;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::api::{Answers, Api};
use crate::enqueue::{check_size, result};
use crate::errors::Error;
use crate::limits::STREAM_FRAMES_MAX;
use crate::tenant;

impl Api {
    /// Answers frames as their entries are applied, not in order. The stream is read no further while
    /// [`STREAM_FRAMES_MAX`] frames are under way. All of it runs in the task that sends the answers: a frame costs no
    /// task, a job no future.
    pub(crate) fn enqueue_stream(
        &self,
        request: Request<Streaming<v1::EnqueueStreamRequest>>,
    ) -> Result<Response<Answers<v1::EnqueueStreamResponse>>, Status> {
        let permit = self.streams().enter()?;
        let tenant = tenant::of_call(request.metadata())?;
        let api = self.clone();
        let stopping = self.stopping().clone();
        let answers = request
            .into_inner()
            // What is under way when the node stops is still answered.
            .take_until(stopping.clone().cancelled_owned())
            .map(move |frame| {
                let (api, tenant) = (api.clone(), tenant.clone());
                async move { api.answer(tenant, frame?).await }
            })
            .buffer_unordered(STREAM_FRAMES_MAX)
            .map(Some)
            .chain(futures::stream::once(async move {
                stopping.is_cancelled().then(|| Err(Error::Stopping.into()))
            }))
            .filter_map(move |answer| {
                // Held until the stream is dropped.
                let _ = &permit;
                futures::future::ready(answer)
            });
        Ok(Response::new(end_after_error(answers)))
    }

    async fn answer(&self, tenant: Name, frame: v1::EnqueueStreamRequest) -> Result<v1::EnqueueStreamResponse, Status> {
        check_size("jobs", &frame.jobs).map_err(Error::from)?;
        let started = Instant::now();
        let number = frame.jobs.len();
        let results = match self
            .accept(tenant, started + self.call_timeout(), frame.jobs, false)
            .await
        {
            Ok(outcomes) => outcomes.into_iter().map(result).collect(),
            // Whatever befell the frame befell each of its jobs.
            Err(error) => vec![result(Err(error)); number],
        };
        metrics::histogram!("muster_api_call_seconds", "call" => "enqueue_frame")
            .record(started.elapsed().as_secs_f64());
        Ok(v1::EnqueueStreamResponse {
            sequence: frame.sequence,
            results,
            leader: self.other_leader(),
        })
    }

    /// Public address of the leader when it is another node.
    fn other_leader(&self) -> String {
        let raft = self.raft();
        match raft.leader() {
            Some(leader) if leader.id != raft.node() => leader.api,
            _ => String::new(),
        }
    }
}

/// Passes on up to the first error and no further.
fn end_after_error<T: Send + 'static>(answers: impl Stream<Item = Result<T, Status>> + Send + 'static) -> Answers<T> {
    Box::pin(answers.scan(false, |failed, answer| {
        let ended = *failed;
        *failed = answer.is_err();
        futures::future::ready((!ended).then_some(answer))
    }))
}

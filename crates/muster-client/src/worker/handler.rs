//! Handlers of any type behind one signature.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use muster_proto::v1;

use super::context::Context;
use super::failure::JobError;
use crate::job::{Job, encode_output};

/// Results are kept with the job in the cluster.
const RESULT_BYTES_MAX: usize = 64 << 10;

/// What a raw handler gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawPayload {
    /// The bytes as enqueued.
    pub data: Bytes,
    /// Media type; may be empty.
    pub content_type: String,
}

type Run = Arc<dyn Fn(RawPayload, Context) -> BoxFuture<'static, Result<Bytes, JobError>> + Send + Sync>;

/// A handler and what it accepts.
#[derive(Clone)]
pub(super) struct Registered {
    pub kind: v1::WorkerKind,
    /// Cannot be dropped midway: it runs on a thread.
    pub blocking: bool,
    run: Run,
}

impl Registered {
    /// Schema versions up to the type's own are accepted, since fields that were added can have serde defaults.
    fn of<J: Job>(blocking: bool, run: Run) -> Self {
        let kind = v1::WorkerKind {
            kind: J::KIND.to_owned(),
            min_version: 1,
            max_version: J::VERSION,
        };
        Self { kind, blocking, run }
    }

    pub(super) fn typed<J, F, Fut>(handler: F) -> Self
    where
        J: Job,
        F: Fn(J, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<J::Output, JobError>> + Send + 'static,
    {
        Self::of::<J>(
            false,
            Arc::new(move |payload, context| {
                match decode::<J>(&payload) {
                    // The closure's own code runs here, inside the attempt's task, whose panics are caught.
                    Ok(job) => handler(job, context).map(|output| encode(&output?)).boxed(),
                    Err(error) => futures::future::ready(Err(error)).boxed(),
                }
            }),
        )
    }

    pub(super) fn blocking<J, F>(handler: F) -> Self
    where
        J: Job,
        F: Fn(J, Context) -> Result<J::Output, JobError> + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        Self::of::<J>(
            true,
            Arc::new(move |payload, context| {
                let handler = Arc::clone(&handler);
                let span = tracing::Span::current();
                async move {
                    let job = decode::<J>(&payload)?;
                    let run = move || span.in_scope(|| encode(&handler(job, context)?));
                    match tokio::task::spawn_blocking(run).await {
                        Ok(result) => result,
                        Err(error) => match error.try_into_panic() {
                            Ok(panic) => std::panic::resume_unwind(panic),
                            Err(_) => Err(JobError::retry("the runtime is shutting down")),
                        },
                    }
                }
                .boxed()
            }),
        )
    }

    pub(super) fn raw<F, Fut>(kind: v1::WorkerKind, handler: F) -> Self
    where
        F: Fn(RawPayload, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, JobError>> + Send + 'static,
    {
        let run: Run =
            Arc::new(move |payload, context| handler(payload, context).map(|result| check_size(result?)).boxed());
        Self {
            kind,
            blocking: false,
            run,
        }
    }

    pub(super) fn run(&self, payload: RawPayload, context: Context) -> BoxFuture<'static, Result<Bytes, JobError>> {
        (self.run)(payload, context)
    }
}

fn decode<J: Job>(payload: &RawPayload) -> Result<J, JobError> {
    // Not permanent: a worker of another build may well understand it.
    serde_json::from_slice(&payload.data)
        .map_err(|error| JobError::retry(format!("the payload is not a {}: {error}", J::KIND)).with_class("Decode"))
}

fn encode<T: serde::Serialize>(output: &T) -> Result<Bytes, JobError> {
    let result = encode_output(output)
        .map_err(|error| JobError::permanent(format!("the output cannot be encoded: {error}")).with_class("Encode"))?;
    check_size(result)
}

fn check_size(result: Bytes) -> Result<Bytes, JobError> {
    if result.len() > RESULT_BYTES_MAX {
        let message = format!("the result has {} bytes, allowed are {RESULT_BYTES_MAX}", result.len());
        return Err(JobError::permanent(message).with_class("ResultTooLarge"));
    }
    Ok(result)
}

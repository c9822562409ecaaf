//! How a handler says that a job did not succeed.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::attempt_report::Outcome;

use crate::views::duration;

/// Bounds of the protocol; longer texts are cut.
const CLASS_MAX: usize = 128;
const MESSAGE_MAX: usize = 4 << 10;

/// Why an attempt did not succeed, and what is to become of the job.
///
/// Any [`std::error::Error`] converts into a retryable one, so `?` works in handlers.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct JobError {
    fate: Fate,
    class: String,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Retry(Option<Duration>),
    Permanent,
    Snooze(Duration),
    Throttled(String, Duration),
    Cancelled,
}

impl JobError {
    fn new(fate: Fate, class: &str, message: impl Into<String>) -> Self {
        Self {
            fate,
            class: class.to_owned(),
            message: message.into(),
        }
    }

    /// Failed; tried again after the job's backoff until its attempts are used up.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(Fate::Retry(None), "Retry", message)
    }

    /// Failed; tried again after this long.
    pub fn retry_after(after: Duration, message: impl Into<String>) -> Self {
        Self::new(Fate::Retry(Some(after)), "Retry", message)
    }

    /// Failed for good: the job is dead at once.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(Fate::Permanent, "Permanent", message)
    }

    /// Not now: the job is available again after `delay`, the attempt does not count.
    pub fn snooze(delay: Duration) -> Self {
        Self::new(Fate::Snooze(delay), "Snooze", "")
    }

    /// A service behind the handler throttles (an HTTP 429): no job with this limit key starts for `retry_after`, and the
    /// attempt does not count. With a key that the job does not carry, the job alone waits.
    pub fn throttled(key: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(Fate::Throttled(key.into(), retry_after), "Throttled", "")
    }

    /// Stopped because a cancel was asked for ([`crate::Context::cancelled`]).
    pub fn cancelled() -> Self {
        Self::new(Fate::Cancelled, "Cancelled", "")
    }

    /// Names the kind of failure, by which dead jobs are grouped. At most 128 bytes.
    pub fn with_class(mut self, class: impl Into<String>) -> Self {
        self.class = class.into();
        self
    }

    /// The kind of failure.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// For people.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn panicked(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "the handler panicked".to_owned());
        Self::new(Fate::Retry(None), "Panic", text)
    }

    pub(super) fn into_outcome(self) -> Outcome {
        let (not_retryable, retry_after) = match self.fate {
            Fate::Snooze(delay) => return Outcome::Snoozed(v1::Snoozed { delay: duration(delay) }),
            Fate::Throttled(key, retry_after) => {
                let retry_after = duration(retry_after);
                return Outcome::Throttled(v1::Throttled { key, retry_after });
            }
            Fate::Cancelled => return Outcome::Cancelled(v1::AttemptCancelled {}),
            Fate::Permanent => (true, None),
            Fate::Retry(after) => (false, after.and_then(duration)),
        };
        let error = v1::JobError {
            class: cut(self.class, CLASS_MAX),
            message: cut(self.message, MESSAGE_MAX),
        };
        Outcome::Failed(v1::Failed {
            error: Some(error),
            not_retryable,
            retry_after,
        })
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobError")
            .field("fate", &self.fate)
            .field("class", &self.class)
            .field("message", &self.message)
            .finish()
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

// `JobError` is not an `Error` itself, or this would collide with `From<T> for T`.
impl<E: Error + Send + Sync + 'static> From<E> for JobError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        let name = std::any::type_name::<E>();
        Self::new(Fate::Retry(None), name.rsplit("::").next().unwrap_or(name), message)
    }
}

fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_convert_with_their_type_and_causes() {
        let error = JobError::from(std::io::Error::other("disk full"));
        assert_eq!((error.class(), error.message()), ("Error", "disk full"));
        assert!(matches!(error.into_outcome(), Outcome::Failed(failed) if !failed.not_retryable));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let error = JobError::permanent("ä".repeat(4_000)).with_class("x".repeat(200));
        let Outcome::Failed(failed) = error.into_outcome() else {
            panic!("not a failure")
        };
        let error = failed.error.unwrap();
        assert_eq!((error.class.len(), error.message.len()), (128, 4096));
        assert!(failed.not_retryable);
    }
}

//! What can go wrong, sorted by what it says about the effect.

use std::fmt;
use std::time::Duration;

use muster_proto::v1;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::states::JobState;
use crate::views::JobFailure;

/// The `domain` of Muster's `google.rpc.ErrorInfo`: only the servers of the cluster write it.
const DOMAIN: &str = "muster";

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not end well.
///
/// A call ends in one of three ways. `Ok` is *done*: synced to disk on a majority of nodes. [`Error::NotDone`]
/// is *not done*: the call certainly had and will have no effect. [`Error::Unknown`] is *unknown*: it may have had its
/// effect, or may yet; repeat it with the same id to find out. The other variants never reached the cluster, or speak
/// about a job and not about the call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cluster refused, or nothing was ever sent. No effect.
    #[error("not done: {0}")]
    NotDone(Box<Reason>),
    /// Sent, and no answer before the deadline. Repeating with the same id is safe: if the first took effect, the
    /// repeat is answered with `existed`.
    #[error("outcome unknown: {0}")]
    Unknown(Box<Reason>),
    /// An argument is wrong; found before anything was sent. No effect.
    #[error("{field}: {message}")]
    Invalid {
        /// The argument.
        field: &'static str,
        /// What is wrong with it, and what is allowed.
        message: String,
    },
    /// The job could not be turned into its payload. No effect.
    #[error("encoding a job of kind {kind:?}: {source}")]
    Encode {
        /// Its kind.
        kind: &'static str,
        /// Cause.
        source: serde_json::Error,
    },
    /// A job's result is not what its type says.
    #[error("decoding the result of a job of kind {kind:?}: {source}")]
    Decode {
        /// Its kind.
        kind: &'static str,
        /// Cause.
        source: serde_json::Error,
    },
    /// The job waited for ended otherwise than by success.
    #[error("job {id} ended as {state}{}", failure.as_ref().map(|f| format!(": {f}")).unwrap_or_default())]
    JobEnded {
        /// The job.
        id: String,
        /// Its end: dead, cancelled or expired.
        state: JobState,
        /// Its last failure, when it had one.
        failure: Option<JobFailure>,
    },
    /// The job waited for was still live when the time given had passed.
    #[error("job {id} is still {state}")]
    StillLive {
        /// The job.
        id: String,
        /// Where it stands.
        state: JobState,
    },
}

/// The facts behind [`Error::NotDone`] and [`Error::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reason {
    /// gRPC status code.
    pub code: Code,
    /// Stable identifier in UPPER_SNAKE_CASE. From the cluster (`ErrorInfo.reason`), or one of the client's own:
    /// `NO_NODE_REACHABLE`, `CONNECTION_BROKEN`, `NO_ANSWER`, `CLIENT_STOPPED`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Path of the offending field, when one is.
    pub field: Option<String>,
    /// When a retry may help.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if let Some(field) = &self.field {
            write!(f, " at {field}")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(after) = self.retry_after {
            write!(f, " (retry after {after:?})")?;
        }
        Ok(())
    }
}

impl Error {
    /// The facts, when the error came from a call.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::NotDone(reason) | Self::Unknown(reason) => Some(reason),
            _ => None,
        }
    }

    /// Status code, when the error came from a call.
    pub fn code(&self) -> Option<Code> {
        self.reason().map(|reason| reason.code)
    }

    /// True when the call may have had its effect.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// True when what the call named does not exist for this tenant.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(Code::NotFound)
    }
}

/// What one attempt of a call came to, and what to do about it.
#[derive(Clone, Debug)]
pub(crate) enum Attempt {
    /// Refused for good: another attempt would be refused again.
    Refused(Reason),
    /// Certainly without effect, may work elsewhere or later.
    Retry(Reason),
    /// Without answer, may have had its effect.
    Unanswered(Reason),
}

impl Attempt {
    pub(crate) fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let from_cluster = details.error_info().is_some_and(|info| info.domain == DOMAIN);
        let violation = details.bad_request().and_then(|bad| bad.field_violations.first());
        let reason = Reason {
            code: status.code(),
            reason: details
                .error_info()
                .map_or_else(|| code_name(status.code()).to_owned(), |info| info.reason.clone()),
            message: status.message().to_owned(),
            field: violation.map(|violation| violation.field.clone()),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        };
        // tonic turns a broken connection into UNAVAILABLE, UNKNOWN, CANCELLED or INTERNAL without details; only the
        // cluster's own word says that nothing happened.
        Self::sort(reason, from_cluster)
    }

    pub(crate) fn from_item(error: v1::ItemError) -> Self {
        let code = Code::from(error.code);
        let reason = Reason {
            code,
            reason: if error.reason.is_empty() {
                code_name(code).to_owned()
            } else {
                error.reason
            },
            message: error.message,
            field: (!error.field.is_empty()).then_some(error.field),
            retry_after: error.retry_after.and_then(|after| after.try_into().ok()),
        };
        Self::sort(reason, true)
    }

    fn sort(reason: Reason, from_cluster: bool) -> Self {
        match reason.code {
            Code::DeadlineExceeded => Self::Unanswered(reason),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal | Code::Aborted if !from_cluster => {
                Self::Unanswered(Reason {
                    reason: "CONNECTION_BROKEN".to_owned(),
                    ..reason
                })
            }
            Code::Unavailable | Code::Aborted => Self::Retry(reason),
            Code::ResourceExhausted if reason.retry_after.is_some() => Self::Retry(reason),
            _ => Self::Refused(reason),
        }
    }

    pub(crate) fn no_answer(after: Duration, address: &str) -> Self {
        Self::Unanswered(local(
            Code::DeadlineExceeded,
            "NO_ANSWER",
            format!("{address} did not answer within {after:?}"),
        ))
    }
}

/// A reason of the client's own.
pub(crate) fn local(code: Code, reason: &str, message: impl Into<String>) -> Reason {
    Reason {
        code,
        reason: reason.to_owned(),
        message: message.into(),
        field: None,
        retry_after: None,
    }
}

/// The final error of a call whose last word is `reason`. Once an attempt went unanswered only a refusal that depends
/// on nothing but the request proves that none took effect.
pub(crate) fn settle(reason: Reason, maybe_done: bool) -> Error {
    let depends_on_request_alone = matches!(reason.code, Code::InvalidArgument | Code::Unimplemented);
    if maybe_done && !depends_on_request_alone {
        Error::Unknown(Box::new(reason))
    } else {
        Error::NotDone(Box::new(reason))
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn check(status: Status, expected: &str) {
        let name = match Attempt::from_status(&status) {
            Attempt::Refused(_) => "refused",
            Attempt::Retry(_) => "retry",
            Attempt::Unanswered(_) => "unanswered",
        };
        assert_eq!(name, expected, "{status:?}");
    }

    fn of_cluster(code: Code, after: Option<Duration>) -> Status {
        let mut details = ErrorDetails::with_error_info("WHY", DOMAIN, std::collections::HashMap::new());
        if after.is_some() {
            details.set_retry_info(after);
        }
        Status::with_error_details(code, "text", details)
    }

    #[test]
    fn only_the_clusters_own_word_proves_that_nothing_happened() {
        check(Status::unavailable("tcp reset"), "unanswered");
        check(Status::unknown("h2"), "unanswered");
        check(Status::internal("h2"), "unanswered");
        check(Status::deadline_exceeded(""), "unanswered");
        check(of_cluster(Code::Unavailable, None), "retry");
        check(of_cluster(Code::DeadlineExceeded, None), "unanswered");
        check(
            of_cluster(Code::ResourceExhausted, Some(Duration::from_millis(5))),
            "retry",
        );
        check(of_cluster(Code::ResourceExhausted, None), "refused");
        check(Status::invalid_argument(""), "refused");
        check(of_cluster(Code::NotFound, None), "refused");
    }

    #[test]
    fn an_unanswered_attempt_makes_later_refusals_unknown() {
        assert!(settle(local(Code::ResourceExhausted, "R", ""), true).is_unknown());
        assert!(!settle(local(Code::ResourceExhausted, "R", ""), false).is_unknown());
        assert!(!settle(local(Code::InvalidArgument, "R", ""), true).is_unknown());
    }

    #[test]
    fn details_are_read() {
        let Attempt::Retry(reason) = Attempt::from_status(&of_cluster(Code::Unavailable, Some(Duration::from_secs(1))))
        else {
            panic!("not a retry");
        };
        assert_eq!(
            (reason.reason.as_str(), reason.retry_after),
            ("WHY", Some(Duration::from_secs(1)))
        );
    }
}

//! What went wrong, to what, and what to do next.

use muster_client::{Code, Error};
use serde_json::{Value, json};

use crate::args::Format;
use crate::exit;

/// A command that did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What was being done, to what: `enqueue a job of kind "mail"`.
    action: String,
    cause: Cause,
    /// What to do next, when the cause alone does not say it.
    hint: Option<String>,
}

#[derive(Debug)]
enum Cause {
    Call(Box<Error>),
    /// An argument or a local file is wrong; nothing was sent.
    Usage(String),
    /// Work on this machine was not done.
    Local {
        message: String,
        exit_code: u8,
    },
    /// It was begun, and came to nothing.
    Undone(String),
}

impl Failure {
    pub(crate) fn new(action: impl Into<String>, error: Error) -> Self {
        Self {
            action: action.into(),
            cause: Cause::Call(Box::new(error)),
            hint: None,
        }
    }

    pub(crate) fn usage(action: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            cause: Cause::Usage(message.into()),
            hint: None,
        }
    }

    /// Work on data directories or backups that was not done; nothing has changed.
    pub(crate) fn local(action: impl Into<String>, message: impl Into<String>, exit_code: u8) -> Self {
        Self {
            action: action.into(),
            cause: Cause::Local {
                message: message.into(),
                exit_code,
            },
            hint: None,
        }
    }

    /// A change that was begun and came to nothing.
    pub(crate) fn undone(action: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            cause: Cause::Undone(message.into()),
            hint: None,
        }
    }

    /// What to do if the outcome is unknown.
    pub(crate) fn if_unknown(mut self, hint: impl Into<String>) -> Self {
        if self.call().is_some_and(Error::is_unknown) {
            self.hint = Some(hint.into());
        }
        self
    }

    /// The client's error, unless nothing was sent.
    fn call(&self) -> Option<&Error> {
        match &self.cause {
            Cause::Call(error) => Some(error),
            Cause::Usage(_) | Cause::Local { .. } | Cause::Undone(_) => None,
        }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        if let Cause::Local { exit_code, .. } = self.cause {
            return exit_code;
        }
        match self.call() {
            None if matches!(self.cause, Cause::Undone(_)) => exit::FAILED,
            None | Some(Error::Invalid { .. } | Error::Encode { .. }) => exit::USAGE,
            Some(Error::Unknown(_)) => exit::UNKNOWN,
            Some(Error::JobEnded { .. }) => exit::NOT_SUCCEEDED,
            Some(Error::NotDone(reason)) => match reason.code {
                Code::NotFound => exit::NOT_FOUND,
                Code::Unavailable => exit::UNAVAILABLE,
                Code::InvalidArgument => exit::USAGE,
                _ => exit::FAILED,
            },
            Some(_) => exit::FAILED,
        }
    }

    fn outcome(&self) -> &'static str {
        if self.call().is_some_and(Error::is_unknown) {
            "unknown"
        } else {
            "not_done"
        }
    }

    fn message(&self) -> String {
        match &self.cause {
            Cause::Call(error) => match &**error {
                Error::NotDone(reason) => reason.to_string(),
                error => error.to_string(),
            },
            Cause::Usage(message) | Cause::Local { message, .. } | Cause::Undone(message) => message.clone(),
        }
    }

    fn hint(&self) -> Option<&str> {
        if let Some(hint) = &self.hint {
            return Some(hint);
        }
        let error = self.call()?;
        if let Error::StillLive { .. } = error {
            return Some("wait longer with --timeout");
        }
        if error.is_unknown() {
            return Some("it may have been done: look before you repeat it");
        }
        if error.reason().is_some_and(|reason| reason.reason == "QUOTA_EXCEEDED") {
            return Some(
                "see muster tenant show; more fits when jobs have ended, or with a larger quota (muster tenant set)",
            );
        }
        if error.reason().is_some_and(|reason| reason.reason == "MEMORY_FULL") {
            return Some("see muster cluster status and muster tenant list; more fits when jobs have ended");
        }
        Some(match error.code()? {
            Code::Unavailable => "check --address and that a majority of the nodes run (muster cluster status)",
            Code::NotFound => "check the name or id, and --tenant",
            Code::ResourceExhausted => "try again later",
            _ => return None,
        })
    }

    /// For standard error: one line, or a JSON object.
    pub(crate) fn render(&self, format: Format) -> String {
        match format {
            Format::Table => {
                let hint = self.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                format!("error: cannot {}: {}{hint}", self.action, self.message()).replace('\n', " ")
            }
            Format::Json => self.json().to_string(),
        }
    }

    fn json(&self) -> Value {
        let reason = self.call().and_then(Error::reason);
        let message = reason.map_or_else(|| self.message(), |reason| reason.message.clone());
        json!({
            "error": {
                "action": self.action,
                "outcome": self.outcome(),
                "code": reason.map(|reason| code_name(reason.code)),
                "reason": reason.map(|reason| &reason.reason),
                "message": message,
                "field": reason.and_then(|reason| reason.field.as_ref()),
                "retry_after_ms": reason.and_then(|reason| reason.retry_after).map(|after| after.as_millis() as u64),
                "hint": self.hint(),
                "exit_code": self.exit_code(),
            }
        })
    }
}

/// `NotFound` as `NOT_FOUND`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use muster_client::JobState;

    use super::*;

    fn invalid() -> Failure {
        Failure::new(
            "get job x",
            Error::Invalid {
                field: "id",
                message: "\"x\" is not a UUID".into(),
            },
        )
    }

    #[test]
    fn one_line_says_what_and_why() {
        assert_eq!(
            invalid().render(Format::Table),
            "error: cannot get job x: id: \"x\" is not a UUID"
        );
        assert_eq!(invalid().exit_code(), exit::USAGE);
        let live = Failure::new(
            "wait for job a",
            Error::StillLive {
                id: "a".into(),
                state: JobState::Running,
            },
        );
        assert_eq!(
            live.render(Format::Table),
            "error: cannot wait for job a: job a is still running (wait longer with --timeout)"
        );
        assert_eq!(live.exit_code(), exit::FAILED);
    }

    #[test]
    fn scripts_get_an_object() {
        let failure = Failure::usage("read the payload", "no such file\nor directory");
        assert_eq!(
            failure.render(Format::Table),
            "error: cannot read the payload: no such file or directory"
        );
        let json: Value = serde_json::from_str(&failure.render(Format::Json)).unwrap();
        assert_eq!(json["error"]["action"], "read the payload");
        assert_eq!(json["error"]["outcome"], "not_done");
        assert_eq!(json["error"]["exit_code"], exit::USAGE);
        assert_eq!(json["error"]["code"], Value::Null);
    }

    #[test]
    fn a_job_that_did_not_succeed_has_its_own_code() {
        let ended = Error::JobEnded {
            id: "a".into(),
            state: JobState::Dead,
            failure: None,
        };
        assert_eq!(Failure::new("wait for job a", ended).exit_code(), exit::NOT_SUCCEEDED);
    }

    #[test]
    fn codes_are_named_as_in_grpc() {
        assert_eq!(code_name(Code::NotFound), "NOT_FOUND");
        assert_eq!(code_name(Code::Unavailable), "UNAVAILABLE");
    }

    #[tokio::test]
    async fn an_unreachable_cluster_is_not_done_and_says_where_to_look() {
        let client = muster_client::Client::builder()
            .addresses(["http://127.0.0.1:1"])
            .deadline(std::time::Duration::from_millis(200))
            .connect_lazy()
            .unwrap();
        let failure = Failure::new("list queues", client.queues().await.unwrap_err()).if_unknown("x");
        assert_eq!(failure.exit_code(), exit::UNAVAILABLE);
        assert!(
            failure.render(Format::Table).ends_with("(muster cluster status))"),
            "{failure:?}"
        );
    }
}

//! What an HTTP answer means for the attempt.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use muster_core::{AttemptOutcome, JobError, LimitKey, Name};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::handler::{HandlerError, millis};

/// Longest wait that an answer may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// Names the limit key that is throttled, for jobs with several.
const LIMIT_KEY: &str = "muster-limit-key";

/// Judges an answer whose body was read. `keys`: the job's limit keys, one of which a 429 closes.
///
/// `body` is `None` when it was larger than what is kept: the work is done all the same, only the result is not kept.
pub(crate) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    body: Option<Bytes>,
    keys: &[LimitKey],
    now: SystemTime,
) -> AttemptOutcome {
    if status.is_success() {
        return AttemptOutcome::Succeeded {
            result: body.unwrap_or_default(),
        };
    }
    let wait = retry_after(headers, now);
    if let (StatusCode::TOO_MANY_REQUESTS, Some(wait)) = (status, wait) {
        return match throttled_key(headers, keys) {
            Some(key) => AttemptOutcome::Throttled {
                key,
                retry_after: millis(wait),
            },
            None => AttemptOutcome::Snoozed { delay: millis(wait) },
        };
    }
    let retry_after = if status == StatusCode::SERVICE_UNAVAILABLE {
        wait.unwrap_or_default()
    } else {
        Duration::ZERO
    };
    HandlerError::Failed {
        error: JobError {
            class: format!("http_{}", status.as_u16()).into(),
            message: describe(status, body.as_deref()).into(),
        },
        retryable: is_retryable(status),
        retry_after,
    }
    .into()
}

/// The key that the answer names, or the only one.
fn throttled_key(headers: &HeaderMap, keys: &[LimitKey]) -> Option<Name> {
    match (headers.get(LIMIT_KEY), keys) {
        (Some(named), _) => {
            let own = keys.iter().find(|own| own.key.as_bytes() == named.as_bytes());
            own.map(|own| own.key.clone())
        }
        (None, [only]) => Some(only.key.clone()),
        (None, _) => None,
    }
}

/// The endpoint's own trouble may pass; a request that it refuses stays refused, and so does a redirect.
fn is_retryable(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

fn describe(status: StatusCode, body: Option<&[u8]>) -> String {
    let what = if status.is_redirection() {
        format!("answered {status}: redirects are not followed")
    } else {
        format!("answered {status}")
    };
    let start = body.unwrap_or_default();
    let start = String::from_utf8_lossy(&start[..start.len().min(512)]);
    let line = start.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        what
    } else {
        format!("{what}: {line}")
    }
}

/// Seconds or an HTTP date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = value.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let at = httpdate::parse_http_date(value).ok()?;
        at.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, retry_after: Option<&str>, expected: &str) {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let outcome = match judge(status, &headers, Some(Bytes::from_static(b"why\nmore")), &[], now) {
            AttemptOutcome::Succeeded { result } => format!("succeeded {}", result.len()),
            AttemptOutcome::Failed {
                error,
                retryable,
                retry_after,
            } => {
                assert!(error.message.ends_with(": why"), "{}", error.message);
                format!("{} retryable {retryable} after {retry_after}", error.class)
            }
            AttemptOutcome::Snoozed { delay } => format!("snoozed {delay}"),
            other => format!("{other:?}"),
        };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn answers_and_their_meaning() {
        check(200, None, "succeeded 8");
        check(204, None, "succeeded 8");
        check(302, None, "http_302 retryable false after 0");
        check(400, None, "http_400 retryable false after 0");
        check(404, Some("7"), "http_404 retryable false after 0");
        check(408, None, "http_408 retryable true after 0");
        check(429, None, "http_429 retryable true after 0");
        check(429, Some("7"), "snoozed 7000");
        check(429, Some("Wed, 21 Oct 2026 07:28:30 GMT"), "snoozed 30000");
        check(429, Some("Wed, 21 Oct 2020 07:28:30 GMT"), "snoozed 0");
        check(429, Some("soon"), "http_429 retryable true after 0");
        check(429, Some("99999999999"), "snoozed 86400000");
        check(500, None, "http_500 retryable true after 0");
        check(503, None, "http_503 retryable true after 0");
        check(503, Some("120"), "http_503 retryable true after 120000");
    }
    #[test]
    fn a_429_closes_the_limit_key_of_the_job() {
        let check = |named: Option<&str>, keys: &[&str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, "7".parse().unwrap());
            if let Some(named) = named {
                headers.insert(LIMIT_KEY, named.parse().unwrap());
            }
            let keys: Vec<LimitKey> = keys
                .iter()
                .map(|key| LimitKey {
                    key: (*key).into(),
                    cost: 1,
                })
                .collect();
            let outcome = judge(StatusCode::TOO_MANY_REQUESTS, &headers, None, &keys, SystemTime::now());
            let wanted = match expected {
                Some(key) => AttemptOutcome::Throttled {
                    key: key.into(),
                    retry_after: 7_000,
                },
                None => AttemptOutcome::Snoozed { delay: 7_000 },
            };
            assert_eq!(outcome, wanted, "{named:?} of {keys:?}");
        };
        check(None, &["api"], Some("api"));
        check(None, &[], None);
        check(None, &["api", "disk"], None);
        check(Some("disk"), &["api", "disk"], Some("disk"));
        check(Some("other"), &["api"], None);
    }
}

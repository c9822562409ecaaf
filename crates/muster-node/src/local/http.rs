//! `http` workers: each job is a signed POST to a URL.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use muster_core::{AttemptOutcome, Encoding, LimitKey, Name};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, Url, redirect};
use serde::Deserialize;

use super::address::{PrivateAddress, PublicOnly, check_host};
use super::handler::{Handler, HandlerError, JobContext, WorkerDefinition, worker_class};
use super::outcome::judge;
use super::signature::signature;
use crate::Error;
use crate::options::duration;

/// Largest answer that is kept as result.
const RESULT_MAX: usize = 64 << 10;
/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Redirects followed, when they are allowed.
const REDIRECTS_MAX: usize = 5;

/// A worker that runs jobs without any SDK: POSTs the payload to a URL and reads the outcome from the answer.
///
/// 2xx: succeeded, the body (up to 64 KiB) is the result; a larger one is not kept. 429 with `Retry-After`: again
/// after that, not counted. 503 with `Retry-After`: failed, again after that. Other 4xx than 408 and 429, and redirects:
/// failed for good. All else (5xx, timeouts, no connection): failed, again after the backoff.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpWorkerOptions {
    /// For people.
    pub name: Name,
    /// Tenants served; default all.
    #[serde(default)]
    pub tenants: Vec<Name>,
    /// Queues served, by name or with a trailing `*`; default all.
    #[serde(default)]
    pub queues: Vec<Name>,
    /// Job kinds, at least one; all schema versions.
    pub kinds: Vec<Name>,
    /// Where to; `http` or `https`.
    pub url: String,
    /// Calls at a time, 1–10,000. Default 10.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
    /// Key of the signature, see [`crate::signature`]. Not empty.
    pub secret: Secret,
    /// Time for one call. Default `"30s"`. The attempt's own timeout counts as well.
    #[serde(default = "default_timeout", with = "duration")]
    pub timeout: Duration,
    /// Whether private, loopback and link-local addresses may be called. Default false.
    #[serde(default)]
    pub allow_private: bool,
    /// Whether redirects that keep method and body (307, 308) are followed, at most 5. Default false.
    #[serde(default)]
    pub allow_redirects: bool,
}

fn default_concurrency() -> u32 {
    10
}

fn default_timeout() -> Duration {
    Duration::from_secs(30)
}

/// A text that is not shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl HttpWorkerOptions {
    /// Checks what can be checked without a call.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |field, value: &str, reason: String| {
            Err(Error::Option {
                field,
                value: value.to_owned(),
                reason,
            })
        };
        if self.kinds.is_empty() {
            return refuse("http_worker.kinds", "[]", "needs at least one kind".to_owned());
        }
        if !(1..=10_000).contains(&self.concurrency) {
            let value = self.concurrency.to_string();
            return refuse("http_worker.concurrency", &value, "must be 1 to 10,000".to_owned());
        }
        if self.secret.0.is_empty() {
            return refuse("http_worker.secret", "\"\"", "must not be empty".to_owned());
        }
        let url = match self.url.parse::<Url>() {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
            Ok(_) => return refuse("http_worker.url", &self.url, "must be an http or https url".to_owned()),
            Err(error) => return refuse("http_worker.url", &self.url, error.to_string()),
        };
        if let (false, Err(private)) = (self.allow_private, check_host(&url)) {
            return refuse("http_worker.url", &self.url, private.to_string());
        }
        Ok(())
    }

    pub(crate) fn definition(&self) -> Result<WorkerDefinition, Error> {
        self.validate()?;
        let handler = HttpHandler::new(self).map_err(|error| Error::Option {
            field: "http_worker",
            value: self.name.to_string(),
            reason: error.to_string(),
        })?;
        Ok(WorkerDefinition {
            name: self.name.clone(),
            class: worker_class(
                &self.tenants,
                &self.queues,
                self.kinds.iter().map(|kind| &**kind),
                self.concurrency,
            ),
            concurrency: self.concurrency,
            handler: Arc::new(handler),
        })
    }
}

struct HttpHandler {
    client: Client,
    url: String,
    secret: Secret,
    timeout: Duration,
}

impl HttpHandler {
    fn new(options: &HttpWorkerOptions) -> Result<Self, reqwest::Error> {
        let mut client = Client::builder()
            // A proxy would resolve names itself, past the check of addresses.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT.min(options.timeout))
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
            .redirect(redirects(options.allow_redirects, options.allow_private));
        if !options.allow_private {
            client = client.dns_resolver(Arc::new(PublicOnly));
        }
        Ok(Self {
            client: client.build()?,
            url: options.url.clone(),
            secret: options.secret.clone(),
            timeout: options.timeout,
        })
    }
}

fn redirects(allowed: bool, allow_private: bool) -> redirect::Policy {
    if !allowed {
        return redirect::Policy::none();
    }
    redirect::Policy::custom(move |attempt| {
        let keeps_method = matches!(
            attempt.status(),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        let was_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        let downgrade = was_secure && attempt.url().scheme() != "https";
        if !keeps_method || downgrade || attempt.previous().len() > REDIRECTS_MAX {
            return attempt.stop();
        }
        // Addresses are not resolved, so the resolver does not see them.
        match check_host(attempt.url()) {
            Err(private) if !allow_private => attempt.error(private),
            _ => attempt.follow(),
        }
    })
}

impl Handler for HttpHandler {
    fn run(&self, job: JobContext) -> BoxFuture<'static, AttemptOutcome> {
        let body = job.job.payload.data.clone();
        let now = SystemTime::now();
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let left = job
            .deadline
            .map(|deadline| deadline.duration_since(now).unwrap_or_default());
        let request = self
            .client
            .post(&self.url)
            .timeout(left.map_or(self.timeout, |left| left.min(self.timeout)))
            .headers(headers(&job))
            .header("muster-signature", signature(&self.secret.0, seconds, &body))
            .body(body);
        let (spec, cancelled) = (job.job, job.cancelled);
        Box::pin(async move {
            tokio::select! {
                outcome = call(request, &spec.options.limits.keys) => outcome,
                () = cancelled.cancelled() => AttemptOutcome::Cancelled,
            }
        })
    }
}

fn headers(job: &JobContext) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &str| {
        // What does not fit into a header is left out; the body is complete anyhow.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    };
    let spec = &job.job;
    add("muster-job-id", &spec.id.to_string());
    add("muster-attempt", &job.attempt.to_string());
    add("muster-fence", &job.fence.to_string());
    add("muster-kind", &spec.kind);
    add("muster-queue", &spec.queue);
    add("muster-tenant", &spec.tenant);
    add("muster-schema-version", &spec.schema_version.to_string());
    if let Some(ordering) = &spec.ordering {
        add("muster-ordering-key", &ordering.key);
        add("muster-sequence", &job.sequence.to_string());
    }
    for (key, value) in &spec.metadata {
        match &**key {
            "traceparent" | "tracestate" => add(key, value),
            other => add(&format!("muster-metadata-{other}"), value),
        }
    }
    if !spec.payload.content_type.is_empty() {
        add(CONTENT_TYPE.as_str(), &spec.payload.content_type);
    }
    if spec.payload.encoding == Encoding::Zstd {
        add(CONTENT_ENCODING.as_str(), "zstd");
    }
    headers
}

async fn call(request: reqwest::RequestBuilder, keys: &[LimitKey]) -> AttemptOutcome {
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) => return failed(&error),
    };
    let (status, headers) = (response.status(), response.headers().clone());
    let body = match read(&mut response).await {
        Ok(body) => body,
        // The answer was no success already; its text is not worth more.
        Err(_) if !status.is_success() => None,
        Err(error) => return failed(&error),
    };
    if body.is_none() && status.is_success() {
        tracing::warn!(url = %response.url(), "the answer is larger than {RESULT_MAX} bytes and not kept as result");
    }
    judge(status, &headers, body, keys, SystemTime::now())
}

/// The body, or `None` if it is too large.
async fn read(response: &mut reqwest::Response) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > RESULT_MAX {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

fn failed(error: &reqwest::Error) -> AttemptOutcome {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    let mut private = false;
    while let Some(cause) = source {
        private |= cause.is::<PrivateAddress>();
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    if private {
        return HandlerError::fatal("private_address", text).into();
    }
    let class = if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connect"
    } else {
        "http"
    };
    HandlerError::retry(class, text).into()
}

//! Unary calls: one attempt after another, on one node after another, until an answer or the deadline.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::error::{Attempt, Error, Reason, local, settle};
use crate::members::{DOUBT, Members, jittered};

/// Metadata key that names the tenant.
pub(crate) const TENANT: &str = "muster-tenant";
/// Metadata key that names a request that changes something, so that its repeats are recognised.
const REQUEST_ID: &str = "muster-request-id";
/// First wait after an attempt that the cluster turned away, doubled with each further one.
const RETRY: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(500);

/// Names a call that changes something: the same in all of its attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestId(uuid::Uuid);

impl RequestId {
    pub(crate) fn new() -> Self {
        Self(uuid::Uuid::from_u128(rand::random()))
    }
}

/// Which node is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefer {
    /// The leader, when it is known.
    Leader,
    /// Any, in turn.
    Any,
}

/// What goes with every request.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub tenant: MetadataValue<Ascii>,
    pub timeout: Duration,
}

impl Envelope {
    /// A request that names the tenant and gives up after the attempt's time.
    pub(crate) fn wrap<T>(&self, message: T) -> Request<T> {
        let mut request = stream_request(message, &self.tenant);
        request.set_timeout(self.timeout);
        request
    }

    /// The same for one that changes something.
    pub(crate) fn wrap_as<T>(&self, id: RequestId, message: T) -> Request<T> {
        let mut request = self.wrap(message);
        // A UUID is always good metadata.
        if let Ok(id) = id.0.to_string().parse() {
            request.metadata_mut().insert(REQUEST_ID, id);
        }
        request
    }
}

/// A request that names the tenant and has no time limit of its own.
pub(crate) fn stream_request<T>(message: T, tenant: &MetadataValue<Ascii>) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(TENANT, tenant.clone());
    request
}

/// Makes a call until it is answered, refused for good, or `deadline` has come. `attempt_time`: the most one node gets.
pub(crate) async fn call<T, F, Fut>(
    members: &Members,
    tenant: &MetadataValue<Ascii>,
    prefer: Prefer,
    deadline: Instant,
    attempt_time: Duration,
    send: F,
) -> Result<T, Error>
where
    F: Fn(Channel, Envelope) -> Fut,
    Fut: Future<Output = Result<Response<T>, Status>>,
{
    let mut maybe_done = false;
    let mut turned_away = 0;
    let mut last: Option<Reason> = None;
    loop {
        let pick = members.pick_as(prefer);
        let now = Instant::now();
        if now + pick.wait >= deadline {
            let reason =
                last.unwrap_or_else(|| local(Code::Unavailable, "NO_NODE_REACHABLE", "no time left to try a node"));
            return Err(settle(reason, maybe_done));
        }
        tokio::time::sleep(pick.wait).await;
        let channel = match members.channel(&pick.address).await {
            Ok(channel) => channel,
            Err(reason) => {
                members.failed(&pick.address, true, Duration::ZERO);
                last = Some(reason);
                continue;
            }
        };
        let timeout = attempt_time.min(deadline.saturating_duration_since(Instant::now()));
        let envelope = Envelope {
            tenant: tenant.clone(),
            timeout,
        };
        // The server ends the call at `timeout`; the grace lets its answer arrive, and bounds a silent node.
        let grace = Duration::from_millis(200).min(timeout);
        let answer = tokio::time::timeout(timeout + grace, send(channel, envelope));
        // Calls that may take longer than an attempt wait for something to happen: they are not silent.
        let may_doubt = prefer == Prefer::Leader && attempt_time <= members.timing().attempt;
        let led_elsewhere = async {
            tokio::time::sleep(DOUBT).await;
            members.until_led_elsewhere(&pick.address).await;
        };
        let begun = Instant::now();
        let attempt = tokio::select! {
            biased;
            answer = answer => match answer {
                Ok(Ok(response)) => {
                    members.answered(&pick.address);
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => Attempt::from_status(&status),
                Err(_) => Attempt::no_answer(timeout, &pick.address),
            },
            () = led_elsewhere, if may_doubt => Attempt::no_answer(begun.elapsed(), &pick.address),
        };
        match attempt {
            Attempt::Refused(reason) => {
                members.answered(&pick.address);
                return Err(settle(reason, maybe_done));
            }
            Attempt::Retry(reason) => {
                let pause = if let Some(after) = reason.retry_after {
                    after
                } else {
                    members.failed(&pick.address, false, Duration::ZERO);
                    turned_away += 1;
                    jittered(RETRY.saturating_mul(1 << turned_away.min(10)).min(RETRY_MAX))
                };
                if Instant::now() + pause >= deadline {
                    return Err(settle(reason, maybe_done));
                }
                last = Some(reason);
                tokio::time::sleep(pause).await;
            }
            Attempt::Unanswered(reason) => {
                maybe_done = true;
                // A node that stays silent may be a leader that lost its majority: leave it alone for as long.
                let silent = reason.code == Code::DeadlineExceeded;
                let leave_for = if silent {
                    members.timing().attempt
                } else {
                    Duration::ZERO
                };
                members.failed(&pick.address, !silent, leave_for);
                last = Some(reason);
            }
        }
    }
}

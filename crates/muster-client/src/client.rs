//! The client: how it is made, and what all its calls share.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::call::{self, Envelope, Prefer};
use crate::error::{Error, Result, local};
use crate::members::{Members, Timing, normalise};
use crate::producer::Producer;

/// Time for a call with all its retries, unless the builder says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
/// Time that one node gets for an attempt, unless the builder says otherwise.
pub const DEFAULT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to a cluster. Cheap to clone; clones share connections and frames.
///
/// It finds the leader by itself, retries on other nodes until the deadline, and gathers concurrent enqueues into
/// frames of one stream.
///
/// ```no_run
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct SendEmail { to: String }
/// # impl muster_client::Job for SendEmail { const KIND: &'static str = "send-email"; type Output = (); }
/// # async fn example() -> Result<(), muster_client::Error> {
/// let client = muster_client::Client::connect(["http://127.0.0.1:7001"]).await?;
/// let job = client.enqueue(SendEmail { to: "ada@example.org".into() }).await?;
/// println!("accepted as {}", job.id());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    members: Arc<Members>,
    tenant: MetadataValue<Ascii>,
    deadline: Duration,
    producer: OnceLock<Producer>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("addresses", &self.shared.members.addresses())
            .field("tenant", &self.shared.tenant)
            .field("deadline", &self.shared.deadline)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects with the defaults: tenant `default`, deadline 30 s. Any nodes' addresses will do; the others are learned.
    pub async fn connect<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Result<Self> {
        Self::builder().addresses(addresses).connect().await
    }

    /// For other tenants and times.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// The same connections for another tenant. Its enqueues have frames of their own.
    pub fn with_tenant(&self, tenant: impl AsRef<str>) -> Result<Self> {
        Ok(Self {
            shared: Arc::new(Shared {
                members: Arc::clone(&self.shared.members),
                tenant: tenant_value(tenant.as_ref())?,
                deadline: self.shared.deadline,
                producer: OnceLock::new(),
            }),
        })
    }

    /// The tenant of this client's calls.
    pub fn tenant(&self) -> &str {
        self.shared.tenant.to_str().unwrap_or_default()
    }

    /// Addresses of the nodes known now.
    pub fn addresses(&self) -> Vec<String> {
        self.shared.members.addresses()
    }

    pub(crate) fn members(&self) -> &Arc<Members> {
        &self.shared.members
    }

    pub(crate) fn tenant_value(&self) -> &MetadataValue<Ascii> {
        &self.shared.tenant
    }

    pub(crate) fn producer(&self) -> &Producer {
        self.shared
            .producer
            .get_or_init(|| Producer::start(Arc::clone(&self.shared.members), self.shared.tenant.clone()))
    }

    pub(crate) fn deadline_of(&self, of_call: Option<Duration>) -> Instant {
        Instant::now() + of_call.unwrap_or(self.shared.deadline)
    }

    /// A unary call under the client's deadline.
    pub(crate) async fn call<T, F, Fut>(&self, send: F) -> Result<T>
    where
        F: Fn(Channel, Envelope) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_until(self.deadline_of(None), self.shared.members.timing().attempt, send)
            .await
    }

    /// A unary call under a deadline of its own, with so much time for each attempt.
    pub(crate) async fn call_until<T, F, Fut>(&self, deadline: Instant, attempt_time: Duration, send: F) -> Result<T>
    where
        F: Fn(Channel, Envelope) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_as(Prefer::Leader, deadline, attempt_time, send).await
    }

    /// The same with a say in which node is asked first.
    pub(crate) async fn call_as<T, F, Fut>(
        &self,
        prefer: Prefer,
        deadline: Instant,
        attempt_time: Duration,
        send: F,
    ) -> Result<T>
    where
        F: Fn(Channel, Envelope) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let shared = &self.shared;
        let result = call::call(&shared.members, &shared.tenant, prefer, deadline, attempt_time, send).await;
        if result.is_ok() {
            shared.members.refresh_if_due();
        }
        result
    }
}

/// Makes a [`Client`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    addresses: Vec<String>,
    tenant: String,
    deadline: Duration,
    attempt: Duration,
    connect: Duration,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            tenant: "default".to_owned(),
            deadline: DEFAULT_DEADLINE,
            attempt: DEFAULT_ATTEMPT_TIMEOUT,
            connect: DEFAULT_CONNECT_TIMEOUT,
        }
    }
}

impl ClientBuilder {
    /// Nodes to begin with, as `http://host:port` or `host:port`. At least one, at most 64.
    pub fn addresses<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.addresses.extend(addresses.into_iter().map(Into::into));
        self
    }

    /// Tenant of all calls. Default: `default`.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Time for a call with all its retries. Default: 30 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Time that one node gets to answer an attempt before another is tried. Default: 3 s. Shorter than the
    /// cluster's election (under a second) only makes for needless repeats. A node that is silent for half a second and by
    /// another one's word does not lead any more is left at once.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt = timeout;
        self
    }

    /// Time to set up a connection to a node. Default: 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect = timeout;
        self
    }

    /// Checks the settings and makes the client without connecting: the first call does.
    pub fn connect_lazy(self) -> Result<Client> {
        let mut seeds: Vec<String> = Vec::new();
        for address in &self.addresses {
            let seed = normalise(address)
                .filter(|seed| {
                    seed.parse::<tonic::transport::Uri>()
                        .is_ok_and(|uri| uri.authority().is_some())
                })
                .ok_or_else(|| Error::Invalid {
                    field: "addresses",
                    message: format!("{address:?} is not an address like http://127.0.0.1:7001"),
                })?;
            if !seeds.contains(&seed) {
                seeds.push(seed);
            }
        }
        if seeds.is_empty() || seeds.len() > 64 {
            return Err(Error::Invalid {
                field: "addresses",
                message: format!("{} given, allowed are 1 to 64", seeds.len()),
            });
        }
        let tenant = tenant_value(&self.tenant)?;
        let timing = Timing {
            connect: self.connect,
            attempt: self.attempt,
        };
        let shared = Shared {
            members: Arc::new(Members::new(seeds, timing)),
            tenant,
            deadline: self.deadline,
            producer: OnceLock::new(),
        };
        Ok(Client {
            shared: Arc::new(shared),
        })
    }

    /// Connects to the first address that answers, and learns the members and the leader from it.
    /// Tries all addresses in turn until the deadline.
    pub async fn connect(self) -> Result<Client> {
        let deadline = Instant::now() + self.deadline;
        let client = self.connect_lazy()?;
        let mut last = local(Code::Unavailable, "NO_NODE_REACHABLE", "no time to try a node");
        loop {
            let pick = client.members().pick();
            if Instant::now() + pick.wait >= deadline {
                return Err(Error::NotDone(Box::new(last)));
            }
            tokio::time::sleep(pick.wait).await;
            match tokio::time::timeout_at(deadline, client.members().refresh(&pick.address)).await {
                Ok(Ok(_)) => return Ok(client),
                Ok(Err(reason)) => last = reason,
                Err(_) => {}
            }
            client.members().failed(&pick.address, true, Duration::ZERO);
        }
    }
}

fn tenant_value(tenant: &str) -> Result<MetadataValue<Ascii>> {
    let is_name = (1..=128).contains(&tenant.len())
        && tenant
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let value = if is_name { tenant.parse().ok() } else { None };
    value.ok_or_else(|| Error::Invalid {
        field: "tenant",
        message: format!("{tenant:?} is not a name: 1 to 128 of A-Z a-z 0-9 . _ -"),
    })
}

//! What all services share, and the services of `muster.v1` as lists of verbs.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use muster_backup::Backups;
use muster_core::{Command, Name, Reply, RequestId, TenantId, TenantView};
use muster_node::Node;
use muster_raft::Raft;
use muster_store::StateStore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::metadata::MetadataMap;

use crate::admit::Gate;
use crate::errors::Error;
use crate::options::ApiOptions;
use crate::{deadline, request, tenant};

/// A stream of answers.
pub(crate) type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

/// The services. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api(Arc<Shared>);

struct Shared {
    node: Node,
    backups: Option<Backups>,
    options: ApiOptions,
    calls: Gate,
    waits: Gate,
    streams: Gate,
    job_bytes: Gate,
    stopping: CancellationToken,
}

/// What a call says beside its message.
pub(crate) struct Caller {
    pub(crate) tenant: Name,
    pub(crate) deadline: Instant,
    /// Names the call if it changes something; a repeat may carry the same.
    pub(crate) request: RequestId,
}

impl Api {
    pub(crate) fn new(node: Node, backups: Option<Backups>, options: ApiOptions, stopping: CancellationToken) -> Self {
        let soon = Duration::from_millis(100);
        Self(Arc::new(Shared {
            calls: Gate::new("calls", options.calls_max, soon),
            waits: Gate::new("waiting calls", options.waits_max, Duration::from_secs(1)),
            streams: Gate::new("streams", options.streams_max, Duration::from_secs(1)),
            job_bytes: Gate::new("bytes of new jobs", options.job_bytes_max, soon),
            node,
            backups,
            options,
            stopping,
        }))
    }

    pub(crate) fn node(&self) -> &Node {
        &self.0.node
    }

    pub(crate) fn backups(&self) -> Option<&Backups> {
        self.0.backups.as_ref()
    }

    pub(crate) fn raft(&self) -> &Raft {
        self.0.node.raft()
    }

    pub(crate) fn history(&self) -> &StateStore {
        self.raft().store().state()
    }

    pub(crate) fn calls(&self) -> &Gate {
        &self.0.calls
    }

    pub(crate) fn waits(&self) -> &Gate {
        &self.0.waits
    }

    pub(crate) fn streams(&self) -> &Gate {
        &self.0.streams
    }

    /// Bounds what new jobs take while they are on their way into the log.
    pub(crate) fn job_bytes(&self) -> &Gate {
        &self.0.job_bytes
    }

    /// Done when the node stops.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// Whom the call is for and until when.
    pub(crate) fn caller(&self, metadata: &MetadataMap) -> Result<Caller, Error> {
        Ok(Caller {
            tenant: tenant::of_call(metadata)?,
            deadline: deadline::of_call(metadata, self.call_timeout()),
            request: request::of_call(metadata)?,
        })
    }

    /// Longest time of an ordinary call.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.0.options.call_timeout_max
    }

    /// Runs an ordinary call: admitted, counted, timed.
    pub(crate) async fn call<Q, A>(
        &self,
        verb: &'static str,
        request: Request<Q>,
        run: impl AsyncFnOnce(Caller, Q) -> Result<A, Error>,
    ) -> Result<tonic::Response<A>, tonic::Status> {
        let started = Instant::now();
        let _permit = self.calls().enter()?;
        let caller = self.caller(request.metadata())?;
        let result = run(caller, request.into_inner()).await;
        metrics::histogram!("muster_api_call_seconds", "call" => verb).record(started.elapsed().as_secs_f64());
        result.map(tonic::Response::new).map_err(Into::into)
    }

    /// Proposes a command; what the core refuses is an error.
    pub(crate) async fn propose(&self, command: Command, deadline: Instant) -> Result<Reply, Error> {
        match self.raft().propose(command, deadline).await? {
            Reply::Refused(refusal) => Err(refusal.into()),
            reply => Ok(reply),
        }
    }

    /// Proposes an administrative command under the id of its request: done once, however often it arrives.
    pub(crate) async fn propose_once(
        &self,
        request: RequestId,
        command: Command,
        deadline: Instant,
    ) -> Result<Reply, Error> {
        let once = Command::Once {
            request,
            fingerprint: command.fingerprint(),
            proposed_after: self.raft().read(|core| core.meta().applied),
            command: Box::new(command),
        };
        self.propose(once, deadline).await
    }

    /// From here on this node shows all that was acknowledged before the call.
    pub(crate) async fn linearize(&self, deadline: Instant) -> Result<(), Error> {
        Ok(self.raft().linearize(deadline).await?)
    }

    /// A tenant as this node knows it. One that it does not know may have been made elsewhere just now, so the leader is
    /// asked before the name is called unknown.
    pub(crate) async fn tenant(&self, name: &Name, deadline: Instant) -> Result<TenantView, Error> {
        if let Some(view) = self.known_tenant(name) {
            return Ok(view);
        }
        self.linearize(deadline).await?;
        self.known_tenant(name)
            .ok_or_else(|| Error::TenantNotFound(name.clone()))
    }

    /// The identity alone.
    pub(crate) async fn tenant_id(&self, name: &Name, deadline: Instant) -> Result<TenantId, Error> {
        if let Some(id) = self.raft().read(|core| core.tenant_id(name)) {
            return Ok(id);
        }
        Ok(self.tenant(name, deadline).await?.id)
    }

    fn known_tenant(&self, name: &Name) -> Option<TenantView> {
        self.raft()
            .read(|core| core.tenant_id(name).and_then(|id| core.tenant(id)))
    }
}

/// A defect: the core answered a command with another command's reply.
pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::Internal(format!("unexpected reply {reply:?}"))
}

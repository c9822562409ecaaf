//! The node as the layers above see it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::{Command, JobId, Reply, SessionId, SessionSpec};
use muster_failpoint::failpoint;
use muster_raft::Raft;
use ractor::{Actor, ActorRef};
use tokio::sync::watch;

use crate::consensus::{SharedConsensus, read};
use crate::context::Context;
use crate::error::Error;
use crate::hub::NodeHub;
use crate::local::HandlerRegistry;
use crate::options::NodeOptions;
use crate::session::{Link, SessionEnd, SessionHandle, SessionHello};
use crate::sessions::SessionsMsg;
use crate::supervisor::{NodeSupervisor, SupervisorMsg};
use crate::watch::JobWatch;

/// Time for a session to be opened; a caller that gave up earlier finds it closed again by its drop.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the orderly end of all sessions when the node stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const TTL_MIN: u64 = 1_000;
const TTL_MAX: u64 = 600_000;

/// A running node: its actors, sessions and local workers over one Raft member. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    raft: Option<Raft>,
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<Context>,
    supervisor: ActorRef<SupervisorMsg>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without a shutdown the actors would live on with nobody to speak to.
        self.context.stopping.send_replace(true);
        self.supervisor.stop(None);
    }
}

impl Node {
    /// Starts the actors. `hub` is the sink that `raft` was started with. `handlers` run in this process for the local
    /// workers they name; pass [`HandlerRegistry::default`] for none.
    ///
    /// Call on the runtime on which actors and local workers are to run.
    pub async fn start(
        options: NodeOptions,
        raft: Raft,
        hub: Arc<NodeHub>,
        handlers: HandlerRegistry,
    ) -> Result<Self, Error> {
        let consensus: SharedConsensus = Arc::new(raft.clone());
        Self::start_over(options, consensus, Some(raft), hub, handlers).await
    }

    pub(crate) async fn start_over(
        options: NodeOptions,
        consensus: SharedConsensus,
        raft: Option<Raft>,
        hub: Arc<NodeHub>,
        handlers: HandlerRegistry,
    ) -> Result<Self, Error> {
        options.validate()?;
        let context = Arc::new(Context {
            options,
            consensus,
            hub,
            handlers,
            fatal: watch::Sender::new(None),
            stopping: watch::Sender::new(false),
        });
        context.hub.listen_as(context.options.node);
        context.look_for_drain();
        let (supervisor, ended) = NodeSupervisor::spawn(None, NodeSupervisor, Arc::clone(&context))
            .await
            .map_err(|error| Error::Spawn {
                actor: "the node supervisor",
                reason: error.to_string(),
            })?;
        // Nobody supervises the supervisor: its end, unless asked for, is the end of the node.
        let watched = Arc::clone(&context);
        tokio::spawn(async move {
            let _ = ended.await;
            if !watched.is_stopping() {
                watched.fail("the node supervisor crashed".to_owned());
            }
        });
        Ok(Self {
            raft,
            inner: Arc::new(Inner { context, supervisor }),
        })
    }

    /// Opens a worker session on this node: replicated when this returns.
    pub async fn open_session(&self, hello: SessionHello) -> Result<SessionHandle, Error> {
        open_session(&self.inner.context, hello, false).await
    }

    /// Whether this node is drained: it takes no new worker sessions.
    pub fn is_drained(&self) -> bool {
        self.inner.context.hub.is_drained()
    }

    /// Watches a job. Watch first, read it then, so that nothing is missed between the two.
    pub fn watch_job(&self, job: JobId) -> JobWatch {
        self.inner.context.hub.watch_job(job)
    }

    /// The Raft member below.
    ///
    /// # Panics
    /// Never outside this crate's tests, which run nodes over a stand-in.
    pub fn raft(&self) -> &Raft {
        match &self.raft {
            Some(raft) => raft,
            None => unreachable!("a node is started over Raft"),
        }
    }

    /// Options this node was started with.
    pub fn options(&self) -> &NodeOptions {
        &self.inner.context.options
    }

    /// Waits until the node cannot go on, and says why: an actor crashed again and again, or a checkpoint could not be
    /// written. The process should end then.
    pub async fn failed(&self) -> String {
        let mut fatal = self.inner.context.fatal.subscribe();
        match fatal.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(Some(reason)) => reason,
            Ok(None) | Err(_) => "the node is gone".to_owned(),
        }
    }

    /// Stops the node: no new sessions, local workers hand back what they run, sessions are closed (their workers
    /// connect elsewhere), then the actors stop. Takes at most about `local_drain` and one second. Raft goes on; shut it
    /// down afterwards.
    pub async fn shutdown(&self) {
        let context = &self.inner.context;
        if context.stopping.send_replace(true) {
            return;
        }
        // Local workers hear of the stop by themselves and close their sessions when they are done.
        let (local, remote): (Vec<_>, Vec<_>) = context.hub.links().into_iter().partition(|link| link.local);
        for link in &remote {
            link.ask_close(SessionEnd::Shutdown);
        }
        let timeout = CLOSE_TIMEOUT + context.options.local_drain;
        tokio::join!(all_ended(&remote, CLOSE_TIMEOUT), all_ended(&local, timeout));
        // Also such as were opened in the last moment.
        let links = context.hub.links();
        for link in links {
            link.finish(SessionEnd::Shutdown);
        }
        context.hub.stop_watches();
        let timeout = Some(CLOSE_TIMEOUT);
        let _ = self.inner.supervisor.stop_and_wait(None, timeout).await;
    }

    #[cfg(test)]
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.inner.context
    }

    #[cfg(test)]
    pub(crate) fn supervisor(&self) -> &ActorRef<SupervisorMsg> {
        &self.inner.supervisor
    }
}

async fn all_ended(links: &[Arc<Link>], timeout: Duration) {
    let ends = links.iter().map(|link| async {
        let mut end = link.ended();
        let _ = end.wait_for(Option::is_some).await;
    });
    let _ = tokio::time::timeout(timeout, futures::future::join_all(ends)).await;
}

/// A session of a worker inside this node.
pub(crate) async fn open_local_session(context: &Arc<Context>, hello: SessionHello) -> Result<SessionHandle, Error> {
    open_session(context, hello, true).await
}

async fn open_session(context: &Arc<Context>, hello: SessionHello, local: bool) -> Result<SessionHandle, Error> {
    if context.is_stopping() {
        return Err(Error::Stopping);
    }
    if context.hub.is_drained() {
        return Err(Error::Drained);
    }
    if !(TTL_MIN..=TTL_MAX).contains(&hello.ttl) {
        return Err(Error::Option {
            field: "session ttl",
            value: format!("{} ms", hello.ttl),
            reason: format!("must be {TTL_MIN} to {TTL_MAX} ms"),
        });
    }
    let session = SessionId(rand::random());
    let ttl = Duration::from_millis(hello.ttl);
    let link = Arc::new(Link::new(session, ttl, context.options.session_reports_max, local));
    let limit = context.options.sessions_max;
    // Before the proposal: its effects may be applied before its answer is here.
    if !context.hub.register(Arc::clone(&link), limit) {
        return Err(Error::TooManySessions { limit });
    }
    let registration = Registration {
        context,
        session,
        keep: false,
    };
    let proposed_after = read(context.consensus.as_ref(), |core| core.meta().applied).unwrap_or(0);
    let command = Command::OpenSession(Box::new(SessionSpec {
        session,
        node: context.options.node,
        worker: hello.name,
        class: hello.class,
        ttl: hello.ttl,
        proposed_after,
    }));
    // Should the outcome stay unknown, nobody vouches for the session and the leader ends it after its TTL.
    failpoint!("session.open.before");
    let reply = context
        .consensus
        .propose(command, Instant::now() + OPEN_TIMEOUT)
        .await?;
    failpoint!("session.open.after");
    if let Reply::Refused(refusal) = reply {
        return Err(Error::Refused(refusal));
    }
    registration.keep();
    link.opened();
    context.hub.sessions.cast(SessionsMsg::Opened(session));
    Ok(SessionHandle::new(link))
}

/// Takes the session off the list again unless it was opened, also when the caller is cancelled.
struct Registration<'a> {
    context: &'a Context,
    session: SessionId,
    keep: bool,
}

impl Registration<'_> {
    fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        if !self.keep {
            self.context.hub.unregister(self.session);
        }
    }
}

//! Supervisor of the session actors. It also listens for silence: of workers, and on behalf of the leader for this node.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::{Command, SessionId};
use muster_failpoint::failpoint;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::consensus::read;
use crate::context::Context;
use crate::metrics;
use crate::propose::insist;
use crate::session::{Link, SessionActor, SessionArgs, SessionEnd, close_without_actor, reconcile};
use crate::supervision::{Restarts, Verdict};
use crate::task::OwnedTask;

/// Longest time between two rounds.
const ROUND_MAX: Duration = Duration::from_secs(5);
/// Shortest time between two rounds; also the pause after a vouch that did not reach a leader.
const ROUND_MIN: Duration = Duration::from_millis(100);
/// Time for the end of a session whose actor is beyond repair; afterwards the leader finds it silent.
const CLOSE_TIME: Duration = Duration::from_secs(10);

/// What the supervisor hears.
#[derive(Debug)]
pub(crate) enum SessionsMsg {
    /// A session was opened and registered.
    Opened(SessionId),
    /// Start a crashed actor again.
    Restart(SessionId),
    /// Time for a round.
    Round,
    /// The replicated state was replaced.
    Reconcile,
    /// The node is drained.
    Drained,
    #[cfg(test)]
    Panic,
}

pub(crate) struct Sessions;

pub(crate) struct SessionsState {
    context: Arc<Context>,
    actors: HashMap<ActorId, SessionId>,
    restarts: HashMap<SessionId, Restarts>,
    /// Sessions that have an actor.
    driven: HashSet<SessionId>,
    /// The next round, and when it is.
    timer: Option<(Instant, OwnedTask)>,
    /// Vouching, reconciling and the like, bounded by the pace of rounds.
    tasks: Vec<OwnedTask>,
    vouching: Option<OwnedTask>,
    _drain: OwnedTask,
}

impl Actor for Sessions {
    type Msg = SessionsMsg;
    type State = SessionsState;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        myself: ActorRef<SessionsMsg>,
        context: Arc<Context>,
    ) -> Result<SessionsState, ActorProcessingErr> {
        context.hub.sessions.occupy(myself.clone());
        let orphans = OwnedTask::spawn(lose_orphans(Arc::clone(&context)));
        let drain = OwnedTask::spawn(follow_drain(context.hub.drained(), myself.clone()));
        Ok(SessionsState {
            context,
            actors: HashMap::new(),
            driven: HashSet::new(),
            restarts: HashMap::new(),
            timer: None,
            tasks: vec![orphans],
            vouching: None,
            _drain: drain,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<SessionsMsg>,
        state: &mut SessionsState,
    ) -> Result<(), ActorProcessingErr> {
        // The sessions of a predecessor live on in the hub.
        for link in state.context.hub.links() {
            if link.is_open() {
                state.start(&myself, link).await?;
            }
        }
        myself.cast(SessionsMsg::Round)?;
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<SessionsMsg>,
        message: SessionsMsg,
        state: &mut SessionsState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SessionsMsg::Opened(session) => {
                let Some(link) = state.context.hub.link(session) else {
                    return Ok(());
                };
                let first = link.vouch_at();
                if !state.driven.contains(&session) {
                    state.start(&myself, link).await?;
                }
                if state.timer.as_ref().is_none_or(|(next, _)| first < *next) {
                    state.arm(&myself, first);
                }
            }
            SessionsMsg::Restart(session) => {
                if let Some(link) = state.context.hub.link(session) {
                    metrics::restarted("session");
                    state.start(&myself, link).await?;
                }
            }
            SessionsMsg::Round => state.round(&myself),
            SessionsMsg::Drained => state.drain(&myself),
            SessionsMsg::Reconcile => {
                state.context.look_for_drain();
                let context = Arc::clone(&state.context);
                state.tasks.push(OwnedTask::spawn(async move {
                    reconcile(&context).await;
                    lose_orphans(context).await;
                }));
            }
            #[cfg(test)]
            SessionsMsg::Panic => panic!("asked to panic"),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SessionsMsg>,
        event: SupervisionEvent,
        state: &mut SessionsState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, error) => {
                if let Some(session) = state.actors.remove(&actor.get_id()) {
                    state.driven.remove(&session);
                    state.crashed(&myself, session, &error.to_string());
                }
            }
            SupervisionEvent::ActorTerminated(actor, _, _) => {
                if let Some(session) = state.actors.remove(&actor.get_id()) {
                    state.driven.remove(&session);
                    state.restarts.remove(&session);
                }
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl SessionsState {
    async fn start(&mut self, myself: &ActorRef<SessionsMsg>, link: Arc<Link>) -> Result<(), ActorProcessingErr> {
        let session = link.id;
        let args = SessionArgs {
            context: Arc::clone(&self.context),
            link,
        };
        let (actor, _) = SessionActor::spawn_linked(None, SessionActor, args, myself.get_cell()).await?;
        self.actors.insert(actor.get_id(), session);
        self.driven.insert(session);
        Ok(())
    }

    fn crashed(&mut self, myself: &ActorRef<SessionsMsg>, session: SessionId, error: &str) {
        let Some(link) = self.context.hub.link(session) else {
            return;
        };
        let restarts = self.restarts.entry(session).or_default();
        let verdict = restarts.crashed(&self.context.options.restart, Instant::now());
        let id = uuid::Uuid::from_u128(session.0);
        match verdict {
            Verdict::Restart(wait) => {
                tracing::error!(session = %id, error, ?wait, "session actor crashed; restarting it");
                myself.send_after(wait, move || SessionsMsg::Restart(session));
            }
            Verdict::GiveUp => {
                tracing::error!(session = %id, error, "session actor crashes again and again; closing the session");
                self.restarts.remove(&session);
                let context = Arc::clone(&self.context);
                self.tasks.push(OwnedTask::spawn(async move {
                    let until = Instant::now() + CLOSE_TIME;
                    close_without_actor(&context, &link, SessionEnd::Failed, until).await;
                }));
            }
        }
    }

    /// Asks the workers of other processes to go elsewhere. Those of this node stop by themselves.
    fn drain(&mut self, myself: &ActorRef<SessionsMsg>) {
        let by = Instant::now() + self.context.options.session_drain;
        let remote = self.context.hub.links().into_iter().filter(|link| !link.local);
        let asked = remote.map(|link| link.ask_leave(by)).count();
        tracing::info!(
            sessions = asked,
            "the node is drained; its workers are asked to go elsewhere"
        );
        self.round(myself);
    }

    /// Gives up workers that are silent, closes the sessions of those that did not leave, vouches for the others when it is time, and sets the next round.
    fn round(&mut self, myself: &ActorRef<SessionsMsg>) {
        let now = Instant::now();
        self.tasks.retain(|task| !task.is_finished());
        let mut next = now + ROUND_MAX;
        let mut due = Vec::new();
        for link in self.context.hub.links() {
            if !link.is_open() || link.end().is_some() {
                continue;
            }
            if let Some(by) = link.leave_by() {
                next = next.min(by);
                if by <= now {
                    link.ask_close(SessionEnd::Drained);
                    continue;
                }
            }
            let silent_at = link.silent_at();
            if silent_at <= now {
                if !link.is_closing() {
                    let session = uuid::Uuid::from_u128(link.id.0);
                    tracing::warn!(%session, ttl = ?link.ttl, "worker is silent; giving it up");
                    link.ask_close(SessionEnd::Lost);
                }
                // No vouching: should the proposal not get through, the leader does the same.
                continue;
            }
            let vouch_at = link.vouch_at();
            next = next.min(silent_at).min(vouch_at);
            if vouch_at <= now {
                due.push(link);
            }
        }
        if !due.is_empty() && self.vouching.as_ref().is_none_or(OwnedTask::is_finished) {
            self.vouching = Some(OwnedTask::spawn(vouch(Arc::clone(&self.context), due)));
        }
        self.arm(myself, next.max(now + ROUND_MIN));
    }

    fn arm(&mut self, myself: &ActorRef<SessionsMsg>, next: Instant) {
        let sessions = myself.clone();
        let timer = OwnedTask::spawn(async move {
            tokio::time::sleep_until(next.into()).await;
            let _ = sessions.cast(SessionsMsg::Round);
        });
        self.timer = Some((next, timer));
    }
}

async fn follow_drain(mut drained: tokio::sync::watch::Receiver<bool>, sessions: ActorRef<SessionsMsg>) {
    loop {
        if *drained.borrow_and_update() && sessions.cast(SessionsMsg::Drained).is_err() {
            return;
        }
        if drained.changed().await.is_err() {
            return;
        }
    }
}

async fn vouch(context: Arc<Context>, links: Vec<Arc<Link>>) {
    let now = Instant::now();
    let sessions = links.iter().map(|link| link.id).collect();
    failpoint!("lease.vouch.before");
    match context.consensus.vouch(sessions).await {
        Ok(()) => {
            for link in links {
                link.vouched(now);
            }
        }
        // They stay due, and the next round comes soon.
        Err(error) => tracing::debug!(%error, "vouching for sessions"),
    }
}

/// Sessions that the state says this node holds and that it does not: their streams broke when it last stopped.
async fn lose_orphans(context: Arc<Context>) {
    let node = context.options.node;
    let orphans = read(context.consensus.as_ref(), |core| {
        let sessions = core.sessions().into_iter().map(|view| view.row.spec);
        let own = sessions.filter(|spec| spec.node == node);
        own.map(|spec| spec.session).collect::<HashSet<_>>()
    });
    for session in orphans.unwrap_or_default() {
        // A session that is being opened is registered first.
        if context.hub.link(session).is_none() {
            failpoint!("session.orphan.before");
            insist(&context, Command::LoseSession { session }, None).await;
        }
    }
}

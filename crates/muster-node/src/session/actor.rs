//! The actor that drives the proposals of one session.

use std::sync::Arc;
use std::time::Instant;

use muster_core::{Command, Refusal, Reply, ReportReply};
use muster_failpoint::failpoint;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::inbox::{Flight, Step};
use super::link::Link;
use super::types::SessionEnd;
use crate::context::Context;
use crate::propose::{Answer, insist};
use crate::task::OwnedTask;

/// What a session's actor hears.
#[derive(Debug)]
pub(crate) enum SessionMsg {
    /// There may be something to propose.
    Drive,
    /// A proposal of reports was answered.
    Landed { flight: u64, replies: Vec<ReportReply> },
    /// The log knows that the session is quiet.
    Quieted,
    /// The session is over.
    Over,
    #[cfg(test)]
    Panic,
}

pub(crate) struct SessionActor;

pub(crate) struct SessionArgs {
    pub context: Arc<Context>,
    pub link: Arc<Link>,
}

pub(crate) struct SessionState {
    context: Arc<Context>,
    link: Arc<Link>,
    /// Dropped with the actor, so that a successor does not meet the proposals of its predecessor.
    tasks: Vec<OwnedTask>,
}

impl Actor for SessionActor {
    type Msg = SessionMsg;
    type State = SessionState;
    type Arguments = SessionArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<SessionMsg>,
        args: SessionArgs,
    ) -> Result<SessionState, ActorProcessingErr> {
        args.link.recover();
        args.link.actor.occupy(myself.clone());
        myself.cast(SessionMsg::Drive)?;
        Ok(SessionState {
            context: args.context,
            link: args.link,
            tasks: Vec::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<SessionMsg>,
        message: SessionMsg,
        state: &mut SessionState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SessionMsg::Drive => state.link.unpoke(),
            SessionMsg::Landed { flight, replies } => state.link.landed(flight, &replies),
            SessionMsg::Quieted => state.link.quieted(),
            SessionMsg::Over => {
                state.context.hub.unregister(state.link.id);
                myself.stop(None);
                return Ok(());
            }
            #[cfg(test)]
            SessionMsg::Panic => panic!("asked to panic"),
        }
        if state.link.end().is_some() {
            // It ended while nobody played this part.
            myself.cast(SessionMsg::Over)?;
            return Ok(());
        }
        state.tasks.retain(|task| !task.is_finished());
        while let Some(step) = state.link.next_step(state.context.options.report_batch_max) {
            let proposal = propose(
                Arc::clone(&state.context),
                Arc::clone(&state.link),
                step,
                myself.clone(),
            );
            state.tasks.push(OwnedTask::spawn(proposal));
        }
        Ok(())
    }
}

/// Makes one proposal until it is answered, then tells the actor.
async fn propose(context: Arc<Context>, link: Arc<Link>, step: Step, actor: ActorRef<SessionMsg>) {
    let session = link.id;
    let command = match &step {
        Step::Report(flight) => Command::Report {
            session,
            results: flight.reports.as_ref().clone(),
            credit_total: flight.credit_total,
        },
        Step::Quiet => Command::QuietSession { session },
        Step::Close(SessionEnd::Lost) => Command::LoseSession { session },
        Step::Close(_) => Command::CloseSession { session },
    };
    match &step {
        Step::Report(_) => failpoint!("report.propose.before"),
        Step::Quiet => failpoint!("session.quiet.before"),
        Step::Close(_) => failpoint!("session.close.before"),
    }
    let Answer::Reply(reply) = insist(&context, command, None).await else {
        // Raft has stopped: the node goes down, its sessions with it.
        link.finish(SessionEnd::Shutdown);
        let _ = actor.cast(SessionMsg::Over);
        return;
    };
    // A send fails only when the actor is gone; then its successor makes the proposal again.
    let _ = match step {
        Step::Report(flight) => {
            failpoint!("report.propose.after");
            actor.cast(landed(&flight, reply, &link))
        }
        Step::Quiet => actor.cast(SessionMsg::Quieted),
        Step::Close(end) => {
            failpoint!("session.close.after");
            link.finish(end);
            actor.cast(SessionMsg::Over)
        }
    };
}

fn landed(flight: &Flight, reply: Reply, link: &Link) -> SessionMsg {
    let replies = match reply {
        Reply::Reported(replies) => replies,
        Reply::Refused(Refusal::SessionClosed) => {
            link.closed_by_state();
            Vec::new()
        }
        other => {
            tracing::error!(session = %uuid::Uuid::from_u128(link.id.0), ?other, "a report got an answer that is none");
            Vec::new()
        }
    };
    SessionMsg::Landed {
        flight: flight.number,
        replies,
    }
}

/// Proposes the end of a session whose actor is beyond repair, as long as `until` at most.
pub(crate) async fn close_without_actor(context: &Context, link: &Link, end: SessionEnd, until: Instant) {
    let session = link.id;
    // The applied end is announced before the answer is here; it should carry the right reason.
    let end = link.close_as(end);
    let command = match end {
        SessionEnd::Lost => Command::LoseSession { session },
        SessionEnd::Bye | SessionEnd::Shutdown | SessionEnd::Drained | SessionEnd::Failed => {
            Command::CloseSession { session }
        }
    };
    insist(context, command, Some(until)).await;
    link.finish(end);
    context.hub.unregister(session);
}

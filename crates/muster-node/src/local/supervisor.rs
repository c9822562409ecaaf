//! Supervisor of the local workers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::handler::WorkerDefinition;
use super::worker::{LocalWorker, WorkerArgs};
use crate::context::Context;
use crate::metrics;
use crate::supervision::{Restarts, Verdict};

/// What the supervisor hears.
#[derive(Debug)]
pub(crate) enum LocalWorkersMsg {
    /// Start the worker of this position again.
    Restart(usize),
    #[cfg(test)]
    Panic,
    #[cfg(test)]
    Find(usize, ractor::RpcReplyPort<Option<ActorCell>>),
}

pub(crate) struct LocalWorkers;

pub(crate) struct LocalWorkersState {
    context: Arc<Context>,
    workers: Vec<(WorkerDefinition, Restarts)>,
    actors: HashMap<ActorId, (usize, ActorCell)>,
}

impl Actor for LocalWorkers {
    type Msg = LocalWorkersMsg;
    type State = LocalWorkersState;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        myself: ActorRef<LocalWorkersMsg>,
        context: Arc<Context>,
    ) -> Result<LocalWorkersState, ActorProcessingErr> {
        let mut workers = Vec::new();
        for options in &context.options.http_workers {
            workers.push((options.definition()?, Restarts::default()));
        }
        let embedded = context.handlers.definitions();
        workers.extend(embedded.map(|worker| (worker, Restarts::default())));
        let mut state = LocalWorkersState {
            context,
            workers,
            actors: HashMap::new(),
        };
        for position in 0..state.workers.len() {
            state.start(&myself, position).await?;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<LocalWorkersMsg>,
        message: LocalWorkersMsg,
        state: &mut LocalWorkersState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LocalWorkersMsg::Restart(position) => {
                metrics::restarted("local_worker");
                state.start(&myself, position).await
            }
            #[cfg(test)]
            LocalWorkersMsg::Panic => panic!("asked to panic"),
            #[cfg(test)]
            LocalWorkersMsg::Find(position, reply) => {
                let found = state.actors.values().find(|(other, _)| *other == position);
                let _ = reply.send(found.map(|(_, cell)| cell.clone()));
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<LocalWorkersMsg>,
        event: SupervisionEvent,
        state: &mut LocalWorkersState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, error) => {
                if let Some((position, _)) = state.actors.remove(&actor.get_id()) {
                    return state.crashed(&myself, position, error);
                }
            }
            // A worker ends by itself only when the node stops.
            SupervisionEvent::ActorTerminated(actor, _, _) => {
                state.actors.remove(&actor.get_id());
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl LocalWorkersState {
    async fn start(&mut self, myself: &ActorRef<LocalWorkersMsg>, position: usize) -> Result<(), ActorProcessingErr> {
        let Some((definition, _)) = self.workers.get(position) else {
            return Ok(());
        };
        let args = WorkerArgs {
            context: Arc::clone(&self.context),
            definition: definition.clone(),
        };
        let (actor, _) = LocalWorker::spawn_linked(None, LocalWorker, args, myself.get_cell()).await?;
        self.actors.insert(actor.get_id(), (position, actor.get_cell()));
        Ok(())
    }

    /// One crash too many is a crash of the supervisor, which the node's supervisor then judges.
    fn crashed(
        &mut self,
        myself: &ActorRef<LocalWorkersMsg>,
        position: usize,
        error: ActorProcessingErr,
    ) -> Result<(), ActorProcessingErr> {
        let Some((definition, restarts)) = self.workers.get_mut(position) else {
            return Ok(());
        };
        match restarts.crashed(&self.context.options.restart, Instant::now()) {
            Verdict::Restart(wait) => {
                tracing::error!(worker = %definition.name, %error, ?wait, "local worker crashed; restarting it");
                myself.send_after(wait, move || LocalWorkersMsg::Restart(position));
                Ok(())
            }
            Verdict::GiveUp => Err(error),
        }
    }
}

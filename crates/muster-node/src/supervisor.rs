//! The top of the tree: starts the parts of a node and starts them again when they crash.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use crate::checkpointer::Checkpointer;
use crate::context::Context;
use crate::local::LocalWorkers;
use crate::metrics;
use crate::scheduler::Scheduler;
use crate::sessions::Sessions;
use crate::supervision::{Restarts, Verdict};

/// A part of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Scheduler,
    Sessions,
    LocalWorkers,
    Checkpointer,
}

impl Part {
    const ALL: [Self; 4] = [Self::Scheduler, Self::Sessions, Self::LocalWorkers, Self::Checkpointer];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Sessions => "sessions",
            Self::LocalWorkers => "local_workers",
            Self::Checkpointer => "checkpointer",
        }
    }
}

/// What the supervisor hears.
#[derive(Debug)]
pub(crate) enum SupervisorMsg {
    /// Start a crashed part again.
    Restart(Part),
    #[cfg(test)]
    Find(Part, ractor::RpcReplyPort<Option<ActorCell>>),
}

pub(crate) struct NodeSupervisor;

pub(crate) struct SupervisorState {
    context: Arc<Context>,
    parts: HashMap<ActorId, (Part, ActorCell)>,
    restarts: HashMap<Part, Restarts>,
}

impl Actor for NodeSupervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMsg>,
        context: Arc<Context>,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let mut state = SupervisorState {
            context,
            parts: HashMap::new(),
            restarts: HashMap::new(),
        };
        for part in Part::ALL {
            state.start(&myself, part).await?;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Restart(part) => {
                metrics::restarted(part.name());
                if let Err(error) = state.start(&myself, part).await {
                    state.crashed(&myself, part, &error.to_string());
                }
            }
            #[cfg(test)]
            SupervisorMsg::Find(part, reply) => {
                let found = state.parts.values().find(|(other, _)| *other == part);
                let _ = reply.send(found.map(|(_, cell)| cell.clone()));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, error) = match event {
            SupervisionEvent::ActorFailed(actor, error) => (actor, error.to_string()),
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                (actor, reason.unwrap_or_else(|| "it ended by itself".to_owned()))
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => return Ok(()),
        };
        if let Some((part, _)) = state.parts.remove(&actor.get_id()) {
            state.crashed(&myself, part, &error);
        }
        Ok(())
    }
}

impl SupervisorState {
    async fn start(&mut self, myself: &ActorRef<SupervisorMsg>, part: Part) -> Result<(), SpawnErr> {
        let (context, supervisor) = (Arc::clone(&self.context), myself.get_cell());
        let cell = match part {
            Part::Scheduler => {
                let spawned = Scheduler::spawn_linked(None, Scheduler, context, supervisor).await?;
                spawned.0.get_cell()
            }
            Part::Sessions => {
                let spawned = Sessions::spawn_linked(None, Sessions, context, supervisor).await?;
                spawned.0.get_cell()
            }
            Part::LocalWorkers => {
                let spawned = LocalWorkers::spawn_linked(None, LocalWorkers, context, supervisor).await?;
                spawned.0.get_cell()
            }
            Part::Checkpointer => {
                let spawned = Checkpointer::spawn_linked(None, Checkpointer, context, supervisor).await?;
                spawned.0.get_cell()
            }
        };
        self.parts.insert(cell.get_id(), (part, cell));
        Ok(())
    }

    fn crashed(&mut self, myself: &ActorRef<SupervisorMsg>, part: Part, error: &str) {
        let restarts = self.restarts.entry(part).or_default();
        let verdict = restarts.crashed(&self.context.options.restart, Instant::now());
        let name = part.name();
        match verdict {
            Verdict::Restart(wait) => {
                tracing::error!(actor = name, error, ?wait, "actor crashed; restarting it");
                myself.send_after(wait, move || SupervisorMsg::Restart(part));
            }
            Verdict::GiveUp => {
                let max = self.context.options.restart.max;
                let window = self.context.options.restart.window;
                self.context.fail(format!(
                    "{name} crashed more than {max} times within {window:?}, last: {error}"
                ));
            }
        }
    }
}

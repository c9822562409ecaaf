//! Writes changed rows back to disk: small and often, so that `apply` never waits long for the state.

use std::sync::Arc;
use std::time::Duration;

use muster_core::Core;
use muster_failpoint::{Injected, failpoint};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use crate::consensus::{Checkpointed, read};
use crate::context::Context;
use crate::options::CheckpointOptions;
use crate::task::OwnedTask;

/// Memory of new jobs that ends a pause early. A checkpoint takes several times what it writes, and a burst of large jobs
/// would make it as large as all of them.
const GROWN_MAX: u64 = 16 << 20;
/// Shortest time between two looks at it.
const LOOK_MIN: Duration = Duration::from_millis(10);

/// What the checkpointer hears.
#[derive(Debug)]
pub(crate) enum CheckpointerMsg {
    /// The pause is over.
    Due,
    /// A checkpoint is through.
    Written(Result<Checkpointed, String>),
    #[cfg(test)]
    Panic,
}

pub(crate) struct Checkpointer;

pub(crate) struct CheckpointerState {
    context: Arc<Context>,
    pause: Duration,
    /// The pause or the checkpoint that is under way: never two.
    task: Option<OwnedTask>,
}

impl Actor for Checkpointer {
    type Msg = CheckpointerMsg;
    type State = CheckpointerState;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        myself: ActorRef<CheckpointerMsg>,
        context: Arc<Context>,
    ) -> Result<CheckpointerState, ActorProcessingErr> {
        let pause = context.options.checkpoint.pause_max;
        let mut state = CheckpointerState {
            context,
            pause,
            task: None,
        };
        state.rest(myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<CheckpointerMsg>,
        message: CheckpointerMsg,
        state: &mut CheckpointerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CheckpointerMsg::Due => {
                let context = Arc::clone(&state.context);
                state.task = Some(OwnedTask::spawn(async move {
                    let result = checkpoint(&context).await;
                    let _ = myself.cast(CheckpointerMsg::Written(result));
                }));
            }
            CheckpointerMsg::Written(Ok(checkpointed)) => {
                state.pause = next_pause(&state.context.options.checkpoint, state.pause, checkpointed);
                state.rest(myself);
            }
            // What is on disk is not known any more: no restart helps.
            CheckpointerMsg::Written(Err(reason)) => state.context.fail(format!("writing a checkpoint: {reason}")),
            #[cfg(test)]
            CheckpointerMsg::Panic => panic!("asked to panic"),
        }
        Ok(())
    }
}

impl CheckpointerState {
    fn rest(&mut self, myself: ActorRef<CheckpointerMsg>) {
        let (context, pause) = (Arc::clone(&self.context), self.pause);
        self.task = Some(OwnedTask::spawn(async move {
            rest(&context, pause).await;
            let _ = myself.cast(CheckpointerMsg::Due);
        }));
    }
}

/// Waits until the pause is over, or so many new jobs have come that it should be.
async fn rest(context: &Context, pause: Duration) {
    let taken = || read(context.consensus.as_ref(), Core::memory).unwrap_or(0);
    let (before, end) = (taken(), Instant::now() + pause);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        tokio::time::sleep(left.min(context.options.checkpoint.pause_min.max(LOOK_MIN))).await;
        if Instant::now() >= end || taken().saturating_sub(before) > GROWN_MAX {
            return;
        }
    }
}

async fn checkpoint(context: &Context) -> Result<Checkpointed, String> {
    let idle = read(context.consensus.as_ref(), |core| core.changes_len() == 0);
    if idle.unwrap_or(true) {
        return Ok(Checkpointed::default());
    }
    failpoint!("checkpoint.due.before", Injected::into_text);
    context.consensus.checkpoint().await
}

/// The lock time grows with the rows gathered in a pause, so the pause follows it.
fn next_pause(options: &CheckpointOptions, pause: Duration, last: Checkpointed) -> Duration {
    let next = if last.lock > options.lock_target {
        pause.mul_f64(options.lock_target.as_secs_f64() / last.lock.as_secs_f64())
    } else if last.lock < options.lock_target / 4 {
        pause * 3 / 2
    } else {
        pause
    };
    next.clamp(options.pause_min, options.pause_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_follows_the_lock_time() {
        let options = CheckpointOptions::default();
        let next = |pause, lock_micros| {
            let last = Checkpointed {
                lock: Duration::from_micros(lock_micros),
            };
            next_pause(&options, Duration::from_millis(pause), last).as_millis()
        };
        assert_eq!(next(400, 6_000), 200);
        assert_eq!(next(60, 10_000), 50);
        assert_eq!(next(400, 2_000), 400);
        assert_eq!(next(400, 100), 600);
        assert_eq!(next(900, 0), 1_000);
    }
}

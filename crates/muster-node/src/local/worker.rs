//! A local worker: takes jobs from its session, runs each in a task, reports.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use muster_core::{Assignment, AttemptOutcome, AttemptReport, JobId, LeaseId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::sync::CancellationToken;

use super::handler::{Handler, HandlerError, JobContext, WorkerDefinition};
use crate::context::Context;
use crate::error::Error;
use crate::node::open_local_session;
use crate::session::{
    SessionHandle, SessionHello, SessionInput, SessionOutput, SessionReceiver, SessionSender, StopReason,
};
use crate::task::OwnedTask;

/// TTL of local sessions; only a node that hangs misses it.
const TTL: Duration = Duration::from_secs(10);
/// Pause before a session is opened again.
const OPEN_AGAIN: Duration = Duration::from_millis(500);
/// Time a handler has to return after a cancel.
const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// Largest result kept with a job.
const RESULT_MAX: usize = 64 << 10;

/// What a local worker hears.
#[derive(Debug)]
pub(crate) enum WorkerMsg {
    /// Open a session.
    Open,
    /// It is open.
    Opened(Box<SessionHandle>),
    /// The session has something to say.
    Output(SessionOutput),
    /// Time for a sign of life.
    Beat,
    /// An attempt ended.
    Done { lease: LeaseId, outcome: AttemptOutcome },
    /// The session is over.
    Over,
    /// The node stops.
    Stopping,
    /// The node is drained, or not any more.
    Drain(bool),
    /// The time of those that run is up.
    TimeUp,
    #[cfg(test)]
    Panic,
}

pub(crate) struct LocalWorker;

pub(crate) struct WorkerArgs {
    pub context: Arc<Context>,
    pub definition: WorkerDefinition,
}

pub(crate) struct WorkerState {
    context: Arc<Context>,
    definition: WorkerDefinition,
    session: Option<Open>,
    stopping: bool,
    /// The node is drained: no session is opened.
    paused: bool,
    task: Option<OwnedTask>,
    _watches: [OwnedTask; 2],
}

struct Open {
    sender: SessionSender,
    /// It gets no more jobs and ends when it has none.
    leaving: bool,
    running: HashMap<LeaseId, Running>,
    _pump: OwnedTask,
}

struct Running {
    job: JobId,
    /// Slots that it takes.
    slots: u32,
    cancel: CancellationToken,
    _task: OwnedTask,
}

impl Actor for LocalWorker {
    type Msg = WorkerMsg;
    type State = WorkerState;
    type Arguments = WorkerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<WorkerMsg>,
        args: WorkerArgs,
    ) -> Result<WorkerState, ActorProcessingErr> {
        let mut drained = args.context.hub.drained();
        let paused = *drained.borrow_and_update();
        if !paused {
            myself.cast(WorkerMsg::Open)?;
        }
        let mut stopping = args.context.stopping.subscribe();
        let worker = myself.clone();
        let stop = OwnedTask::spawn(async move {
            if stopping.wait_for(|stopping| *stopping).await.is_ok() {
                let _ = worker.cast(WorkerMsg::Stopping);
            }
        });
        let drain = OwnedTask::spawn(async move {
            while drained.changed().await.is_ok() {
                let drained = *drained.borrow_and_update();
                if myself.cast(WorkerMsg::Drain(drained)).is_err() {
                    return;
                }
            }
        });
        Ok(WorkerState {
            context: args.context,
            definition: args.definition,
            session: None,
            stopping: false,
            paused,
            task: None,
            _watches: [stop, drain],
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<WorkerMsg>,
        message: WorkerMsg,
        state: &mut WorkerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WorkerMsg::Open if state.paused => {}
            WorkerMsg::Open => {
                let opening = open(Arc::clone(&state.context), state.definition.clone(), myself);
                state.task = Some(OwnedTask::spawn(opening));
            }
            WorkerMsg::Opened(handle) => state.opened(*handle, &myself).await,
            WorkerMsg::Output(output) => state.output(output, &myself).await,
            WorkerMsg::Beat => state.say(SessionInput::default()).await,
            WorkerMsg::Done { lease, outcome } => state.done(lease, outcome, &myself).await,
            WorkerMsg::Over => {
                // The leases are gone; the attempts end here.
                state.session = None;
                if state.stopping {
                    myself.stop(None);
                } else if !state.paused {
                    myself.cast(WorkerMsg::Open)?;
                }
            }
            WorkerMsg::Stopping => {
                state.stopping = true;
                if state.session.is_none() {
                    myself.stop(None);
                } else {
                    state.leave(&myself).await;
                }
            }
            WorkerMsg::Drain(true) => {
                state.paused = true;
                // Opening one is given up.
                state.task = None;
                state.leave(&myself).await;
            }
            WorkerMsg::Drain(false) => {
                state.paused = false;
                // One that is about to end is followed by another.
                if state.session.is_none() && !state.stopping {
                    myself.cast(WorkerMsg::Open)?;
                }
            }
            WorkerMsg::TimeUp => state.hand_back().await,
            #[cfg(test)]
            WorkerMsg::Panic => panic!("asked to panic"),
        }
        Ok(())
    }
}

async fn open(context: Arc<Context>, definition: WorkerDefinition, worker: ActorRef<WorkerMsg>) {
    loop {
        let hello = SessionHello {
            name: definition.name.clone(),
            class: definition.class.clone(),
            ttl: TTL.as_millis() as u64,
        };
        match open_local_session(&context, hello).await {
            Ok(handle) => {
                let _ = worker.cast(WorkerMsg::Opened(Box::new(handle)));
                return;
            }
            Err(Error::Stopping) => return,
            Err(error) => tracing::debug!(worker = %definition.name, %error, "opening the session of a local worker"),
        }
        tokio::time::sleep(OPEN_AGAIN).await;
    }
}

async fn pump(mut receiver: SessionReceiver, worker: ActorRef<WorkerMsg>) {
    let mut beat = tokio::time::interval(TTL / 3);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            output = receiver.next() => match output {
                Some(output) => WorkerMsg::Output(output),
                None => WorkerMsg::Over,
            },
            _ = beat.tick() => WorkerMsg::Beat,
        };
        let over = matches!(message, WorkerMsg::Over);
        if worker.cast(message).is_err() || over {
            return;
        }
    }
}

impl WorkerState {
    async fn opened(&mut self, handle: SessionHandle, myself: &ActorRef<WorkerMsg>) {
        let (sender, receiver) = handle.split();
        self.session = Some(Open {
            sender,
            leaving: false,
            running: HashMap::new(),
            _pump: OwnedTask::spawn(pump(receiver, myself.clone())),
        });
        if self.stopping || self.paused {
            self.hand_back().await;
            return;
        }
        self.say(SessionInput {
            credits: self.definition.concurrency,
            ..SessionInput::default()
        })
        .await;
    }

    /// Says something to the session; if that is over, the pump tells.
    async fn say(&self, input: SessionInput) {
        if let Some(session) = &self.session {
            let _ = session.sender.send(input).await;
        }
    }

    async fn output(&mut self, output: SessionOutput, myself: &ActorRef<WorkerMsg>) {
        let Some(session) = &mut self.session else { return };
        let mut freed = 0;
        for job in output.jobs {
            let running = start(&self.definition.handler, &job, myself.clone());
            session.running.insert(job.lease, running);
        }
        for stop in output.stops {
            match stop.reason {
                StopReason::Cancel => {
                    if let Some(running) = session.running.get(&stop.lease) {
                        running.cancel.cancel();
                    }
                }
                StopReason::LeaseLost => {
                    freed += session.running.remove(&stop.lease).map_or(0, |running| running.slots);
                }
            }
        }
        if freed > 0 {
            self.say(SessionInput {
                credits: freed,
                ..SessionInput::default()
            })
            .await;
        }
        self.leave_if_idle().await;
    }

    async fn done(&mut self, lease: LeaseId, outcome: AttemptOutcome, myself: &ActorRef<WorkerMsg>) {
        let Some(session) = &mut self.session else { return };
        // One that was stopped meanwhile is nobody's business any more.
        let Some(running) = session.running.remove(&lease) else {
            return;
        };
        let outcome = match outcome {
            AttemptOutcome::Failed { .. } if running.cancel.is_cancelled() => AttemptOutcome::Cancelled,
            other => other,
        };
        tracing::debug!(worker = %self.definition.name, job = %running.job, actor = ?myself.get_id(), "attempt ended");
        let report = AttemptReport {
            job: running.job,
            lease,
            outcome,
        };
        self.say(SessionInput {
            reports: vec![report],
            credits: running.slots,
            ..SessionInput::default()
        })
        .await;
        self.leave_if_idle().await;
    }

    /// No new jobs; those that run get a while to end.
    async fn leave(&mut self, myself: &ActorRef<WorkerMsg>) {
        let Some(session) = &mut self.session else { return };
        session.leaving = true;
        self.say(SessionInput {
            quiet: true,
            ..SessionInput::default()
        })
        .await;
        let worker = myself.clone();
        let drain = self.context.options.local_drain;
        self.task = Some(OwnedTask::spawn(async move {
            tokio::time::sleep(drain).await;
            let _ = worker.cast(WorkerMsg::TimeUp);
        }));
        self.leave_if_idle().await;
    }

    async fn leave_if_idle(&mut self) {
        let idle = |session: &Open| session.leaving && session.running.is_empty();
        if self.session.as_ref().is_some_and(idle) {
            self.hand_back().await;
        }
    }

    /// Whatever still runs is handed back, and the session closed.
    async fn hand_back(&mut self) {
        let Some(session) = &mut self.session else { return };
        let reports = session
            .running
            .drain()
            .map(|(lease, running)| AttemptReport {
                job: running.job,
                lease,
                outcome: AttemptOutcome::Preempted,
            })
            .collect();
        self.say(SessionInput {
            reports,
            bye: true,
            ..SessionInput::default()
        })
        .await;
    }
}

fn start(handler: &Arc<dyn Handler>, job: &Assignment, worker: ActorRef<WorkerMsg>) -> Running {
    let cancel = CancellationToken::new();
    let context = JobContext {
        job: Arc::clone(&job.spec),
        attempt: job.attempt,
        fence: job.lease.fence(),
        sequence: job.sequence,
        deadline: (job.deadline > 0).then(|| UNIX_EPOCH + Duration::from_millis(job.deadline)),
        cancelled: cancel.clone(),
    };
    let lease = job.lease;
    let handler = Arc::clone(handler);
    let task = OwnedTask::spawn(async move {
        let outcome = run(handler.as_ref(), context).await;
        let _ = worker.cast(WorkerMsg::Done { lease, outcome });
    });
    Running {
        job: job.spec.id,
        slots: job.spec.options.slots,
        cancel,
        _task: task,
    }
}

/// Runs an attempt to its end, whatever the handler does.
async fn run(handler: &dyn Handler, context: JobContext) -> AttemptOutcome {
    let (cancelled, deadline) = (context.cancelled.clone(), context.deadline);
    // The call itself may panic before it returns a future.
    let attempt = AssertUnwindSafe(async { handler.run(context).await }).catch_unwind();
    let grace = async {
        cancelled.cancelled().await;
        tokio::time::sleep(CANCEL_GRACE).await;
    };
    let timeout = async {
        match deadline {
            Some(deadline) => {
                let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
                tokio::time::sleep(left).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = attempt => bounded(outcome.unwrap_or_else(|panic| panicked(&*panic))),
        () = grace => AttemptOutcome::Cancelled,
        () = timeout => HandlerError::retry("timeout", "the attempt ran out of time").into(),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> AttemptOutcome {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    HandlerError::retry("panic", text.unwrap_or("the handler panicked")).into()
}

fn bounded(outcome: AttemptOutcome) -> AttemptOutcome {
    match outcome {
        AttemptOutcome::Succeeded { result } if result.len() > RESULT_MAX => {
            let text = format!("the result has {} bytes, at most {RESULT_MAX} are kept", result.len());
            HandlerError::fatal("result_too_large", text).into()
        }
        other => other,
    }
}

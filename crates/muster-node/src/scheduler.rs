//! The leader's actor for time: lets due timers fire, and declares silent sessions lost.
//!
//! Who gets which job is decided in `apply`, so this actor holds nothing that could be stale. It wakes for messages and
//! for one timer, set to the earliest thing to do. On step-down it forgets everything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::{Command, SessionId, Timestamp};
use muster_failpoint::failpoint;
use muster_raft::Role;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::consensus::{leading, read};
use crate::context::Context;
use crate::metrics;
use crate::roster::{Known, Roster};
use crate::task::OwnedTask;

/// Longest sleep, so that a wall clock that was set forward is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Sessions that open at once are taken over together after this pause; none has a TTL below a second.
const ROSTER_PAUSE: Duration = Duration::from_millis(200);
/// How often the gauges of the leader are set.
const GAUGES_EVERY: Duration = Duration::from_secs(5);
/// Pause after a proposal that failed.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// What the scheduler hears.
#[derive(Debug)]
pub(crate) enum SchedulerMsg {
    /// The desk has news, or the timer fired.
    Wake,
    /// Nodes vouch for sessions.
    Vouched(Vec<SessionId>),
    /// The role of this node may have changed.
    Role,
    /// A proposal of that term is through.
    Ticked { term: u64, done: bool },
    #[cfg(test)]
    Panic,
}

pub(crate) struct Scheduler;

pub(crate) struct SchedulerState {
    context: Arc<Context>,
    reign: Option<Reign>,
    _role: OwnedTask,
}

/// What there is only while this node leads.
struct Reign {
    term: u64,
    roster: Roster,
    /// When to read the list of sessions anew.
    refresh_at: Option<Instant>,
    /// A tick is under way, or failed and waits.
    tick: Tick,
    gauges_at: Instant,
    timer: Option<OwnedTask>,
    proposals: Vec<OwnedTask>,
}

enum Tick {
    Idle,
    UnderWay,
    Pause(Instant),
}

impl Actor for Scheduler {
    type Msg = SchedulerMsg;
    type State = SchedulerState;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        myself: ActorRef<SchedulerMsg>,
        context: Arc<Context>,
    ) -> Result<SchedulerState, ActorProcessingErr> {
        context.hub.desk.end();
        context.hub.scheduler.occupy(myself.clone());
        myself.cast(SchedulerMsg::Role)?;
        let role = OwnedTask::spawn(follow_role(context.consensus.role(), myself));
        Ok(SchedulerState {
            context,
            reign: None,
            _role: role,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<SchedulerMsg>,
        message: SchedulerMsg,
        state: &mut SchedulerState,
    ) -> Result<(), ActorProcessingErr> {
        let now = Instant::now();
        state.follow(now);
        let Some(reign) = &mut state.reign else {
            return Ok(());
        };
        match message {
            SchedulerMsg::Wake | SchedulerMsg::Role => {}
            SchedulerMsg::Vouched(sessions) => reign.roster.heard(&sessions, now),
            SchedulerMsg::Ticked { term, done } => {
                if term == reign.term {
                    reign.tick = if done { Tick::Idle } else { Tick::Pause(now + TRY_AGAIN) };
                }
            }
            #[cfg(test)]
            SchedulerMsg::Panic => panic!("asked to panic"),
        }
        reign.act(&state.context, &myself, now);
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<SchedulerMsg>,
        state: &mut SchedulerState,
    ) -> Result<(), ActorProcessingErr> {
        state.step_down();
        Ok(())
    }
}

async fn follow_role(mut role: tokio::sync::watch::Receiver<Role>, scheduler: ActorRef<SchedulerMsg>) {
    while role.changed().await.is_ok() {
        if scheduler.cast(SchedulerMsg::Role).is_err() {
            return;
        }
    }
}

impl SchedulerState {
    /// Brings the reign into line with the role of this moment.
    fn follow(&mut self, now: Instant) {
        let term = leading(&self.context.consensus.role().borrow());
        if term == self.reign.as_ref().map(|reign| reign.term) {
            return;
        }
        self.step_down();
        let Some(term) = term else { return };
        let context = &self.context;
        // Changes from here on are noted on the desk; the list read after it holds all before.
        context.hub.desk.take_roster_changed();
        let view = read(context.consensus.as_ref(), |core| {
            (core.meta().now, core.next_due(), known_sessions(core))
        });
        let Some((replicated, next_due, known)) = view else {
            return;
        };
        failpoint!("scheduler.reign.before");
        context.hub.desk.begin(replicated, next_due);
        tracing::info!(term, sessions = known.len(), "scheduler leads");
        self.reign = Some(Reign {
            term,
            roster: Roster::begin(&known, now),
            refresh_at: None,
            tick: Tick::Idle,
            gauges_at: now,
            timer: None,
            proposals: Vec::new(),
        });
    }

    fn step_down(&mut self) {
        self.context.hub.desk.end();
        if let Some(reign) = self.reign.take() {
            tracing::info!(term = reign.term, "scheduler stepped down");
            metrics::depths(muster_core::LiveCounts::default(), 0);
        }
    }
}

impl Reign {
    /// Does what is due and sets the timer for what comes next.
    fn act(&mut self, context: &Arc<Context>, myself: &ActorRef<SchedulerMsg>, now: Instant) {
        self.proposals.retain(|proposal| !proposal.is_finished());
        self.follow_roster(context, now);
        let mut wakes = vec![now + SLEEP_MAX];
        wakes.extend(self.refresh_at);
        wakes.extend(self.tick(context, myself, now));
        self.tend_sessions(context, now);
        wakes.extend(self.roster.next_wake());
        if self.gauges_at <= now {
            publish_gauges(context);
            self.gauges_at = now + GAUGES_EVERY;
        }
        wakes.push(self.gauges_at);
        let wake = wakes.into_iter().min().unwrap_or(now + SLEEP_MAX);
        let scheduler = myself.clone();
        self.timer = Some(OwnedTask::spawn(async move {
            tokio::time::sleep_until(wake.into()).await;
            let _ = scheduler.cast(SchedulerMsg::Wake);
        }));
    }

    fn follow_roster(&mut self, context: &Context, now: Instant) {
        if self.refresh_at.is_none() && context.hub.desk.roster_changed() {
            self.refresh_at = Some(now + ROSTER_PAUSE);
        }
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_at = None;
            context.hub.desk.take_roster_changed();
            if let Some(known) = read(context.consensus.as_ref(), known_sessions) {
                self.roster.refresh(&known, now);
            }
        }
    }

    /// Proposes a tick if one is due and none under way; else says when to look again.
    fn tick(&mut self, context: &Arc<Context>, myself: &ActorRef<SchedulerMsg>, now: Instant) -> Option<Instant> {
        match self.tick {
            // Its end wakes.
            Tick::UnderWay => return None,
            Tick::Pause(until) if until > now => return Some(until),
            Tick::Pause(_) | Tick::Idle => self.tick = Tick::Idle,
        }
        let due = context.hub.desk.arm()?;
        let wait = until_due(due, context.hub.desk.now(), context.consensus.clock());
        if wait > 0 {
            return Some(now + Duration::from_millis(wait).min(SLEEP_MAX));
        }
        failpoint!("scheduler.tick.before");
        self.tick = Tick::UnderWay;
        let (context, scheduler, term) = (Arc::clone(context), myself.clone(), self.term);
        self.proposals.push(OwnedTask::spawn(async move {
            let done = propose(&context, term, Command::Tick).await;
            failpoint!("scheduler.tick.after");
            let _ = scheduler.cast(SchedulerMsg::Ticked { term, done });
        }));
        None
    }

    fn tend_sessions(&mut self, context: &Arc<Context>, now: Instant) {
        let record = self.roster.record(now);
        let lost = self.roster.lost(now);
        let mut commands = Vec::new();
        if !record.is_empty() {
            failpoint!("scheduler.vouch.before");
            commands.push(Command::Vouch { sessions: record });
        }
        for session in lost {
            failpoint!("scheduler.lost.before");
            tracing::warn!(session = %uuid::Uuid::from_u128(session.0), "worker session lost: not heard of within its ttl");
            commands.push(Command::LoseSession { session });
        }
        if commands.is_empty() {
            return;
        }
        let (context, term) = (Arc::clone(context), self.term);
        self.proposals.push(OwnedTask::spawn(async move {
            // Together, so that they share an entry. One that fails comes up again by itself.
            let proposals = commands.into_iter().map(|command| propose(&context, term, command));
            futures::future::join_all(proposals).await;
        }));
    }
}

/// Milliseconds until something due at `due` can fire. What was applied last may be ahead of the clock by a moment.
fn until_due(due: Timestamp, replicated: Timestamp, clock: Timestamp) -> u64 {
    due.saturating_sub(replicated.max(clock))
}

/// Proposes in the name of the leader of `term`, if this node still is.
async fn propose(context: &Context, term: u64, command: Command) -> bool {
    if leading(&context.consensus.role().borrow()) != Some(term) {
        return false;
    }
    let deadline = Instant::now() + context.options.propose_timeout;
    match context.consensus.propose(command, deadline).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(%error, "proposal of the scheduler");
            false
        }
    }
}

fn known_sessions(core: &muster_core::Core) -> Vec<Known> {
    let sessions = core.sessions().into_iter();
    sessions
        .map(|view| Known {
            session: view.row.spec.session,
            ttl: view.row.spec.ttl,
            vouched_at: view.row.vouched_at.max(view.row.opened_at),
        })
        .collect()
}

fn publish_gauges(context: &Context) {
    let depths = read(context.consensus.as_ref(), |core| (core.live(), core.unroutable()));
    if let Some((live, unroutable)) = depths {
        metrics::depths(live, unroutable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicated_time_ahead_of_the_clock_counts() {
        assert_eq!(until_due(100, 0, 40), 60);
        assert_eq!(until_due(100, 70, 40), 30);
        assert_eq!(until_due(100, 0, 100), 0);
        assert_eq!(until_due(100, 200, 40), 0);
    }
}

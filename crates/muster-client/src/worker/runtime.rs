//! A worker's life: sessions one after another, then the drain.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::builder::Worker;
use super::farewell::{Farewell, Left};
use super::pool::Pool;
use super::session::{self, Session, work};
use super::stats::{WorkerStats, add};
use crate::error::{Attempt, Result, settle};

/// Between asking attempts to stop and handing them back.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// For the last reports and the goodbye.
const BYE_TIME: Duration = Duration::from_secs(2);
/// How often clocks are looked at while some matter.
const SWEEP: Duration = Duration::from_millis(50);
/// A node that sent the worker elsewhere is left alone for so long.
const LEAVE_ALONE: Duration = Duration::from_secs(5);

/// Where a shutdown stands.
enum Phase {
    Working,
    /// No new jobs; what runs may go on until then.
    Draining(Instant),
    /// Asked to stop; handed back then.
    Stopping(Instant),
    /// All is reported or handed back; the last answers are waited for until then.
    Leaving(Instant),
}

enum End {
    /// The stream broke or was closed by the node.
    Broken,
    /// The node is drained: the session goes on without new jobs, beside another one.
    Leaving(Box<Session>),
    /// The worker is done.
    Done,
}

impl Worker {
    /// Runs jobs until `shutdown` ends, e.g. [`crate::shutdown_signal`]. Then it takes no new jobs, lets the running ones
    /// end (at most [`super::WorkerBuilder::drain`]), asks the rest to stop, hands them back uncounted and says goodbye.
    ///
    /// Reconnects for ever, at another node if need be. Fails only when the cluster refuses such a worker, e.g. because
    /// its tenant does not exist. Dropping the future ends the connection; the jobs then run elsewhere after the TTL.
    pub async fn run_until(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<WorkerStats> {
        let stop = CancellationToken::new();
        let asked = stop.clone();
        let waiting = tokio::spawn(async move {
            shutdown.await;
            asked.cancel();
        });
        let (heard, left) = mpsc::unbounded_channel();
        let mut life = Life {
            farewells: Vec::new(),
            heard,
            left,
            pool: Pool::new(self.handlers.clone(), self.counters.clone(), self.concurrency),
            phase: Phase::Working,
            stop,
            worker: self,
        };
        let result = life.run().await;
        waiting.abort();
        // Attempts that still run belong to nobody now.
        life.pool.ask_to_stop();
        life.pool.preempt_all();
        result.map(|()| life.worker.counters.snapshot())
    }
}

struct Life {
    worker: Worker,
    pool: Pool,
    /// Sessions at drained nodes, whose jobs go on.
    farewells: Vec<Farewell>,
    heard: mpsc::UnboundedSender<Left>,
    left: mpsc::UnboundedReceiver<Left>,
    phase: Phase,
    stop: CancellationToken,
}

impl Life {
    async fn run(&mut self) -> Result<()> {
        let mut first = true;
        loop {
            let Some(session) = self.connect().await? else {
                return Ok(());
            };
            if !first {
                add(&self.worker.counters.reconnects);
            }
            first = false;
            tracing::info!(address = session.address, "worker session open");
            let (address, ttl) = (session.address.clone(), session.ttl);
            match self.serve(session).await {
                End::Done => return Ok(()),
                End::Leaving(session) => {
                    let running = self.pool.running();
                    tracing::info!(address, running, "the node is drained; going elsewhere");
                    self.worker.client.members().failed(&address, false, LEAVE_ALONE);
                    let farewell = Farewell::begin(self.pool.session(), *session, self.heard.clone());
                    self.farewells.push(farewell);
                }
                End::Broken => {
                    tracing::warn!(address, running = self.pool.running(), "worker session broken");
                    self.worker.client.members().failed(&address, true, Duration::ZERO);
                    self.pool.session_lost(Instant::now() + ttl);
                }
            }
        }
    }

    /// Opens a session, trying node after node. `None`: the worker is done without one.
    async fn connect(&mut self) -> Result<Option<Session>> {
        loop {
            let open = session::open(self.worker.client.clone(), self.worker.hello.clone());
            tokio::pin!(open);
            let opened = loop {
                let timed = self.is_timed();
                tokio::select! {
                    biased;
                    opened = &mut open => break opened,
                    () = self.pool.some_ended() => self.pool.take_ended(),
                    Some(left) = self.left.recv() => self.hear(left),
                    () = self.stop.cancelled(), if matches!(self.phase, Phase::Working) => {
                        self.phase = Phase::Draining(Instant::now() + self.worker.drain);
                    }
                    () = tokio::time::sleep(SWEEP), if timed => {}
                }
                if self.is_over(Instant::now()) {
                    return Ok(None);
                }
            };
            match opened {
                Ok(session) => return Ok(Some(session)),
                Err(failure) => match failure.attempt {
                    Attempt::Refused(reason) => return Err(settle(reason, false)),
                    Attempt::Retry(reason) | Attempt::Unanswered(reason) => {
                        tracing::debug!(address = failure.address, %reason, "no worker session");
                        self.worker
                            .client
                            .members()
                            .failed(&failure.address, true, Duration::ZERO);
                    }
                },
            }
        }
    }

    /// Something from a session that is being left. Its reports go out with the present one.
    fn hear(&mut self, left: Left) {
        match left {
            Left::Frame(frame) => {
                self.pool.on_frame(frame);
                if matches!(self.phase, Phase::Leaving(_)) {
                    self.pool.preempt_all();
                }
            }
            Left::Over { session, until } => {
                self.farewells.retain(|farewell| farewell.session != session);
                if self.pool.owes(session) {
                    self.pool.session_lost(until);
                }
            }
        }
    }

    /// Says goodbye where nothing is owed any more.
    fn say_byes(&mut self) {
        for farewell in &mut self.farewells {
            if !self.pool.owes(farewell.session) {
                farewell.say_bye();
            }
        }
    }

    async fn serve(&mut self, mut session: Session) -> End {
        self.pool.session_opened();
        let outgoing = session.outgoing();
        let heartbeat = session.ttl / 3;
        let mut sent_at = Instant::now();
        let mut quiet_sent = false;
        let beat = tokio::time::sleep_until(sent_at + heartbeat);
        tokio::pin!(beat);
        let mut beat_due = false;
        let mut said_bye = false;
        loop {
            let quiet_due = !quiet_sent && !matches!(self.phase, Phase::Working);
            let bye_due = matches!(self.phase, Phase::Leaving(_)) && self.pool.is_settled();
            let send_due = quiet_due || bye_due || beat_due || self.pool.has_news();
            let timed = self.is_timed();
            tokio::select! {
                biased;
                frame = session.next() => match frame {
                    Ok(Some(frame)) => {
                        let elsewhere = frame.go_elsewhere;
                        self.pool.on_frame(frame);
                        // A worker that stops anyway need not go elsewhere for that.
                        if elsewhere && matches!(self.phase, Phase::Working) {
                            return End::Leaving(Box::new(session));
                        }
                        // A job that crossed the goodbye: nobody will wait for it.
                        if matches!(self.phase, Phase::Leaving(_)) {
                            self.pool.preempt_all();
                        }
                    }
                    Ok(None) => return End::Broken,
                    Err(status) => {
                        tracing::debug!(%status, "worker stream");
                        return End::Broken;
                    }
                },
                () = self.pool.some_ended() => {
                    // Others that are about to end can go with the same frame.
                    tokio::task::yield_now().await;
                    self.pool.take_ended();
                }
                Some(left) = self.left.recv() => self.hear(left),
                permit = outgoing.reserve(), if send_due => {
                    let Ok(permit) = permit else { return End::Broken };
                    let mut frame = self.pool.take_frame();
                    frame.quiet = !matches!(self.phase, Phase::Working);
                    frame.bye = bye_due;
                    quiet_sent = frame.quiet;
                    permit.send(work(frame));
                    sent_at = Instant::now();
                    beat_due = false;
                    said_bye = bye_due;
                }
                () = self.stop.cancelled(), if matches!(self.phase, Phase::Working) => {
                    self.phase = Phase::Draining(Instant::now() + self.worker.drain);
                }
                () = &mut beat => {
                    beat_due = sent_at + heartbeat <= Instant::now();
                    beat.as_mut().reset(if beat_due { Instant::now() } else { sent_at } + heartbeat);
                }
                () = tokio::time::sleep(SWEEP), if timed => {}
            }
            self.say_byes();
            if said_bye {
                Self::close(session, outgoing).await;
                return End::Done;
            }
            if self.is_over(Instant::now()) {
                return End::Done;
            }
        }
    }

    /// Lets the goodbye reach the node, which then ends the stream.
    async fn close(mut session: Session, outgoing: mpsc::Sender<muster_proto::v1::WorkRequest>) {
        drop(outgoing);
        let ending = async { while let Ok(Some(_)) = session.next().await {} };
        let _ = tokio::time::timeout(BYE_TIME, ending).await;
    }

    /// Do clocks matter now?
    fn is_timed(&self) -> bool {
        self.pool.has_orphans() || !matches!(self.phase, Phase::Working)
    }

    /// Moves a shutdown on. True: the time for last answers is over.
    fn is_over(&mut self, now: Instant) -> bool {
        self.pool.expire_orphans(now);
        match self.phase {
            Phase::Working => {}
            Phase::Draining(until) => {
                if self.pool.is_idle() {
                    self.phase = Phase::Leaving(now + BYE_TIME);
                } else if until <= now {
                    self.pool.ask_to_stop();
                    self.phase = Phase::Stopping(now + STOP_GRACE);
                }
            }
            Phase::Stopping(until) => {
                if self.pool.is_idle() {
                    self.phase = Phase::Leaving(now + BYE_TIME);
                } else if until <= now {
                    self.pool.preempt_all();
                    self.phase = Phase::Leaving(now + BYE_TIME);
                }
            }
            Phase::Leaving(until) => return until <= now,
        }
        false
    }
}

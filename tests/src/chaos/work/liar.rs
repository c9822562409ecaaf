//! A worker that writes down the answers to its reports, and on order dies, hangs, repeats itself and is late.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use muster_proto::v1;
use muster_sim::history::{How, Id, WorkerLog};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::TTL;
use super::handler::Attempt;
use super::session::{Session, attempt, report};
use crate::chaos::world::World;

/// Attempts at once.
const ROOM: u32 = 24;
/// Time for an order to show its effect.
const EFFECT: Duration = Duration::from_secs(12);

/// What it can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Drop the connection as soon as jobs are running, and forget everything.
    Die,
    /// Say nothing for so long, the connection open and the handlers running, then go on.
    Hang(Duration),
    /// Send the next reports twice.
    Repeat,
    /// Keep the next reports until their leases are lost, then send them.
    Delay,
    /// End.
    Stop,
}

/// The worker's end for orders.
pub(crate) struct Liar {
    orders: mpsc::Sender<(Order, oneshot::Sender<bool>)>,
}

impl Liar {
    pub(super) fn start(world: Arc<World>, number: u64) -> Self {
        let (orders, incoming) = mpsc::channel(4);
        let life = Life::new(world, number, incoming);
        tokio::spawn(life.run());
        Self { orders }
    }

    /// Gives an order and waits until it is seen to have had an effect: true; or has had time enough.
    pub(crate) async fn obey(&self, order: Order) -> bool {
        let (seen, effect) = oneshot::channel();
        if self.orders.send((order, seen)).await.is_err() {
            return false;
        }
        let effect = tokio::time::timeout(EFFECT + Duration::from_secs(10), effect).await;
        matches!(effect, Ok(Ok(true)))
    }
}

/// An order under way.
struct Ordered {
    order: Order,
    seen: oneshot::Sender<bool>,
    until: Instant,
}

/// A report without its answer.
struct Unanswered {
    job: Id,
    how: How,
    /// How often it was sent and not answered.
    copies: u32,
}

/// An attempt that runs.
struct Running {
    task: JoinHandle<()>,
    slots: u32,
}

struct Life {
    world: Arc<World>,
    log: WorkerLog,
    name: String,
    rng: StdRng,
    orders: mpsc::Receiver<(Order, oneshot::Sender<bool>)>,
    ordered: Option<Ordered>,
    running: HashMap<u64, Running>,
    ends: mpsc::UnboundedSender<(Attempt, How)>,
    ended: mpsc::UnboundedReceiver<(Attempt, How)>,
    unanswered: HashMap<u64, Unanswered>,
    /// Reports kept back, and when they go.
    late: Vec<(Instant, Attempt, How)>,
    leases_lost: u64,
    credits: u32,
}

/// How a session ended.
enum End {
    Broken,
    Stopped,
}

impl Life {
    fn new(world: Arc<World>, number: u64, orders: mpsc::Receiver<(Order, oneshot::Sender<bool>)>) -> Self {
        let (ends, ended) = mpsc::unbounded_channel();
        let name = format!("liar-{number}");
        Self {
            log: world.recorder.worker(name.as_str()),
            rng: world.rng("liar", number),
            name,
            world,
            orders,
            ordered: None,
            running: HashMap::new(),
            ends,
            ended,
            unanswered: HashMap::new(),
            late: Vec::new(),
            leases_lost: 0,
            credits: 0,
        }
    }

    async fn run(mut self) {
        loop {
            let addresses = self.world.addresses.all();
            let at = self.rng.random_range(0..addresses.len());
            let address = addresses[at].clone();
            if let Ok(session) = Session::open(&address, &self.name).await
                && matches!(self.serve(session).await, End::Stopped)
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for running in self.running.into_values() {
            running.task.abort();
        }
    }

    /// Serves until the stream breaks. What was not answered is sent again on the next one.
    async fn serve(&mut self, mut session: Session) -> End {
        let taken: u32 = self.running.values().map(|running| running.slots).sum();
        self.credits = ROOM.saturating_sub(taken);
        let mut reports = Vec::new();
        for (fence, one) in &mut self.unanswered {
            self.log.ended(one.job, *fence, one.how);
            one.copies = 1;
            reports.push(report(one.job, *fence, one.how));
        }
        if !self.send(&session, reports) {
            return End::Broken;
        }
        let mut beat = tokio::time::interval(TTL / 4);
        loop {
            tokio::select! {
                biased;
                // First, so that after a silence reports go out before the news that their leases are gone.
                Some((attempt, how)) = self.ended.recv() => {
                    if !self.on_end(&session, attempt, how) {
                        return End::Broken;
                    }
                }
                frame = session.next() => match frame {
                    Some(frame) => {
                        self.on_frame(frame);
                        if self.is_ordered(Order::Die) && !self.running.is_empty() {
                            self.die();
                            return End::Broken;
                        }
                    }
                    None => return End::Broken,
                },
                _ = beat.tick() => {
                    let due = self.take_late();
                    if !self.send(&session, due) {
                        return End::Broken;
                    }
                    self.expire();
                }
                order = self.orders.recv() => match order {
                    None => return End::Stopped,
                    Some((Order::Stop, seen)) => {
                        let _ = seen.send(true);
                        return End::Stopped;
                    }
                    Some((order, seen)) => {
                        self.begin(order, seen);
                        if order == Order::Die && !self.running.is_empty() {
                            self.die();
                            return End::Broken;
                        }
                        if let Order::Hang(time) = order {
                            // Nothing is read, nothing is said; the handlers know nothing of it.
                            tokio::time::sleep(time).await;
                        }
                    }
                },
            }
        }
    }

    fn begin(&mut self, order: Order, seen: oneshot::Sender<bool>) {
        self.leases_lost = 0;
        self.ordered = Some(Ordered {
            order,
            seen,
            until: Instant::now() + EFFECT,
        });
    }

    /// An order had its effect, or not.
    fn fulfil(&mut self, effect: bool) {
        if let Some(ordered) = self.ordered.take() {
            let _ = ordered.seen.send(effect);
        }
    }

    fn expire(&mut self) {
        let Some(ordered) = &self.ordered else { return };
        let hung = matches!(ordered.order, Order::Hang(_)) && self.leases_lost > 0;
        if hung || ordered.until <= Instant::now() {
            self.fulfil(hung);
        }
    }

    fn is_ordered(&self, order: Order) -> bool {
        self.ordered.as_ref().is_some_and(|ordered| ordered.order == order)
    }

    /// With jobs running; nothing of them is kept.
    fn die(&mut self) {
        self.fulfil(true);
        for (_, running) in self.running.drain() {
            running.task.abort();
        }
        while self.ended.try_recv().is_ok() {}
        self.unanswered.clear();
        self.late.clear();
    }

    fn send(&mut self, session: &Session, reports: Vec<v1::AttemptReport>) -> bool {
        session.send(v1::WorkerFrame {
            reports,
            credits: std::mem::take(&mut self.credits),
            ..v1::WorkerFrame::default()
        })
    }

    fn on_frame(&mut self, frame: v1::NodeFrame) {
        for ack in frame.acks {
            self.on_ack(&ack);
        }
        for stop in frame.stops {
            let Some(running) = self.running.get(&stop.fence) else {
                continue;
            };
            running.task.abort();
            let slots = running.slots;
            match stop.job_id.parse() {
                // A cancel gets a report, unless the attempt has ended meanwhile: what comes first counts.
                Ok(job) if stop.reason() == v1::stop_attempt::Reason::Cancel => {
                    let attempt = Attempt {
                        job,
                        fence: stop.fence,
                        number: 0,
                        kind: String::new(),
                        argument: 0,
                    };
                    let _ = self.ends.send((attempt, How::Cancelled));
                }
                _ => {
                    self.running.remove(&stop.fence);
                    self.leases_lost += 1;
                    self.credits += slots;
                }
            }
        }
        for leased in frame.jobs {
            let Some(attempt) = attempt(&leased) else { continue };
            let (world, log, ends) = (Arc::clone(&self.world), self.log.clone(), self.ends.clone());
            let fence = attempt.fence;
            let task = tokio::spawn(async move {
                let how = attempt.run(&world, &log, std::future::pending()).await;
                let _ = ends.send((attempt, how));
            });
            let slots = leased.slots;
            self.running.insert(fence, Running { task, slots });
        }
    }

    fn on_ack(&mut self, ack: &v1::ReportAck) {
        let Some(known) = self.unanswered.get_mut(&ack.fence) else {
            return;
        };
        let accepted = ack.result() == v1::report_ack::Result::Accepted;
        self.log.answered(known.job, ack.fence, accepted);
        known.copies = known.copies.saturating_sub(1);
        let twice = known.copies > 0;
        if !twice {
            self.unanswered.remove(&ack.fence);
        }
        self.leases_lost += u64::from(!accepted);
        if (twice && self.is_ordered(Order::Repeat)) || (!accepted && self.is_ordered(Order::Delay)) {
            self.fulfil(true);
        }
    }

    /// An attempt ended: reports it, once, twice or later. False: the stream is gone.
    fn on_end(&mut self, session: &Session, attempt: Attempt, how: How) -> bool {
        let Some(Running { slots, .. }) = self.running.remove(&attempt.fence) else {
            return true;
        };
        self.credits += slots;
        if self.is_ordered(Order::Delay) && self.late.len() < 3 {
            // Longer than any attempt may take.
            self.late.push((Instant::now() + Duration::from_secs(5), attempt, how));
            return true;
        }
        let copies = if self.is_ordered(Order::Repeat) { 2 } else { 1 };
        let mut reports = Vec::new();
        for _ in 0..copies {
            reports.push(self.note(&attempt, how, copies));
        }
        reports.into_iter().all(|one| self.send(session, vec![one]))
    }

    /// Writes down that a report is about to be sent.
    fn note(&mut self, attempt: &Attempt, how: How, copies: u32) -> v1::AttemptReport {
        let Attempt { job, fence, .. } = *attempt;
        self.log.ended(job, fence, how);
        self.unanswered.insert(fence, Unanswered { job, how, copies });
        report(job, fence, how)
    }

    fn take_late(&mut self) -> Vec<v1::AttemptReport> {
        let now = Instant::now();
        let late = std::mem::take(&mut self.late);
        let (due, rest): (Vec<_>, Vec<_>) = late.into_iter().partition(|(at, ..)| *at <= now);
        self.late = rest;
        due.into_iter()
            .map(|(_, attempt, how)| self.note(&attempt, how, 1))
            .collect()
    }
}

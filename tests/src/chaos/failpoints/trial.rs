//! One trial: points are armed on a node, something brings it to pass them, and everything comes to rest again.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_sim::history::{Fault as Written, FaultKind, OperationKind, Record};
use tokio::sync::watch;
use tokio::time::Instant;

use super::plan::{Action, Role, Trial, Way};
use super::ways::Pusher;
use crate::chaos::faults::{BACK, Injector, REFUSED};

/// Exit code of a node that met damage, or another failure, while it ran.
const FAILED_RUNNING: i32 = 5;
/// Between two looks at what a node says.
const LOOK: Duration = Duration::from_millis(20);
/// Enqueues that are acknowledged between two trials, at least.
const PROGRESS: u64 = 20;
/// A node that failed is gone within a second; one that is there after this goes on.
const FAILED: Duration = Duration::from_millis(1_200);

/// What came of a trial.
pub(super) struct Tried {
    /// How often each point acted, in their order.
    pub(super) hits: Vec<u64>,
    /// The process ended.
    pub(super) ended: bool,
    /// The node.
    pub(super) node: u64,
    pub(super) took: Duration,
}

/// How long it is waited for a node to pass a point.
fn budget(way: Way) -> Duration {
    let seconds = match way {
        Way::Load | Way::Drain => 6,
        Way::HandOver | Way::Workers => 10,
        Way::Fall | Way::Down | Way::Backup => 15,
        Way::Purge | Way::Feed | Way::CutOff => 25,
        // As long as it takes: these are done once.
        Way::Start | Way::Refill | Way::Members | Way::Join => 150,
    };
    Duration::from_secs(seconds)
}

/// Makes one trial.
pub(super) async fn make(injector: &Injector, trial: &Trial, number: u64) -> Tried {
    let begun = Instant::now();
    settle(injector, trial).await;
    let node = match trial.role {
        Role::Leader => injector.observer.leader().unwrap_or_default(),
        Role::Follower => follower(injector, number),
        Role::Newcomer => injector.next_id.load(Ordering::Relaxed),
    };
    let start = injector.world.recorder.now();
    let mut armed = Armed::new(injector, trial, node);
    let (stop, stopped) = watch::channel(false);
    let pusher = Pusher {
        injector,
        node,
        number: number as u32,
        stop: stopped,
        rng: injector.world.rng("failpoint", number),
    };
    let mut pushing = std::pin::pin!(pusher.push(trial.way));
    let limit = begun + budget(trial.way);
    loop {
        tokio::select! {
            () = &mut pushing => break,
            () = tokio::time::sleep(LOOK) => {}
        }
        armed.look();
        if armed.is_done() || Instant::now() >= limit {
            armed.disarm();
            stop.send_replace(true);
        }
    }
    armed.disarm();
    armed.look();
    injector.net.heal();
    if injector.stays(node) {
        injector.start(node);
        injector.wait_for(node).await;
    }
    armed.judge();
    let tried = Tried {
        ended: armed.ended.is_some(),
        hits: armed.hits,
        node,
        took: begun.elapsed(),
    };
    injector.world.recorder.record(&Record::Fault(Written {
        kind: match trial.action {
            Action::Die => FaultKind::Kill,
            Action::Fail if tried.ended => FaultKind::Kill,
            Action::Fail => FaultKind::Other,
            Action::Pause => FaultKind::Slow,
        },
        target: format!("{trial}: node {node}"),
        start,
        end: injector.world.recorder.now(),
        took_effect: tried.hits.iter().any(|hits| *hits > 0),
    }));
    tried
}

/// Not the same one each time.
fn follower(injector: &Injector, number: u64) -> u64 {
    let leader = injector.observer.leader();
    let mut ids = injector.net.ids();
    ids.retain(|id| Some(*id) != leader);
    ids[number as usize % ids.len()]
}

/// Waits until all nodes answer and follow one leader, and enqueues are acknowledged.
async fn settle(injector: &Injector, trial: &Trial) {
    let acknowledged = || {
        let calls = injector.world.calls.by_kind();
        calls.get(&OperationKind::Enqueue).map_or(0, |outcomes| outcomes[0])
    };
    let (before, end) = (acknowledged(), Instant::now() + BACK);
    while Instant::now() < end {
        let mut leaders = Vec::new();
        for id in injector.net.ids() {
            leaders.push(injector.observer.ask(id).await.and_then(|status| status.leader_id));
        }
        let leader = injector.observer.leader();
        let one = leader.is_some() && leaders.iter().all(|known| *known == leader);
        if one && acknowledged() >= before + PROGRESS {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let complaint = format!("the nodes did not come to rest {BACK:?} before this trial: {trial}");
    injector.world.complaints.add(complaint);
}

/// A node with armed points, looked after.
struct Armed<'a> {
    injector: &'a Injector,
    trial: &'a Trial,
    node: u64,
    log: PathBuf,
    /// Where its log file ended before.
    from: u64,
    /// What it has said since.
    said: String,
    hits: Vec<u64>,
    /// When a point acted first.
    hit_at: Option<Instant>,
    active: bool,
    ended: Option<ExitStatus>,
}

impl<'a> Armed<'a> {
    fn new(injector: &'a Injector, trial: &'a Trial, node: u64) -> Self {
        injector.expect_down(node);
        let log = {
            let cluster = injector.cluster();
            let points = trial.points.iter().map(|point| point.name.as_str());
            cluster.arm(node, points.map(|name| (name, trial.action.armed())));
            cluster.log_file(node)
        };
        Self {
            from: log.metadata().map_or(0, |found| found.len()),
            hits: vec![0; trial.points.len()],
            said: String::new(),
            hit_at: None,
            active: true,
            ended: None,
            injector,
            trial,
            node,
            log,
        }
    }

    fn disarm(&mut self) {
        if self.active {
            self.active = false;
            self.injector.cluster().arm(self.node, []);
            if self.trial.role == Role::Newcomer {
                // From here on it is looked after as any node that is removed.
                self.injector.start(self.node);
            }
        }
    }

    /// Looks what the node has said. One that ended is started again, without the points.
    fn look(&mut self) {
        let (injector, node) = (self.injector, self.node);
        let exited = {
            let mut cluster = injector.cluster();
            cluster.has(node).then(|| cluster.exited(node)).flatten()
        };
        self.read();
        let Some(status) = exited else { return };
        let newcomer = self.trial.role == Role::Newcomer;
        if newcomer && (!self.active || status.code() == Some(REFUSED)) {
            return self.disarm();
        }
        injector.cluster().ended(node);
        // Damage that is met late ends a node that is to refill itself.
        let for_point = self.last_word().is_some_and(|word| word.contains("failpoint "));
        if self.trial.way != Way::Refill || status.code() != Some(FAILED_RUNNING) || for_point {
            if self.active {
                self.ended = Some(status);
            } else {
                self.complain(&format!("ended by itself: {status}"));
            }
            self.disarm();
        }
        if injector.stays(node) {
            injector.start(node);
            if !newcomer {
                injector.expect_down(node);
            }
        }
    }

    fn read(&mut self) {
        let Ok(mut file) = std::fs::File::open(&self.log) else {
            return;
        };
        let mut new = String::new();
        let read = file
            .seek(SeekFrom::Start(self.from + self.said.len() as u64))
            .and_then(|_| file.read_to_string(&mut new));
        if read.is_err() {
            // Half a letter; it is whole with the next look.
            return;
        }
        self.said.push_str(&new);
        for (hits, point) in self.hits.iter_mut().zip(&self.trial.points) {
            let line = format!("failpoint {}: {}", point.name, argument(self.trial.action));
            *hits = self.said.lines().filter(|said| *said == line).count() as u64;
        }
        if self.hit_at.is_none() && self.hits.iter().any(|hits| *hits > 0) {
            self.hit_at = Some(Instant::now());
        }
    }

    /// Nothing more is to be expected.
    fn is_done(&self) -> bool {
        if self.ended.is_some() {
            return true;
        }
        let Some(hit_at) = self.hit_at else { return false };
        match self.trial.action {
            // Its end is about to be seen.
            Action::Die => false,
            Action::Fail => hit_at.elapsed() > FAILED,
            Action::Pause => self.hits.iter().all(|hits| *hits >= self.trial.action.times()),
        }
    }

    /// A node that ended must have ended for this, and have said so.
    fn judge(&self) {
        if let Some(line) = self.said.lines().find(|line| line.contains("panicked at")) {
            self.complain(&format!("panicked: {line}"));
        }
        let Some(status) = self.ended else { return };
        match self.trial.action {
            Action::Die if self.hit_at.is_some() && status.code().is_none() => {}
            Action::Fail if self.hit_at.is_some() => {
                let name = &self.trial.points[0].name;
                let word = self.last_word().unwrap_or("nothing");
                if !word.contains(&format!("failpoint {name}:")) {
                    self.complain(&format!("ended ({status}) and did not name the error; it said: {word}"));
                }
            }
            _ => self.complain(&format!("ended by itself: {status}")),
        }
    }

    /// What the node said when it first ended after its point had acted, or at all.
    fn last_word(&self) -> Option<&str> {
        let acted = self.said.find(&format!("failpoint {}: ", self.trial.points[0].name));
        let mut lines = self.said[acted.unwrap_or_default()..].lines();
        lines.find(|line| line.starts_with("muster: "))
    }

    fn complain(&self, what: &str) {
        let complaint = format!("{}: node {} {what}", self.trial, self.node);
        self.injector.world.complaints.add(complaint);
    }
}

/// What a point says that it does.
fn argument(action: Action) -> &'static str {
    match action {
        Action::Die => "die",
        Action::Fail => "error",
        Action::Pause => "pause",
    }
}

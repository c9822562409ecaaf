//! Processes of nodes killed, frozen, restarted.

use std::sync::PoisonError;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tokio::time::Instant;

use super::schedule::{Effect, Injector};
use super::{Clock, Disk, Fault};

/// Longest start of a node on a busy machine, its log read.
const BACK: Duration = Duration::from_mins(1);
/// Longest end of a node that cannot go on.
const ENDING: Duration = Duration::from_secs(6);
/// How often the leader is the one, in percent.
const LEADER: u32 = 60;

pub(super) async fn inject(injector: &Injector, fault: Fault, rng: &mut StdRng) -> Effect {
    match fault {
        Fault::KillTwo => {
            let mut ids = injector.net.ids().to_vec();
            ids.shuffle(rng);
            ids.truncate(2);
            kill(injector, &ids, 0, rng).await
        }
        Fault::KillAll => kill(injector, injector.net.ids(), 0, rng).await,
        Fault::KillStart => {
            let times = rng.random_range(1..4);
            kill(injector, &[injector.some_node(rng, LEADER)], times, rng).await
        }
        Fault::PowerCut => power_cut(injector, rng).await,
        Fault::ClockJump => clock_jump(injector, rng).await,
        Fault::DiskFull => disk_full(injector, rng).await,
        Fault::Pause => pause(injector, injector.some_node(rng, LEADER), rng).await,
        _ => kill(injector, &[injector.some_node(rng, LEADER)], 0, rng).await,
    }
}

/// Kills nodes, starts them again after a while and so often kills them in their start. It took effect if all ran
/// before and serve again after.
async fn kill(injector: &Injector, ids: &[u64], in_start: usize, rng: &mut StdRng) -> Effect {
    let together = rng.random_bool(0.5);
    let mut ran = true;
    for id in ids {
        ran &= injector.kill(*id);
        if !together && ids.len() < injector.net.ids().len() {
            pause_for(rng, 0..800).await;
        }
    }
    pause_for(rng, 0..2_500).await;
    for _ in 0..in_start {
        for id in ids {
            injector.start(*id);
        }
        pause_for(rng, 5..600).await;
        for id in ids {
            ran &= injector.kill(*id);
        }
    }
    for id in ids {
        injector.start(*id);
        if !together {
            pause_for(rng, 0..500).await;
        }
    }
    let mut back = true;
    for id in ids {
        back &= injector.wait_for(*id).await;
    }
    Effect {
        target: format!("{ids:?}, {in_start} times in its start"),
        took_effect: ran && back,
    }
}

/// Cuts the power of one node or of all. It took effect if all ran before, lost what they had not synced, and serve
/// again after.
async fn power_cut(injector: &Injector, rng: &mut StdRng) -> Effect {
    let one = injector.some_node(rng, LEADER);
    let all = rng.random_bool(0.4);
    let disks: Vec<&Disk> = injector.disks.iter().filter(|disk| all || disk.id() == one).collect();
    let mut good = true;
    for disk in &disks {
        injector.expect_down(disk.id());
        good &= disk.cut().is_ok();
    }
    // The processes may notice, and must not acknowledge anything more.
    pause_for(rng, 0..300).await;
    for disk in &disks {
        // It may have ended by itself when nothing could be written.
        injector.kill(disk.id());
        good &= disk.unmount().is_ok() && disk.mount().is_ok();
    }
    pause_for(rng, 0..1_500).await;
    for disk in &disks {
        injector.start(disk.id());
    }
    for disk in &disks {
        good &= injector.wait_for(disk.id()).await;
    }
    Effect {
        target: if all { "all nodes".into() } else { format!("node {one}") },
        took_effect: good && !disks.is_empty(),
    }
}

/// Leaves a node no room for a while. It took effect if the node ended for lack of it, and serves again after.
async fn disk_full(injector: &Injector, rng: &mut StdRng) -> Effect {
    let id = injector.some_node(rng, LEADER);
    let Some(disk) = injector.disks.iter().find(|disk| disk.id() == id) else {
        return Effect {
            target: "no disk".into(),
            took_effect: false,
        };
    };
    injector.expect_down(id);
    let filled = disk.fill().is_ok();
    // Longer than the state goes unflushed, as a rule.
    pause_for(rng, 3_000..14_000).await;
    let freed = disk.free().is_ok();
    // A node that has no room left may still be about to end.
    let mut ended = None;
    let end = Instant::now() + ENDING;
    while ended.is_none() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut cluster = injector.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        ended = cluster.ended(id);
    }
    injector.start(id);
    let back = injector.wait_for(id).await;
    let how = ended.map_or_else(|| "went on".into(), |status| format!("ended ({status})"));
    Effect {
        target: format!("node {id}, which {how}"),
        took_effect: filled && freed && back && ended.is_some(),
    }
}

/// Moves the clock of a node for a while. It took effect if the node ran and read it.
async fn clock_jump(injector: &Injector, rng: &mut StdRng) -> Effect {
    let id = injector.some_node(rng, LEADER);
    let seconds = rng.random_range(-30..=30);
    let clock = injector.clocks.iter().find(|clock| clock.id() == id);
    let set = clock.is_some_and(|clock| clock.set(seconds).is_ok());
    pause_for(rng, 500..5_000).await;
    let pid = injector.cluster.lock().unwrap_or_else(PoisonError::into_inner).pid(id);
    let read = pid.is_some_and(Clock::moves);
    let reset = clock.is_some_and(|clock| clock.set(0).is_ok());
    let back = injector.wait_for(id).await;
    Effect {
        target: format!("node {id} by {seconds} s"),
        took_effect: set && read && reset && back,
    }
}

/// Freezes a node for up to ten seconds. It took effect if the system says that it stood still, and it serves again
/// after.
async fn pause(injector: &Injector, id: u64, rng: &mut StdRng) -> Effect {
    let millis: u64 = if rng.random_bool(0.7) {
        rng.random_range(500..3_000)
    } else {
        rng.random_range(3_000..10_000)
    };
    let pid = {
        let cluster = injector.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = cluster.pid(id);
        if pid.is_some() {
            cluster.pause(id);
        }
        pid
    };
    tokio::time::sleep(Duration::from_millis(millis)).await;
    let stood = pid.is_some_and(is_stopped);
    if pid.is_some() {
        injector
            .cluster
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .resume(id);
    }
    let back = injector.wait_for(id).await;
    Effect {
        target: format!("node {id} for {millis} ms"),
        took_effect: stood && back,
    }
}

/// Whether the system shows a process as stopped.
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands after the name, which is in parentheses.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

async fn pause_for(rng: &mut StdRng, millis: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(millis))).await;
}

impl Injector {
    /// A node may end by itself until it is started again.
    fn expect_down(&self, id: u64) {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// SIGKILL. False: it did not run.
    fn kill(&self, id: u64) -> bool {
        self.expect_down(id);
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        let ran = cluster.ended(id).is_none() && cluster.pid(id).is_some();
        cluster.kill(id);
        ran
    }

    fn start(&self, id: u64) {
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        if cluster.pid(id).is_none() {
            cluster.start_node(id);
        }
        self.down.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Waits until a node answers. Its process has just been started or thawed, so an answer is a new one.
    async fn wait_for(&self, id: u64) -> bool {
        let end = Instant::now() + BACK;
        while Instant::now() < end {
            if self.observer.ask(id).await.is_some() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// Looks for nodes that ended by themselves, which none may, and starts them again.
    pub(crate) fn look_after(&self) {
        for id in self.net.ids() {
            if self.down.lock().unwrap_or_else(PoisonError::into_inner).contains(id) {
                continue;
            }
            let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = cluster.ended(*id) {
                self.world
                    .complaints
                    .add(format!("node {id} ended by itself: {status}; see node-{id}.log"));
                cluster.start_node(*id);
            }
        }
    }

    /// Everything passes, everything runs.
    pub(crate) async fn heal(&self) {
        self.net.heal();
        for id in self.net.ids() {
            self.start(*id);
        }
        for id in self.net.ids() {
            if !self.wait_for(*id).await {
                self.world
                    .complaints
                    .add(format!("node {id} does not answer {BACK:?} after the last fault"));
            }
        }
    }
}

//! Processes of nodes killed, frozen, restarted.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tokio::time::Instant;

use super::places::BACK;
use super::schedule::{Effect, Injector};
use super::{Clock, Disk, Fault};
use crate::damage;

/// Longest time from room on a disk to a node that sees it.
const ROOM_BACK: Duration = Duration::from_secs(5);
/// How often the leader is the one, in percent.
const LEADER: u32 = 60;

pub(super) async fn inject(injector: &Injector, fault: Fault, rng: &mut StdRng) -> Effect {
    match fault {
        Fault::KillTwo => {
            let mut ids = injector.net.ids();
            ids.shuffle(rng);
            ids.truncate(2);
            kill(injector, &ids, 0, rng).await
        }
        Fault::KillAll => kill(injector, &injector.net.ids(), 0, rng).await,
        Fault::KillStart => {
            let times = rng.random_range(1..4);
            kill(injector, &[injector.some_node(rng, LEADER)], times, rng).await
        }
        Fault::Damage => damage(injector, rng).await,
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
    let ids = injector.net.ids();
    let there = injector.disks.iter().filter(|disk| ids.contains(&disk.id()));
    let disks: Vec<&Disk> = there.filter(|disk| all || disk.id() == one).collect();
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

/// Leaves a node no room for a while, and looks after it as a supervisor does. It took effect if the node said so, or ended
/// for lack of it; when there is room again it must be of use within [`ROOM_BACK`], and nobody touches it.
async fn disk_full(injector: &Injector, rng: &mut StdRng) -> Effect {
    let id = injector.some_node(rng, LEADER);
    let Some(disk) = injector.disks.iter().find(|disk| disk.id() == id) else {
        return Effect {
            target: "no disk".into(),
            took_effect: false,
        };
    };
    // A write may still meet the end of the disk, and that ends the node.
    injector.expect_down(id);
    let filled = disk.fill().is_ok();
    // Longer than the state goes unflushed, as a rule.
    let full_until = Instant::now() + Duration::from_millis(rng.random_range(3_000..14_000));
    let (mut noticed, mut ended) = (false, 0);
    while Instant::now() < full_until {
        ended += u32::from(injector.supervise(id));
        noticed |= injector.room(id).await.is_some_and(|room| room == "out");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let freed = disk.free().is_ok();
    let since = Instant::now();
    let mut back = None;
    while back.is_none() && since.elapsed() < BACK && injector.stays(id) {
        ended += u32::from(injector.supervise(id));
        back = injector
            .room(id)
            .await
            .filter(|room| *room == "enough")
            .map(|_| since.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if freed && injector.stays(id) && back.is_none_or(|took| took > ROOM_BACK) {
        let complaint = format!("node {id} was of use again {back:?} after there was room, not within {ROOM_BACK:?}");
        injector.world.complaints.add(complaint);
    }
    injector.start(id);
    let back = injector.wait_for(id).await;
    Effect {
        target: format!("node {id}, which ended {ended} times"),
        took_effect: filled && freed && back && (noticed || ended > 0),
    }
}

/// Kills a node, damages its log or its state, and starts it again. It took effect if the node found the damage, and it must
/// have refilled itself within [`BACK`]: until then nothing else happens to nodes.
async fn damage(injector: &Injector, rng: &mut StdRng) -> Effect {
    let Ok(_held) = injector.data.try_lock() else {
        return Effect {
            target: "no node: the data of another is lost".into(),
            took_effect: false,
        };
    };
    let id = injector.some_node(rng, LEADER);
    let ran = injector.kill(id);
    let (data, before) = {
        let cluster = injector.cluster();
        if !cluster.has(id) {
            return Effect {
                target: format!("node {id}, which left"),
                took_effect: false,
            };
        }
        (cluster.data(id), found_damage(&cluster.log(id)))
    };
    let what = if rng.random_bool(0.5) { "log" } else { "state" };
    if what == "log" {
        damage::break_log(&data);
    } else {
        damage::break_state(&data);
    }
    pause_for(rng, 0..1_500).await;
    injector.start(id);
    let since = Instant::now();
    let mut whole = false;
    while !whole && since.elapsed() < BACK && injector.stays(id) {
        // Damage that is met late ends the node, and a supervisor starts it again.
        injector.expect_down(id);
        injector.supervise(id);
        whole = injector
            .observer
            .ask(id)
            .await
            .is_some_and(|status| !status.storage.refilling);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    injector.start(id);
    if !whole && injector.stays(id) {
        let complaint = format!("node {id} with a damaged {what} is not whole {BACK:?} later");
        injector.world.complaints.add(complaint);
    }
    let found = {
        let cluster = injector.cluster();
        cluster.has(id) && found_damage(&cluster.log(id)) > before
    };
    Effect {
        target: format!("{what} of node {id}"),
        took_effect: ran && whole && found,
    }
}

/// How often a node found its data damaged, by its log lines.
fn found_damage(log: &str) -> usize {
    log.matches("data is damaged").count()
}

/// Moves the clock of a node for a while. It took effect if the node ran and read it.
async fn clock_jump(injector: &Injector, rng: &mut StdRng) -> Effect {
    let id = injector.some_node(rng, LEADER);
    let seconds = rng.random_range(-30..=30);
    let clock = injector.clocks.iter().find(|clock| clock.id() == id);
    let set = clock.is_some_and(|clock| clock.set(seconds).is_ok());
    pause_for(rng, 500..5_000).await;
    let pid = injector.cluster().pid(id);
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
        let cluster = injector.cluster();
        let pid = cluster.pid(id);
        if pid.is_some() {
            cluster.pause(id);
        }
        pid
    };
    tokio::time::sleep(Duration::from_millis(millis)).await;
    let stood = pid.is_some_and(is_stopped);
    {
        let cluster = injector.cluster();
        if cluster.pid(id).is_some() {
            cluster.resume(id);
        }
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

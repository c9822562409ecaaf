//! How fast the log takes appends: `cargo run --release -p muster-store --example log_speed [directory]`.
//!
//! One caller waits for each append before the next ("waiting"), or keeps eight in flight ("8 in flight"), with entries
//! of 300 bytes. The rate of plain synced 4 KiB appends of the disk stands above: the ceiling of the first column.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use muster_store::{EntryKind, LogEntry, LogPosition, LogStore, Result, Store, StoreOptions, disk_sync_rate};

const SPAN: Duration = Duration::from_secs(2);
const ENTRY_BYTES: usize = 300;

fn main() -> Result<()> {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let dir = dir.join(format!("muster-log-speed-{}", std::process::id()));
    let store = Store::open(StoreOptions::new(&dir))?;
    println!("disk: {:.0} synced appends of 4 KiB per second", disk_sync_rate(&dir)?);
    println!(
        "{:>7} {:>9} {:>12} {:>12}",
        "entries", "in flight", "appends/s", "entries/s"
    );
    let mut next = 0;
    for entries in [1, 10, 100, 1000] {
        for in_flight in [1, 8] {
            let rate = measure(store.log(), &mut next, entries, in_flight)?;
            println!(
                "{entries:>7} {in_flight:>9} {rate:>12.0} {:>12.0}",
                rate * entries as f64
            );
        }
    }
    println!("disk: {:.0} synced appends of 4 KiB per second", disk_sync_rate(&dir)?);
    store.close()?;
    remove(&dir);
    Ok(())
}

fn measure(log: &LogStore, next: &mut u64, entries: u64, in_flight: u64) -> Result<f64> {
    let (done, wait) = sync_channel(64);
    let send = |next: &mut u64| {
        let done = done.clone();
        log.append(
            (*next..*next + entries).map(entry).collect(),
            Box::new(move |result| drop(done.send(result))),
        );
        *next += entries;
    };
    let start = Instant::now();
    for _ in 0..in_flight {
        send(next);
    }
    let mut appends = 0_u32;
    let mut waiting = in_flight;
    while waiting > 0 {
        let Ok(result) = wait.recv() else { break };
        result?;
        appends += 1;
        waiting -= 1;
        if start.elapsed() < SPAN {
            send(next);
            waiting += 1;
        }
    }
    Ok(f64::from(appends) / start.elapsed().as_secs_f64())
}

fn entry(index: u64) -> LogEntry {
    // Bytes that do not repeat, so that nothing below can compress them.
    let mut seed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let data = (0..ENTRY_BYTES).map(|_| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as u8
    });
    LogEntry {
        position: LogPosition {
            term: 1,
            node: 1,
            index,
        },
        kind: EntryKind::Commands,
        data: data.collect(),
    }
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        eprintln!("cannot remove {}: {error}", dir.display());
    }
}

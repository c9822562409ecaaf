//! What a cluster costs that has nothing to do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::Bench;
use crate::process;
use crate::report::Operation;

/// For what the work before left to do.
const SETTLE: Duration = Duration::from_secs(3);
/// CPU time is counted in steps of 10 ms per process; a shorter look could not see 1 %.
const SECONDS_MIN: u64 = 10;

pub(crate) async fn run(bench: &mut Bench) -> Result<Vec<Operation>> {
    ensure!(
        !bench.pids.is_empty(),
        "idle looks at the processes of the servers: it needs --spawn or --server-pids"
    );
    // This program asks nothing meanwhile.
    sleep(SETTLE).await;
    let time = Duration::from_secs(bench.args.seconds.max(SECONDS_MIN));
    let read = |bench: &Bench| process::cpu_seconds(&bench.pids).zip(process::written_bytes(&bench.pids));
    let before = read(bench).context("reading the CPU time of the servers")?;
    sleep(time).await;
    let after = read(bench).context("reading the CPU time of the servers")?;
    let one = |name: &str, unit, value| {
        let mut operation = Operation::new(name, unit);
        operation.values.push(value);
        operation
    };
    let mut all = vec![
        one(
            "idle: CPU of all servers, of one core",
            "%",
            (after.0 - before.0) * 100.0 / time.as_secs_f64(),
        ),
        one(
            "idle: written to the disk by all servers",
            "KiB/s",
            (after.1 - before.1) as f64 / 1_024.0 / time.as_secs_f64(),
        ),
    ];
    if let Some(mib) = process::memory_mib(&bench.pids) {
        all.push(one("idle: resident memory of all servers", "MiB", mib));
    }
    Ok(all)
}

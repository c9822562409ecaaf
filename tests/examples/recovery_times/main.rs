//! What each fault costs: jobs lost, time without an acknowledgement, time until the cluster is whole again.
//! `cargo run --release -p muster-tests --example recovery_times -- --times 20`. Prints a table; asserts only that nothing is lost.

#![allow(clippy::expect_used, reason = "a measurement that cannot go on ends")]

mod fault;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use muster_client::RawJob;
use muster_tests::{Call, PacedLoad, states};

use fault::{Fault, Site, Tried};

/// Callers at once, and the pause of each between two calls.
const CALLERS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(10);
/// Of undisturbed load between two tries.
const QUIET: Duration = Duration::from_millis(500);

#[derive(Parser)]
struct Args {
    /// Tries of each fault.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    times: u32,
    /// Only these, comma-separated; default: all
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
}

/// What came of all tries of a fault.
struct Row {
    fault: Fault,
    tried: usize,
    acknowledged: usize,
    lost: usize,
    gaps: Vec<f64>,
    whole: Vec<f64>,
}

/// The longest time without an acknowledgement that touches a span, in seconds.
fn gap(calls: &[Call], from: Instant, to: Instant) -> f64 {
    let mut ends: Vec<_> = calls.iter().map(Call::end).collect();
    ends.sort_unstable();
    let pairs = ends.windows(2).filter(|pair| pair[0] < to && pair[1] > from);
    pairs.map(|pair| (pair[1] - pair[0]).as_secs_f64()).fold(0.0, f64::max)
}

async fn measure(fault: Fault, times: u32) -> Row {
    let mut site = Site::new(fault).await;
    let client = site.cluster.client().await;
    let load = PacedLoad::start(&client, CALLERS, PAUSE, &RawJob::new("measured", vec![7; 256]));
    let mut tries: Vec<Tried> = Vec::new();
    for number in 1..=times {
        tokio::time::sleep(QUIET).await;
        tries.push(fault.inject(&mut site, &client).await);
        eprintln!("{} {number} of {times}", fault.name());
    }
    tokio::time::sleep(QUIET).await;
    let calls = load.stop().await;
    let ids: BTreeSet<_> = calls.iter().map(|call| call.id.clone()).collect();
    let found: BTreeSet<_> = states(&client).await.into_iter().map(|(id, _)| id).collect();
    Row {
        fault,
        tried: tries.len(),
        acknowledged: ids.len(),
        lost: ids.difference(&found).count(),
        gaps: tries
            .iter()
            .map(|tried| gap(&calls, tried.begun, tried.whole))
            .collect(),
        whole: tries
            .iter()
            .map(|tried| (tried.whole - tried.repaired).as_secs_f64())
            .collect(),
    }
}

/// Median, least and most.
fn spread(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    format!(
        "{:.2} s ({:.2} to {:.2})",
        at(sorted.len() / 2),
        at(0),
        at(sorted.len().saturating_sub(1))
    )
}

fn main() {
    let args = Args::parse();
    let faults = if args.faults.is_empty() {
        Fault::value_variants().to_vec()
    } else {
        args.faults.clone()
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut lost = 0;
    println!("| Fault | Tried | Acknowledged meanwhile | Lost | Nothing acknowledged for | Whole again after |");
    println!("|---|---|---|---|---|---|");
    for fault in faults {
        if let Some(need) = fault.lacking() {
            println!("| {} | skipped: needs {need} | | | | |", fault.name());
            continue;
        }
        let row = runtime.block_on(measure(fault, args.times));
        lost += row.lost;
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            row.fault.name(),
            row.tried,
            row.acknowledged,
            row.lost,
            spread(&row.gaps),
            spread(&row.whole)
        );
    }
    assert_eq!(lost, 0, "acknowledged jobs are gone");
}

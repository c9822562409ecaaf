//! What a run came to, as a record of evidence.

use muster_sim::evidence::{Campaign, Chaos, Found, judged};

use crate::chaos::{Fault, Options, Report};

/// The record of a run that ends now.
pub fn campaign(options: &Options, report: &Report) -> Campaign {
    let faults = report.faults.iter().map(|(fault, count)| {
        let counts = [count.injected, count.took_effect];
        (fault.name().to_owned(), counts)
    });
    let calls = report.calls.iter().map(|(kind, counts)| {
        let kind = serde_json::to_value(kind).ok();
        let name = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default();
        (name.to_owned(), *counts)
    });
    let chaos = Chaos {
        nodes: options.nodes as u64,
        seed: report.seed,
        faults: faults.collect(),
        calls: calls.collect(),
        leaders: report.leaders as u64,
        recorded: report.recorded,
        gap_ms: report.gap.0.as_millis() as u64,
        drained_ms: report.drained_after.as_millis() as u64,
        judged: judged(&report.tally),
        complaints: report.complaints.clone(),
    };
    Campaign::ended(
        command(options),
        report.time.as_secs_f64(),
        Found::Chaos(Box::new(chaos)),
    )
}

/// What repeats a run.
fn command(options: &Options) -> String {
    let minutes = (options.time.as_secs_f64() / 6.0).round() / 10.0;
    let mut command = format!(
        "scripts/chaos --minutes {minutes} --nodes {} --seed {} --rate {}",
        options.nodes, options.seed, options.rate
    );
    let usual: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| !fault.is_special()).collect();
    if options.faults != usual {
        let names: Vec<&str> = options.faults.iter().map(|fault| fault.name()).collect();
        command.push_str(" --faults ");
        command.push_str(&names.join(","));
    }
    command
}

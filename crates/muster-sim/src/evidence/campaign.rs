//! One campaign: a program run once to look for what is wrong.

use std::collections::BTreeMap;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Tally;

/// One campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Campaign {
    /// What repeats it, from the root of the repository.
    pub command: String,
    /// Commit, with `+` behind it when files were changed.
    pub commit: String,
    /// Day of its end, UTC.
    pub day: String,
    /// How long it went on: faults and load, or computing.
    pub seconds: f64,
    /// Mean number of busy processes in the last minute, over that of processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<String>,
    /// Copied by hand from what a program printed before records were kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copied: bool,
    /// For readers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What was looked at and found.
    pub found: Found,
}

/// What a campaign looked at and found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Found {
    /// Real processes under faults.
    Chaos(Box<Chaos>),
    /// Seeds of the simulator of the core.
    Simulation(Box<Simulation>),
    /// Bugs put in on purpose.
    Defects(Vec<DefectFound>),
    /// Hostile bytes for decoders.
    Fuzzing(Vec<FuzzTarget>),
    /// Failpoints of real processes.
    Failpoints {
        /// What was seen meanwhile.
        chaos: Box<Chaos>,
        /// By the point's name, then by action and node.
        points: BTreeMap<String, BTreeMap<String, Passed>>,
    },
}

/// What became of a failpoint that was armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passed {
    /// How often it acted.
    pub hits: u64,
    /// The process ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// Real processes under faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chaos {
    /// Nodes.
    pub nodes: u64,
    /// Seed.
    pub seed: u64,
    /// By name: injected, took effect.
    pub faults: BTreeMap<String, [u64; 2]>,
    /// By kind: done, not done, unknown.
    pub calls: BTreeMap<String, [u64; 3]>,
    /// Leaders elected.
    pub leaders: u64,
    /// Entries that nodes recorded as applied.
    pub recorded: u64,
    /// Longest time without an acknowledged enqueue.
    pub gap_ms: u64,
    /// From the end of the last fault until all work was done.
    pub drained_ms: u64,
    /// By checker.
    pub judged: BTreeMap<String, Judged>,
    /// What else was wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub complaints: Vec<String>,
}

/// Seeds of the simulator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulation {
    /// First seed, and the one after the last.
    pub seeds: [u64; 2],
    /// Histories judged by all checkers.
    pub histories: u64,
    /// Commands applied, by all nodes together.
    pub applied: u64,
    /// Calls of clients.
    pub calls: u64,
    /// By kind: injected, took effect.
    pub faults: BTreeMap<String, [u64; 2]>,
    /// By checker.
    pub judged: BTreeMap<String, Judged>,
    /// Seeds that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<u64>,
}

/// What one checker looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// Things.
    pub things: u64,
    /// Contradictions among them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub violations: u64,
}

/// A bug put in on purpose, and who found it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefectFound {
    /// Its name.
    pub name: String,
    /// Where it sits.
    pub place: String,
    /// What it does.
    pub what: String,
    /// Found by checkers of the history, or because the run stopped.
    pub history: Option<Detected>,
    /// Found by recounts inside the simulator, which no real cluster has.
    pub recounts: Option<Detected>,
}

/// By whom something was found, and what it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detected {
    /// Checkers.
    pub by: Vec<String>,
    /// Seeds until it was found first.
    pub seeds: u64,
    /// Seconds until then.
    pub seconds: f64,
}

/// A target of fuzzing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FuzzTarget {
    /// Its name.
    pub name: String,
    /// Inputs tried.
    pub inputs: u64,
    /// How long.
    pub seconds: u64,
    /// Edges of code reached.
    pub edges: u64,
    /// Inputs that were kept since each reaches something that no other does.
    pub corpus: u64,
    /// Inputs on which the target failed.
    pub failures: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Campaign {
    /// A campaign that ends now, of the commit of the working directory.
    pub fn ended(command: String, seconds: f64, found: Found) -> Self {
        Self {
            command,
            commit: commit(),
            day: today(),
            seconds: (seconds * 10.0).round() / 10.0,
            load: load(),
            copied: false,
            note: String::new(),
            found,
        }
    }
}

/// What each checker looked at.
pub fn judged(tally: &Tally) -> BTreeMap<String, Judged> {
    let verdicts = tally.verdicts.iter().map(|verdict| {
        let judged = Judged {
            things: verdict.judged,
            violations: verdict.total,
        };
        (verdict.id.to_owned(), judged)
    });
    verdicts.collect()
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    // What campaigns themselves append is no change of what was run.
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ":!docs"]);
    let mark = if changed.is_some_and(|files| files.is_empty()) {
        ""
    } else {
        "+"
    };
    format!("{commit}{mark}")
}

fn load() -> Option<String> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let busy = text.split(' ').next()?;
    let processors = std::thread::available_parallelism().ok()?;
    Some(format!("{busy}/{processors}"))
}

/// The date of today, UTC.
fn today() -> String {
    let now = jiff::Timestamp::now();
    jiff::tz::TimeZone::UTC.to_datetime(now).date().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_comes_back() {
        let chaos = Chaos {
            nodes: 3,
            judged: [(
                "I1".into(),
                Judged {
                    things: 7,
                    violations: 1,
                },
            )]
            .into(),
            ..Chaos::default()
        };
        let campaign = Campaign::ended("scripts/chaos".into(), 1.25, Found::Chaos(Box::new(chaos)));
        let text = serde_json::to_string(&campaign).unwrap();
        assert_eq!(serde_json::from_str::<Campaign>(&text).unwrap(), campaign);
        assert!(serde_json::from_str::<Campaign>(&text.replace("nodes", "knots")).is_err());
    }
}

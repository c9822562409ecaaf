//! All trials, one after the other, on a few clusters.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::outcome::Outcome;
use super::plan::{Trial, trials};
use super::points::points;
use super::trial::{self, Tried};
use crate::chaos::Options;
use crate::chaos::run::Running;

/// A cluster is ended and judged after this, so that what is found is near its cause.
const LIFE: Duration = Duration::from_mins(4);

/// What a campaign is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Points whose names contain this.
    pub only: String,
    /// No new trial is begun after this.
    pub time: Option<Duration>,
    /// Decides the load.
    pub seed: u64,
    /// Calls per second of all clients together.
    pub rate: u32,
    /// Where everything is kept; `None`: only if something is wrong.
    pub keep: Option<PathBuf>,
}

impl Settings {
    /// What repeats a campaign.
    pub(super) fn command(&self) -> String {
        let mut command = format!("scripts/failpoints --seed {} --rate {}", self.seed, self.rate);
        // Writing to a string cannot fail.
        if !self.only.is_empty() {
            let _ = write!(command, " --only {}", self.only);
        }
        if let Some(time) = self.time {
            let _ = write!(command, " --minutes {}", time.as_secs_f64() / 60.0);
        }
        command
    }

    /// Of one of its clusters.
    fn life(&self, number: u64) -> Options {
        Options {
            // What is demanded of the load; a life with few trials is short.
            time: Duration::from_secs(10),
            nodes: 3,
            seed: self.seed + number,
            faults: Vec::new(),
            rate: self.rate,
            keep: self.keep.clone(),
            progress: false,
            failpoints: true,
        }
    }
}

/// Makes all trials and has what was seen judged.
pub async fn run(settings: &Settings) -> Outcome {
    let begun = Instant::now();
    let mut all = points();
    all.retain(|point| point.name.contains(&settings.only));
    let trials = trials(&all);
    let mut outcome = Outcome {
        points: all,
        tried: BTreeMap::new(),
        left: trials.len(),
        lives: Vec::new(),
        time: Duration::ZERO,
    };
    let over = || settings.time.is_some_and(|time| begun.elapsed() >= time);
    let mut open = trials.iter().enumerate().peekable();
    while open.peek().is_some() && !over() {
        let number = outcome.lives.len() as u64;
        let running = Running::begin(&settings.life(number)).await;
        let born = Instant::now();
        while born.elapsed() < LIFE
            && !over()
            && let Some((at, trial)) = open.next()
        {
            let tried = trial::make(&running.injector, trial, at as u64).await;
            say(trial, &tried, at + 1, trials.len());
            for (point, hits) in trial.points.iter().zip(tried.hits) {
                let key = (point.name.clone(), trial.action, trial.role);
                outcome.tried.insert(key, (hits, tried.ended));
            }
            outcome.left -= 1;
        }
        eprintln!("healing, draining, judging");
        outcome.lives.push(running.end().await);
    }
    outcome.time = begun.elapsed();
    outcome
}

fn say(trial: &Trial, tried: &Tried, number: usize, of: usize) {
    let hit = tried.hits.iter().filter(|hits| **hits > 0).count();
    let what = match (hit, tried.ended) {
        (0, _) => "NOT HIT".to_owned(),
        (_, true) => "hit, and it ended".to_owned(),
        (hit, false) => format!("{hit} of {} hit", tried.hits.len()),
    };
    let line = format!(
        "{number:>4} of {of}: {trial}, node {}: {what}, {:.1} s",
        tried.node,
        tried.took.as_secs_f64()
    );
    let mut out = std::io::stderr();
    // What was not hit stays to be read.
    let _ = if out.is_terminal() && hit > 0 {
        write!(out, "\r\x1b[K{line}")
    } else {
        writeln!(out, "{line}")
    };
    let _ = out.flush();
}

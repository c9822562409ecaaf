//! What came of a campaign.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use muster_sim::evidence::{Campaign, Chaos, Found, Judged, Passed, judged};

use super::campaign::Settings;
use super::plan::{Action, OUT_OF_REACH, Role};
use super::points::Point;
use crate::chaos::Report;

/// What came of a campaign.
pub struct Outcome {
    pub(super) points: Vec<Point>,
    /// By name, action and role: how often the point acted, and whether the process ended.
    pub(super) tried: BTreeMap<(String, Action, Role), (u64, bool)>,
    /// Trials that there was no time for.
    pub(super) left: usize,
    /// Of each life of a cluster.
    pub(super) lives: Vec<Report>,
    pub(super) time: Duration,
}

impl Outcome {
    /// All points that were tried were hit, or are known to be out of reach, and nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.never().is_empty() && self.lives.iter().all(Report::is_good)
    }

    /// Where logs, data and histories of lives lie in which something was wrong.
    pub fn kept(&self) -> impl Iterator<Item = &std::path::Path> {
        self.lives.iter().filter_map(|life| life.kept.as_deref())
    }

    fn hits(&self, point: &Point) -> u64 {
        let tries = self.tries(point);
        tries.map(|(_, (hits, _))| hits).sum()
    }

    fn tries(&self, point: &Point) -> impl Iterator<Item = ((Action, Role), (u64, bool))> {
        let ours = self.tried.iter().filter(|((name, ..), _)| *name == point.name);
        ours.map(|((_, action, role), tried)| ((*action, *role), *tried))
    }

    /// Points that were tried, never hit, and should have been.
    fn never(&self) -> Vec<&Point> {
        let reached = |point: &&Point| self.hits(point) > 0 || self.tries(point).next().is_none();
        let known = |point: &&Point| OUT_OF_REACH.iter().any(|(name, _)| *name == point.name);
        let all = self.points.iter();
        all.filter(|point| !reached(point) && !known(point)).collect()
    }

    /// In words: what an action did to a point on each node.
    fn cell(&self, point: &Point, wanted: Action) -> String {
        let tries = self.tries(point).filter(|((action, _), _)| *action == wanted);
        let words = tries.map(|((_, role), tried)| {
            let what = match tried {
                (0, _) => "NOT HIT".to_owned(),
                (_, true) if wanted == Action::Fail => "ended".to_owned(),
                (_, true) => "died".to_owned(),
                (hits, false) => format!("{hits}×"),
            };
            format!("{} {what}", role.name())
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// The record of a campaign that ends now.
    pub fn campaign(&self, settings: &Settings) -> Campaign {
        let mut chaos = Chaos {
            nodes: 3,
            seed: settings.seed,
            ..Chaos::default()
        };
        for life in &self.lives {
            add(&mut chaos, life);
        }
        let mut points: BTreeMap<String, BTreeMap<String, Passed>> = BTreeMap::new();
        for point in self.points.iter().filter(|point| self.tries(point).next().is_some()) {
            points.insert(point.name.clone(), BTreeMap::new());
        }
        for ((name, action, role), (hits, ended)) in &self.tried {
            let counts = chaos.faults.entry(format!("failpoint: {}", action.name())).or_default();
            counts[0] += 1;
            counts[1] += u64::from(*hits > 0);
            let passed = Passed {
                hits: *hits,
                ended: *ended,
            };
            let place = points.entry(name.clone()).or_default();
            place.insert(format!("{} {}", action.name(), role.name()), passed);
        }
        Campaign::ended(
            settings.command(),
            self.time.as_secs_f64(),
            Found::Failpoints {
                chaos: Box::new(chaos),
                points,
            },
        )
    }
}

/// Adds what one life came to.
fn add(sum: &mut Chaos, life: &Report) {
    for (kind, counts) in &life.calls {
        let kind = serde_json::to_value(kind).ok();
        let name = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default();
        let all = sum.calls.entry(name.to_owned()).or_default();
        all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    sum.leaders += life.leaders as u64;
    sum.recorded += life.recorded;
    sum.gap_ms = sum.gap_ms.max(life.gap.0.as_millis() as u64);
    sum.drained_ms = sum.drained_ms.max(life.drained_after.as_millis() as u64);
    for (checker, found) in judged(&life.tally) {
        let all: &mut Judged = sum.judged.entry(checker).or_default();
        all.things += found.things;
        all.violations += found.violations;
    }
    sum.complaints.extend(life.complaints.iter().cloned());
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .points
            .iter()
            .map(|point| point.name.len())
            .max()
            .unwrap_or_default();
        writeln!(f, "{:width$}  {:32}  {:38}  pause", "point", "die", "fail")?;
        for point in &self.points {
            let [die, fail, pause] = Action::ALL.map(|action| self.cell(point, action));
            let fail = if point.fails { fail } else { "–".to_owned() };
            writeln!(f, "{:width$}  {die:32}  {fail:38}  {pause}", point.name)?;
        }
        let hit = self.points.iter().filter(|point| self.hits(point) > 0).count();
        let acted: u64 = self.tried.values().map(|(hits, _)| hits).sum();
        let ended = self.tried.values().filter(|(_, ended)| *ended).count();
        let missed = self.tried.values().filter(|(hits, _)| *hits == 0).count();
        writeln!(
            f,
            "\n{hit} of {} points hit, {acted} times; {} of {} combinations of point, action and node; processes ended {ended} times; \
             {:.1} min",
            self.points.len(),
            self.tried.len() - missed,
            self.tried.len(),
            self.time.as_secs_f64() / 60.0
        )?;
        let things: u64 = self
            .lives
            .iter()
            .map(|life| life.tally.verdicts.iter().map(|verdict| verdict.judged).sum::<u64>())
            .sum();
        let calls: u64 = self.lives.iter().flat_map(|life| life.calls.values()).flatten().sum();
        let violations: u64 = self.lives.iter().map(|life| life.tally.violations()).sum();
        writeln!(
            f,
            "{} clusters, {calls} calls, {things} things judged, {violations} violations",
            self.lives.len()
        )?;
        for life in self.lives.iter().filter(|life| life.tally.violations() > 0) {
            write!(f, "{}", life.tally)?;
        }
        for complaint in self.lives.iter().flat_map(|life| &life.complaints) {
            writeln!(f, "wrong: {complaint}")?;
        }
        for point in self.never() {
            writeln!(f, "never hit: {} ({})", point.name, point.file)?;
        }
        for (name, reason) in OUT_OF_REACH {
            let hits = self
                .points
                .iter()
                .find(|point| point.name == *name)
                .map(|point| self.hits(point));
            match hits {
                Some(0) => writeln!(f, "out of reach: {name}: {reason}")?,
                Some(_) => writeln!(f, "{name} was hit, so it is not out of reach")?,
                None => {}
            }
        }
        if self.left > 0 {
            writeln!(f, "no time was left for {} trials", self.left)?;
        }
        write!(
            f,
            "{}",
            if self.is_good() {
                "Nothing is wrong."
            } else {
                "Something is wrong."
            }
        )
    }
}

//! Running sums over all campaigns.

use std::collections::BTreeMap;

use crate::evidence::{Campaign, Chaos, Found, FuzzTarget, Judged, Passed, Simulation};

/// Sums of one ring.
#[derive(Default)]
pub(super) struct Ring {
    pub(super) campaigns: u64,
    pub(super) seconds: f64,
    pub(super) histories: u64,
    pub(super) applied: u64,
    pub(super) calls: u64,
    pub(super) unknown: u64,
    /// By kind: injected, took effect.
    pub(super) faults: BTreeMap<String, [u64; 2]>,
    pub(super) judged: BTreeMap<String, Judged>,
    /// Campaigns or seeds in which something was wrong.
    pub(super) failed: u64,
}

impl Ring {
    pub(super) fn things(&self) -> u64 {
        self.judged.values().map(|judged| judged.things).sum()
    }

    pub(super) fn faults_all(&self) -> [u64; 2] {
        let sum = |at: usize| self.faults.values().map(|counts| counts[at]).sum();
        [sum(0), sum(1)]
    }

    fn add(&mut self, seconds: f64, faults: &BTreeMap<String, [u64; 2]>, judged: &BTreeMap<String, Judged>) {
        self.campaigns += 1;
        self.seconds += seconds;
        for (kind, counts) in faults {
            let sum = self.faults.entry(kind.clone()).or_default();
            *sum = [sum[0] + counts[0], sum[1] + counts[1]];
        }
        for (checker, judged) in judged {
            let sum = self.judged.entry(checker.clone()).or_default();
            sum.things += judged.things;
            sum.violations += judged.violations;
        }
    }

    fn chaos(&mut self, seconds: f64, chaos: &Chaos) {
        self.add(seconds, &chaos.faults, &chaos.judged);
        self.histories += 1;
        self.applied += chaos.recorded;
        self.calls += chaos.calls.values().flatten().sum::<u64>();
        self.unknown += chaos.calls.values().map(|counts| counts[2]).sum::<u64>();
        self.failed += u64::from(!good(chaos));
    }

    fn simulation(&mut self, seconds: f64, simulation: &Simulation) {
        self.add(seconds, &simulation.faults, &simulation.judged);
        self.histories += simulation.histories;
        self.applied += simulation.applied;
        self.calls += simulation.calls;
        self.failed += simulation.failed.len() as u64;
    }
}

/// Nothing was wrong.
pub(super) fn good(chaos: &Chaos) -> bool {
    chaos.complaints.is_empty() && chaos.judged.values().all(|judged| judged.violations == 0)
}

/// Sums of all rings.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) chaos: Ring,
    pub(super) simulation: Ring,
    pub(super) fuzzing: BTreeMap<String, FuzzTarget>,
    /// By point, then by action.
    pub(super) failpoints: BTreeMap<String, BTreeMap<String, Acted>>,
}

/// What a failpoint did over all campaigns, armed with one action.
#[derive(Default)]
pub(super) struct Acted {
    pub(super) hits: u64,
    pub(super) ended: u64,
}

impl Sums {
    pub(super) fn of(campaigns: &[Campaign]) -> Self {
        let mut sums = Self::default();
        for campaign in campaigns {
            match &campaign.found {
                Found::Chaos(chaos) => sums.chaos.chaos(campaign.seconds, chaos),
                Found::Simulation(simulation) => sums.simulation.simulation(campaign.seconds, simulation),
                Found::Failpoints { chaos, points } => {
                    sums.chaos.chaos(campaign.seconds, chaos);
                    sums.failpoints(points);
                }
                Found::Defects(_) => {}
                Found::Fuzzing(targets) => targets.iter().for_each(|target| sums.fuzz(target)),
            }
        }
        sums
    }

    fn failpoints(&mut self, points: &BTreeMap<String, BTreeMap<String, Passed>>) {
        for (point, places) in points {
            let sum = self.failpoints.entry(point.clone()).or_default();
            for (place, passed) in places {
                // "die leader"
                let action = place.split(' ').next().unwrap_or_default();
                let acted = sum.entry(action.to_owned()).or_default();
                acted.hits += passed.hits;
                acted.ended += u64::from(passed.ended);
            }
        }
    }

    /// Inputs and time add up; what was reached is that of the last run.
    fn fuzz(&mut self, target: &FuzzTarget) {
        let before = self.fuzzing.get(&target.name);
        let sum = FuzzTarget {
            inputs: target.inputs + before.map_or(0, |before| before.inputs),
            seconds: target.seconds + before.map_or(0, |before| before.seconds),
            failures: target.failures + before.map_or(0, |before| before.failures),
            ..target.clone()
        };
        self.fuzzing.insert(target.name.clone(), sum);
    }
}

//! How much was started behind limits, judged from what the nodes of a cluster recorded of their log: over every window
//! of the log's own time, and at every moment.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use muster_sim::history::{AcceptedJob, Applied, AppliedReader, Effect, Id, JobState, LimitLevel, Name, RateLimit};

/// One limiter: level, tenant (none for the cluster) and name (none for cluster and tenant).
pub type Limiter = (LimitLevel, Name, Name);

/// The log, as the nodes recorded it in `dir`: each entry once, in order. An error if an entry is missing, or if two
/// nodes saw it differently.
pub fn recorded_log(dir: &Path, nodes: &[u64]) -> Result<Vec<Applied>, String> {
    let mut log: BTreeMap<u64, Applied> = BTreeMap::new();
    for node in nodes {
        for entry in AppliedReader::open(dir, *node) {
            let entry = entry.map_err(|malformed| format!("what node {node} recorded: {malformed}"))?;
            let index = entry.index;
            let known = log.entry(index).or_insert_with(|| entry.clone());
            let same = (known.term, known.digest, known.now, known.hash)
                == (entry.term, entry.digest, entry.now, entry.hash)
                && known.effects == entry.effects;
            if !same {
                return Err(format!(
                    "nodes {} and {node} differ about log index {index}",
                    known.node
                ));
            }
        }
    }
    let gap = log
        .keys()
        .zip(log.keys().skip(1))
        .find(|(one, next)| **next != **one + 1);
    match gap {
        Some((one, next)) => Err(format!("no node recorded what is between log index {one} and {next}")),
        None => Ok(log.into_values().collect()),
    }
}

/// What happened behind each limiter.
#[derive(Default)]
pub struct Starts {
    rated: HashMap<Limiter, Vec<(u64, u64)>>,
    most_at_once: HashMap<Limiter, u32>,
}

impl Starts {
    /// Reads it from a log: starts are its grants, at the replicated time of their entries.
    pub fn of(log: &[Applied]) -> Self {
        let mut starts = Self::default();
        let mut live: HashMap<Id, (Vec<(Limiter, u32)>, bool)> = HashMap::new();
        let mut running: HashMap<Limiter, u32> = HashMap::new();
        for entry in log {
            for effect in &entry.effects {
                match effect {
                    Effect::Accepted(job) => {
                        live.insert(job.job, (limiters(job), false));
                    }
                    Effect::Granted { job, .. } => {
                        for (limiter, cost) in live.get(job).map(|(own, _)| own.as_slice()).unwrap_or_default() {
                            let taken = starts.rated.entry(limiter.clone()).or_default();
                            taken.push((entry.now, u64::from(*cost)));
                        }
                    }
                    Effect::Entered { job, state } | Effect::Ended { job, state, .. } => {
                        let Some((own, runs)) = live.get_mut(job) else { continue };
                        let was = std::mem::replace(runs, *state == JobState::Running);
                        for (limiter, _) in own.iter().filter(|_| was != *runs) {
                            let count = running.entry(limiter.clone()).or_default();
                            *count = if was { *count - 1 } else { *count + 1 };
                            let most = starts.most_at_once.entry(limiter.clone()).or_default();
                            *most = (*most).max(*count);
                        }
                        if state.is_terminal() {
                            live.remove(job);
                        }
                    }
                    _ => {}
                }
            }
        }
        starts
    }

    /// Limiters of a level behind which something started and whose names begin so, in order.
    pub fn limiters(&self, level: LimitLevel, names: &str) -> Vec<Limiter> {
        let all = self
            .rated
            .keys()
            .filter(|(at, _, name)| *at == level && name.starts_with(names));
        let mut all: Vec<_> = all.cloned().collect();
        all.sort_by(|one, other| (&one.1, &one.2).cmp(&(&other.1, &other.2)));
        all
    }

    /// When the starts behind a limiter were, and what each took.
    pub fn rated(&self, limiter: &Limiter) -> &[(u64, u64)] {
        self.rated.get(limiter).map(Vec::as_slice).unwrap_or_default()
    }

    /// Most jobs that ran at once behind a limiter.
    pub fn most_at_once(&self, limiter: &Limiter) -> u32 {
        self.most_at_once.get(limiter).copied().unwrap_or_default()
    }
}

fn limiters(job: &AcceptedJob) -> Vec<(Limiter, u32)> {
    let none: Name = "".into();
    let cost = job.claims.cost;
    let tenant = || job.tenant.clone();
    let mut all = vec![
        ((LimitLevel::Cluster, none.clone(), none.clone()), cost),
        ((LimitLevel::Tenant, tenant(), none), cost),
        ((LimitLevel::Queue, tenant(), job.queue.clone()), cost),
        ((LimitLevel::Kind, tenant(), job.kind.clone()), cost),
    ];
    let keys = job.claims.limit_keys.iter();
    all.extend(keys.map(|(key, cost)| ((LimitLevel::Key, tenant(), key.clone()), *cost)));
    all
}

/// Tokens by which the fullest of all windows is over `burst + count × length / period`, rounded up; 0: none is. Starts
/// are times in milliseconds, in order, each with its tokens. A window holds both its ends.
pub fn excess(rate: RateLimit, starts: &[(u64, u64)]) -> u64 {
    let (count, period, burst) = (i128::from(rate.count), i128::from(rate.period), i128::from(rate.burst));
    // What a window is over depends on its first and last start alone, and is the difference of one term of each: so
    // the least term of all first starts up to a last one decides, and one pass looks at every window.
    let (mut before, mut least, mut most) = (0_i128, i128::MAX, 0_i128);
    for (at, tokens) in starts {
        let filled = count * i128::from(*at);
        least = least.min(before * period - filled);
        before += i128::from(*tokens);
        most = most.max(before * period - filled - least - burst * period);
    }
    u64::try_from((most + period - 1) / period).unwrap_or(u64::MAX)
}

/// Most tokens taken in any window as long as one period.
pub fn most_in_a_period(rate: RateLimit, starts: &[(u64, u64)]) -> u64 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for (at, tokens) in starts {
        sum += tokens;
        while at - starts[first].0 > rate.period {
            sum -= starts[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

#[cfg(test)]
mod tests {
    use muster_sim::history::{Backoff, Claims, Priority};

    use super::*;

    const RATE: RateLimit = RateLimit {
        count: 10,
        period: 1_000,
        burst: 3,
    };

    fn single(times: &[u64]) -> Vec<(u64, u64)> {
        times.iter().map(|at| (*at, 1)).collect()
    }

    #[test]
    fn a_bucket_that_is_used_up_is_not_exceeded() {
        // Three at once, then one every 100 ms, a rest, and three at once again.
        let starts = single(&[0, 0, 0, 100, 200, 300, 400, 900, 900, 900, 1_000]);
        assert_eq!(excess(RATE, &starts), 0);
        assert_eq!(most_in_a_period(RATE, &starts), 11);
        let less = RateLimit { burst: 2, ..RATE };
        assert_eq!(excess(less, &starts), 1, "the burst is used in full");
    }

    #[test]
    fn one_start_too_early_by_a_millisecond_is_seen() {
        assert_eq!(excess(RATE, &single(&[0, 0, 0, 99])), 1);
        // Also when only a long window shows it.
        let mut times = vec![0, 0];
        times.extend((1..500).map(|number| number * 100));
        assert_eq!(excess(RATE, &single(&times)), 0);
        times.extend([49_900, 49_999]);
        assert_eq!(excess(RATE, &single(&times)), 1);
    }

    #[test]
    fn every_window_is_looked_at() {
        // Against the definition, over all pairs of starts.
        let mut number = 7_u64;
        for _ in 0..2_000 {
            let mut at = 0;
            let mut starts = Vec::new();
            for _ in 0..12 {
                number = number
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                at += (number >> 33) % 180;
                starts.push((at, 1 + (number >> 60) % 3));
            }
            let mut most = 0;
            for first in 0..starts.len() {
                for last in first..starts.len() {
                    let tokens: u64 = starts[first..=last].iter().map(|(_, tokens)| tokens).sum();
                    let length = starts[last].0 - starts[first].0;
                    let over = (tokens * RATE.period).saturating_sub(u64::from(RATE.burst) * RATE.period + 10 * length);
                    most = most.max(over.div_ceil(RATE.period));
                }
            }
            assert_eq!(excess(RATE, &starts), most, "{starts:?}");
        }
    }

    #[test]
    fn starts_and_what_runs_are_counted_behind_every_limiter() {
        let id = Id;
        let accepted = |job| {
            Effect::Accepted(Box::new(AcceptedJob {
                job,
                tenant: "t".into(),
                queue: "q".into(),
                kind: "k".into(),
                claims: Claims {
                    cost: 2,
                    limit_keys: vec![("key".into(), 3)],
                    ..Claims::default()
                },
                redrives: None,
                state: JobState::Available,
                due: 0,
                max_attempts: 1,
                max_crashes: 1,
                backoff: Backoff::Fixed { delay: 0 },
                bytes: 0,
                priority: Priority::default(),
                version: 1,
                attempt_timeout: 0,
                expires_in: 0,
                required_labels: vec![],
                preferred_labels: vec![],
                slots: 1,
            }))
        };
        let runs = |job, state| Effect::Entered { job, state };
        let granted = |job, fence| Effect::Granted {
            job,
            fence,
            attempt: 1,
            session: Id(7),
        };
        let entry = |index, effects| Applied {
            at: 0,
            node: 1,
            life: 1,
            index,
            term: 1,
            digest: 0,
            now: index * 10,
            hash: 0,
            effects,
        };
        let log = vec![
            entry(1, vec![accepted(id(1)), accepted(id(2))]),
            entry(2, vec![granted(id(1), 1), runs(id(1), JobState::Running)]),
            entry(
                3,
                vec![
                    granted(id(2), 2),
                    runs(id(2), JobState::Running),
                    runs(id(1), JobState::Retrying),
                ],
            ),
            entry(4, vec![granted(id(1), 3), runs(id(1), JobState::Running)]),
        ];
        let starts = Starts::of(&log);
        let key = (LimitLevel::Key, Name::from("t"), Name::from("key"));
        assert_eq!(starts.limiters(LimitLevel::Key, "k"), std::slice::from_ref(&key));
        assert_eq!(starts.rated(&key), [(20, 3), (30, 3), (40, 3)]);
        assert_eq!(
            starts.rated(&(LimitLevel::Cluster, "".into(), "".into())),
            [(20, 2), (30, 2), (40, 2)]
        );
        assert_eq!(starts.most_at_once(&key), 2);
    }
}

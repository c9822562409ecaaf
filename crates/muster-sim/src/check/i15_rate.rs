//! I15: over every window of length L no more than `burst + rate × L` tokens of a limiter are taken. A token bucket, filled
//! by replicated time (from inside) and by the recording clock with some slack (from outside). And nothing starts behind a
//! key that a worker reported as throttled.

use std::collections::HashMap;

use crate::check::Findings;
use crate::check::rules::{Limiter, Outside, Rules, Settled, limiters};
use crate::facts::{Facts, Fast, Stamp};
use crate::history::{Effect, Id, LimitLevel, Name, RateLimit};

/// Tokens in parts of 1/`period` of a start; time in units of which 1/`scale` is a millisecond.
struct Bucket {
    limit: RateLimit,
    scale: u128,
    level: u128,
    most: u128,
    at: u64,
}

impl Bucket {
    /// Full at `at`, with room for what comes in during `slack` besides the burst.
    fn full(limit: RateLimit, scale: u64, at: u64, slack: u64) -> Self {
        let start = u128::from(limit.period) * u128::from(scale);
        let most = u128::from(limit.burst) * start + u128::from(limit.count) * u128::from(slack);
        Self {
            limit,
            scale: u128::from(scale),
            level: most,
            most,
            at,
        }
    }

    /// Whether a start of so many tokens is allowed at this time.
    fn take(&mut self, at: u64, cost: u32) -> bool {
        let came = u128::from(at.saturating_sub(self.at)) * u128::from(self.limit.count);
        self.at = self.at.max(at);
        self.level = (self.level + came).min(self.most);
        let start = u128::from(self.limit.period) * self.scale * u128::from(cost);
        let allowed = self.level >= start;
        self.level = self.level.saturating_sub(start);
        allowed
    }
}

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    if !facts.clocks_moved() {
        from_outside(facts, findings);
    }
    from_inside(facts, findings);
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    if facts.rules.is_empty() {
        return;
    }
    let mut settled = Settled::new(facts);
    let asks = facts.ask_of_jobs();
    let mut starts: Vec<(Outside, Stamp, u32)> = Vec::new();
    for attempt in &facts.attempts {
        let (Some(ask), Some(begun)) = (asks[attempt.job as usize], attempt.started) else {
            continue;
        };
        for (limiter, cost) in settled.limiters(ask) {
            let rule = settled.of(limiter).filter(|(rule, _)| rule.rate.is_some());
            if rule.is_some_and(|(_, since)| since.before(facts, attempt, ask)) {
                starts.push((limiter, begun, cost));
            }
        }
    }
    starts.sort_unstable();
    for of_limiter in starts.chunk_by(|a, b| a.0 == b.0) {
        let (limiter, first, _) = of_limiter[0];
        let Some(limit) = settled.of(limiter).and_then(|(rule, _)| rule.rate) else {
            continue;
        };
        let mut bucket = Bucket::full(limit, 1000, first.at, facts.header.slack_us);
        for (_, begun, cost) in of_limiter {
            findings.judge(1);
            if !bucket.take(begun.at, *cost) {
                findings.refuse([begun.line], || {
                    format!(
                        "a start behind {} {:?} of {:?} at {} µs is over {limit:?}",
                        limiter.level.as_str(),
                        facts.name(limiter.name),
                        facts.name(limiter.tenant),
                        begun.at
                    )
                });
            }
        }
    }
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let mut rules = Rules::default();
    let mut buckets: HashMap<Limiter, Bucket, Fast> = HashMap::default();
    let mut throttled: HashMap<(Name, Name), u64, Fast> = HashMap::default();
    let mut jobs: HashMap<Id, Vec<(Limiter, u32)>, Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            if rules.follow(effect) {
                // What was used under another rate is not carried over here: later windows are judged by the new one.
                buckets.retain(|limiter, bucket| {
                    let rate = rules.of(limiter).and_then(|rule| rule.rate);
                    rate == Some(bucket.limit)
                });
                continue;
            }
            match effect {
                Effect::Accepted(job) => {
                    jobs.insert(job.job, limiters(job));
                }
                Effect::Throttled { tenant, key, until } => {
                    let known = throttled.entry((tenant.clone(), key.clone())).or_default();
                    *known = (*known).max(*until);
                }
                Effect::Ended { job, .. } => {
                    jobs.remove(job);
                }
                Effect::Granted { job, .. } => {
                    let Some(own) = jobs.get(job) else { continue };
                    for (limiter, cost) in own {
                        if limiter.level == LimitLevel::Key {
                            let key = (limiter.tenant.clone(), limiter.name.clone());
                            let until = throttled.get(&key).copied().unwrap_or(0);
                            findings.judge(1);
                            if entry.now < until {
                                findings.refuse([entry.line], || {
                                    format!(
                                        "job {job} starts at index {index}, its key {key:?} is closed until {until}"
                                    )
                                });
                            }
                        }
                        if !take(&rules, &mut buckets, limiter, entry.now, *cost, findings) {
                            findings.refuse([entry.line], || {
                                let rate = rules.of(limiter).and_then(|rule| rule.rate);
                                format!("the start of job {job} at index {index} is over {rate:?} of {limiter:?}")
                            });
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Takes the tokens of a start, if a rate applies.
fn take(
    rules: &Rules,
    buckets: &mut HashMap<Limiter, Bucket, Fast>,
    limiter: &Limiter,
    now: u64,
    cost: u32,
    findings: &mut Findings,
) -> bool {
    if rules.is_empty() {
        return true;
    }
    let Some(rate) = rules.of(limiter).and_then(|rule| rule.rate) else {
        return true;
    };
    findings.judge(1);
    if !buckets.contains_key(limiter) {
        buckets.insert(limiter.clone(), Bucket::full(rate, 1, now, 0));
    }
    buckets.get_mut(limiter).is_none_or(|bucket| bucket.take(now, cost))
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    #[test]
    fn refuses() {
        let rate = |count, period, burst| Some(RateLimit { count, period, burst });
        let two_starts = |history: &mut Vec<Record>, rule: Effect, cost| {
            let jobs = [id(9), id(10)];
            let effects = vec![rule, with_key(jobs[0], "k", cost), with_key(jobs[1], "k", cost)];
            history.push(applied(20, effects));
            history.push(applied(
                21,
                vec![granted(jobs[0], 21 << 24, 1), granted(jobs[1], 21 << 24 | 1, 1)],
            ));
        };
        prove(
            super::check,
            &[
                &|history| limit(history, LimitLevel::Tenant, "*", rate(1, 3_600_000, 1), 0),
                &|history| limit(history, LimitLevel::Queue, "mail", rate(1, 3_600_000, 2), 0),
                &|history| two_starts(history, limited(LimitLevel::Key, "k", rate(1, 1000, 1), 0), 1),
                // Two starts of two tokens each, where three are allowed at once.
                &|history| two_starts(history, limited(LimitLevel::Key, "*", rate(1, 1000, 3), 0), 2),
                &|history| {
                    let closed = Effect::Throttled {
                        tenant: "t".into(),
                        key: "k".into(),
                        until: NOW + 1,
                    };
                    two_starts(history, closed, 1);
                },
            ],
        );
    }
}

//! I15: over every window of length L a tenant has no more than `burst + rate × L` starts. A token bucket, filled by
//! replicated time (from inside) and by the recording clock with some slack (from outside).

use std::collections::{BTreeMap, HashMap};

use crate::check::Findings;
use crate::facts::{End, Facts, Fast, NameNo, Stamp};
use crate::history::{Effect, Id, Name, RateLimit};

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

    /// Whether a start is allowed at this time.
    fn take(&mut self, at: u64) -> bool {
        let came = u128::from(at.saturating_sub(self.at)) * u128::from(self.limit.count);
        self.at = self.at.max(at);
        self.level = (self.level + came).min(self.most);
        let start = u128::from(self.limit.period) * self.scale;
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
    // Only tenants whose limit was set once and never changed.
    let mut limits: BTreeMap<NameNo, Option<(RateLimit, Stamp)>> = BTreeMap::new();
    for setting in &facts.settings {
        let call = facts.call(setting.call);
        let set = setting.rate.zip(call.completed.filter(|_| call.end == End::Ok));
        let known = limits.entry(setting.tenant).or_insert(set);
        if known.map(|(limit, _)| limit) != setting.rate || set.is_none() {
            *known = None;
        }
    }
    let mut tenant_of: Vec<Option<NameNo>> = vec![None; facts.jobs()];
    for ask in &facts.asks {
        tenant_of[ask.job as usize] = Some(ask.tenant);
    }
    let mut starts: Vec<(NameNo, Stamp)> = facts
        .attempts
        .iter()
        .filter_map(|attempt| {
            let (tenant, begun) = (tenant_of[attempt.job as usize]?, attempt.started?);
            let (_, since) = limits.get(&tenant).copied().flatten()?;
            (begun.at > since.at).then_some((tenant, begun))
        })
        .collect();
    starts.sort_unstable();
    for tenant in starts.chunk_by(|a, b| a.0 == b.0) {
        let Some((limit, _)) = limits.get(&tenant[0].0).copied().flatten() else {
            continue;
        };
        let mut bucket = Bucket::full(limit, 1000, tenant[0].1.at, facts.header.slack_us);
        for (name, begun) in tenant {
            findings.judge(1);
            if !bucket.take(begun.at) {
                findings.refuse([begun.line], || {
                    format!(
                        "a start of {:?} at {} µs is over {limit:?}",
                        facts.name(*name),
                        begun.at
                    )
                });
            }
        }
    }
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let mut buckets: HashMap<Name, Bucket, Fast> = HashMap::default();
    let mut tenants: HashMap<Id, Name, Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Tenant { tenant, rate_limit, .. } => {
                    let same = buckets.get(tenant).map(|bucket| bucket.limit) == *rate_limit;
                    match rate_limit {
                        // What was used of an old limit is not carried over here: later windows are judged by the new.
                        Some(limit) if !same => {
                            buckets.insert(tenant.clone(), Bucket::full(*limit, 1, entry.now, 0));
                        }
                        Some(_) => {}
                        None => {
                            buckets.remove(tenant);
                        }
                    }
                }
                Effect::Accepted(job) => {
                    tenants.insert(job.job, job.tenant.clone());
                }
                Effect::Granted { job, .. } => {
                    let bucket = tenants.get(job).and_then(|tenant| buckets.get_mut(tenant));
                    let Some(bucket) = bucket else { continue };
                    findings.judge(1);
                    if !bucket.take(entry.now) {
                        findings.refuse([entry.line], || {
                            format!("the start of job {job} at index {index} is over {:?}", bucket.limit)
                        });
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    #[test]
    fn refuses() {
        let rate = |count, period, burst| Some(RateLimit { count, period, burst });
        prove(
            super::check,
            &[
                &|history| limit_tenant(history, rate(1, 3_600_000, 1), 0),
                &|history| limit_tenant(history, rate(1, 3_600_000, 2), 0),
                &|history| {
                    let jobs = [id(9), id(10)];
                    history.push(applied(
                        20,
                        vec![limited(rate(1, 1000, 1), 0), accepted(jobs[0], 0), accepted(jobs[1], 0)],
                    ));
                    history.push(applied(
                        21,
                        vec![granted(jobs[0], 21 << 24, 1), granted(jobs[1], 21 << 24 | 1, 1)],
                    ));
                },
            ],
        );
    }
}

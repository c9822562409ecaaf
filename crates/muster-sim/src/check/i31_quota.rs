//! I31: a tenant never has more jobs and bytes than its quota allows when one comes in, nor do jobs come in faster. From inside at
//! every acceptance, against a recount.

use std::collections::HashMap;

use crate::check::Findings;
use crate::facts::{Facts, Fast};
use crate::history::{Effect, Id, Name, Quota, RateLimit};

/// What a tenant has, and what it may have.
#[derive(Default)]
struct Tenant {
    quota: Quota,
    jobs: u64,
    bytes: u64,
    window: Option<Window>,
}

/// All windows of an enqueue rate that end now, at once.
struct Window {
    rate: RateLimit,
    /// Jobs accepted under this rate.
    accepted: i128,
    /// Least of `jobs before × period − count × time` over the jobs accepted.
    least: i128,
}

impl Window {
    fn new(rate: RateLimit) -> Self {
        Self {
            rate,
            accepted: 0,
            least: i128::MAX,
        }
    }

    /// One more at `now`: true if no window that ends with it holds more than `burst + count × length / period`.
    fn accept(&mut self, now: u64) -> bool {
        let (count, period) = (i128::from(self.rate.count), i128::from(self.rate.period));
        let passed = count * i128::from(now);
        self.least = self.least.min(self.accepted * period - passed);
        self.accepted += 1;
        self.accepted * period - passed - self.least <= i128::from(self.rate.burst) * period
    }
}

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let mut tenants: HashMap<Name, Tenant, Fast> = HashMap::default();
    let mut jobs: HashMap<Id, (Name, u64), Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Quota { tenant, quota } => {
                    let tenant = tenants.entry(tenant.clone()).or_default();
                    if tenant.quota.enqueue_rate != quota.enqueue_rate {
                        // What was used of the old rate may leave less for the new one, never more.
                        tenant.window = quota.enqueue_rate.map(Window::new);
                    }
                    tenant.quota = *quota;
                }
                Effect::Accepted(job) => {
                    jobs.insert(job.job, (job.tenant.clone(), job.bytes));
                    let tenant = tenants.entry(job.tenant.clone()).or_default();
                    tenant.jobs += 1;
                    tenant.bytes += job.bytes;
                    let quota = &tenant.quota;
                    let in_time = tenant.window.as_mut().is_none_or(|window| window.accept(entry.now));
                    if *quota == Quota::default() {
                        continue;
                    }
                    findings.judge(1);
                    let within = |used: u64, most: u64| most == 0 || used <= most;
                    if !within(tenant.jobs, quota.jobs_max) || !within(tenant.bytes, quota.bytes_max) || !in_time {
                        findings.refuse([entry.line], || {
                            format!(
                                "at index {index} job {} of {:?} came in, which makes {} jobs with {} bytes; in time: {in_time}; the \
                                 quota is {quota:?}",
                                job.job, job.tenant, tenant.jobs, tenant.bytes
                            )
                        });
                    }
                }
                Effect::Ended { job, .. } => {
                    if let Some((tenant, bytes)) = jobs.remove(job)
                        && let Some(tenant) = tenants.get_mut(&tenant)
                    {
                        tenant.jobs -= 1;
                        tenant.bytes -= bytes;
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::by_hand::*;

    fn quota(jobs_max: u64, bytes_max: u64, burst: u32) -> Effect {
        Effect::Quota {
            tenant: "t".into(),
            quota: Quota {
                jobs_max,
                bytes_max,
                enqueue_rate: (burst > 0).then_some(RateLimit {
                    count: 1,
                    period: 1_000,
                    burst,
                }),
            },
        }
    }

    #[test]
    fn refuses() {
        let two = |quota| vec![quota, accepted(id(9), 0), accepted(id(10), 0)];
        prove(
            check,
            &[
                &|history| history.push(applied(20, two(quota(1, 0, 0)))),
                &|history| history.push(applied(20, two(quota(0, JOB_BYTES, 0)))),
                &|history| history.push(applied(20, two(quota(0, 0, 1)))),
                &|history| {
                    history.push(applied(20, two(quota(2, 0, 2))));
                    history.push(applied(21, vec![quota(2, 0, 2), accepted(id(11), 0)]));
                },
            ],
        );
    }

    #[test]
    fn an_end_makes_room() {
        accept(check, &|history| {
            let end = ended(id(9), JobState::Cancelled);
            history.push(applied(
                20,
                vec![quota(1, 0, 0), accepted(id(9), 0), end, accepted(id(10), 0)],
            ));
        });
    }

    #[test]
    fn a_rate_is_judged_over_every_window() {
        let rate = RateLimit {
            count: 2,
            period: 100,
            burst: 3,
        };
        let judge = |times: &[u64]| {
            let mut window = Window::new(rate);
            times.iter().map(|at| window.accept(*at)).collect::<Vec<_>>()
        };
        assert_eq!(judge(&[1_000, 1_000, 1_000, 1_050, 1_100]), [true; 5]);
        assert_eq!(judge(&[1_000, 1_000, 1_000, 1_049]), [true, true, true, false]);
        assert_eq!(judge(&[0, 1_000, 1_000, 1_000, 1_000]), [true, true, true, true, false]);
    }
}

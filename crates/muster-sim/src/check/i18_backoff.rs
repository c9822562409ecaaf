//! I18: the wait after a failure is what the job's policy allows. From inside by the instants the nodes computed; from
//! outside the next attempt does not begin before the shortest wait allowed.

use std::collections::HashMap;

use crate::check::{Findings, order};
use crate::facts::{End, Facts, Fast, Line};
use crate::history::{AcceptedJob, Backoff, Effect, How, Id, ReportVerdict};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    if !facts.clocks_moved() {
        from_outside(facts, findings);
    }
    from_inside(facts, findings);
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    let mut least: Vec<Option<u64>> = vec![None; facts.jobs()];
    for ask in facts.asks.iter().filter(|ask| ask.end != End::Fail) {
        let wait = &mut least[ask.job as usize];
        *wait = Some(wait.map_or(ask.wait_min, |wait| wait.min(ask.wait_min)));
    }
    let attempts = order::by_job(facts);
    for pair in attempts.windows(2).filter(|pair| pair[0].job == pair[1].job) {
        let (Some((failed, How::Failed { retry_after_ms })), Some(_)) = (pair[0].ended, pair[0].accepted) else {
            continue;
        };
        let (Some(begun), Some(least)) = (pair[1].started, least[pair[0].job as usize]) else {
            continue;
        };
        findings.judge(1);
        let wait = if retry_after_ms > 0 { retry_after_ms } else { least };
        if (begun.at + facts.header.slack_us).saturating_sub(failed.at) < wait * 1000 {
            findings.refuse([failed.line, begun.line], || {
                let gap = begun.at.saturating_sub(failed.at) / 1000;
                format!(
                    "job {} was tried again after {gap} ms, not before {wait} ms allowed",
                    facts.id(pair[0].job)
                )
            });
        }
    }
}

/// The shortest and longest wait allowed after the `failure`-th failure.
fn allowed(backoff: &Backoff, failure: u32) -> (u64, u64) {
    let failure = failure.max(1);
    match *backoff {
        Backoff::Fixed { delay } => (delay, delay),
        Backoff::Linear { base, cap } => {
            let wait = base.saturating_mul(u64::from(failure)).min(cap);
            (wait, wait)
        }
        Backoff::Exponential {
            base,
            cap,
            jitter_percent,
        } => {
            let doubled = (1..failure).take(64).fold(base, |wait, _| wait.saturating_mul(2));
            let wait = doubled.min(cap);
            let span = u64::try_from(u128::from(wait) * u128::from(jitter_percent) / 100).unwrap_or(u64::MAX);
            (wait - span.min(wait), wait.saturating_add(span))
        }
    }
}

/// A job replayed.
struct Replay {
    job: Box<AcceptedJob>,
    failures: u32,
    crashes: u32,
    /// What it last failed of, at which time: the wait allowed, and where.
    failed: Option<(u64, (u64, u64), Line)>,
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let mut jobs: HashMap<Id, Replay, Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Accepted(job) => {
                    let replay = Replay {
                        job: job.clone(),
                        failures: 0,
                        crashes: 0,
                        failed: None,
                    };
                    jobs.insert(job.job, replay);
                }
                Effect::Reported {
                    job,
                    how,
                    verdict: ReportVerdict::Accepted,
                    ..
                }
                | Effect::Revoked { job, why: how, .. } => {
                    if let Some(replay) = jobs.get_mut(job) {
                        replay.failed = replay.after(*how).map(|wait| (entry.now, wait, entry.line));
                    }
                }
                Effect::Waits { job, until } => {
                    let Some((at, (least, most), line)) = jobs.get(job).and_then(|replay| replay.failed) else {
                        continue;
                    };
                    findings.judge(1);
                    let wait = until.saturating_sub(at);
                    if !(least..=most).contains(&wait) {
                        findings.refuse([line, entry.line], || {
                            format!("job {job} at index {index} waits {wait} ms, its policy says {least} to {most}")
                        });
                    }
                }
                Effect::Ended { job, .. } => {
                    jobs.remove(job);
                }
                _ => {}
            }
        }
    }
}

impl Replay {
    /// The wait allowed after an attempt that ended like this; `None` = not a matter of backoff.
    fn after(&mut self, how: How) -> Option<(u64, u64)> {
        match how {
            How::Failed { retry_after_ms } => {
                self.failures += 1;
                Some(match retry_after_ms {
                    0 => allowed(&self.job.backoff, self.failures),
                    given => (given, given),
                })
            }
            How::TimedOut | How::Cancelled => {
                self.failures += 1;
                Some(allowed(&self.job.backoff, self.failures))
            }
            How::Crashed => {
                self.crashes += 1;
                // The first may be the machine's fault.
                Some(if self.crashes == 1 {
                    (0, 0)
                } else {
                    allowed(&self.job.backoff, self.crashes)
                })
            }
            How::Succeeded | How::FailedForGood | How::Preempted | How::Snoozed | How::Throttled => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    #[test]
    fn refuses() {
        let failed = |until| {
            let reported = Effect::Reported {
                job: id(9),
                fence: 19 << 24,
                how: How::Failed { retry_after_ms: 0 },
                verdict: ReportVerdict::Accepted,
            };
            vec![accepted(id(9), 0), reported, Effect::Waits { job: id(9), until }]
        };
        prove(
            super::check,
            &[
                &|history| history.push(applied(20, failed(NOW + WAIT - 1))),
                &|history| history.push(applied(20, failed(NOW + WAIT + 1))),
                &|history| {
                    redo(
                        history,
                        [30_000, 31_000, 32_000],
                        B,
                        3 << 24,
                        How::Failed { retry_after_ms: 60_000 },
                    );
                },
            ],
        );
    }
}

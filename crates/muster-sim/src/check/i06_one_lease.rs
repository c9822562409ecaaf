//! I6: a job has at most one lease in force, fences grow, and no fence is given twice. From outside by what workers
//! began; from inside by grants and ends, and what workers began was granted.

use std::collections::HashMap;

use crate::check::Findings;
use crate::facts::{Attempt, Facts, Fast, Line};
use crate::history::{Effect, Id, ReportVerdict};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_outside(facts, findings);
    from_inside(facts, findings);
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    let mut attempts: Vec<&Attempt> = facts
        .attempts
        .iter()
        .filter(|attempt| attempt.started.is_some())
        .collect();
    attempts.sort_unstable_by_key(|attempt| attempt.fence);
    findings.judge(attempts.len() as u64);
    for attempt in &attempts {
        if let (Some(first), Some(again)) = (attempt.started, attempt.started_again) {
            findings.refuse([first.line, again.line], || {
                format!(
                    "job {} was begun twice under fence {}",
                    facts.id(attempt.job),
                    attempt.fence
                )
            });
        }
    }
    for pair in attempts.windows(2) {
        if pair[0].fence == pair[1].fence
            && let (Some(one), Some(other)) = (pair[0].started, pair[1].started)
        {
            findings.refuse([one.line, other.line], || {
                let [one, other] = [pair[0], pair[1]].map(|attempt| facts.id(attempt.job));
                format!("jobs {one} and {other} share fence {}", pair[0].fence)
            });
        }
    }
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    granted_all(facts, findings);
    // By job: the last fence, and whether it is in force.
    let mut leases: HashMap<Id, (u64, bool, Line), Fast> = HashMap::default();
    let mut highest = 0;
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Granted { job, fence, .. } => {
                    findings.judge(1);
                    let before = leases.insert(*job, (*fence, true, entry.line));
                    if let Some((other, true, line)) = before {
                        findings.refuse([line, entry.line], || {
                            format!("job {job} got fence {fence} at index {index} while {other} was in force")
                        });
                    }
                    if *fence <= highest {
                        findings.refuse([entry.line], || {
                            format!("fence {fence} was given to job {job} after {highest} had been given")
                        });
                    }
                    highest = highest.max(*fence);
                }
                Effect::Reported {
                    job,
                    fence,
                    verdict: ReportVerdict::Accepted,
                    ..
                }
                | Effect::Revoked { job, fence, .. } => {
                    if let Some((current, force, _)) = leases.get_mut(job)
                        && current == fence
                    {
                        *force = false;
                    }
                }
                _ => {}
            }
        }
    }
}

/// Workers begin what was granted, under its fence and number.
fn granted_all(facts: &Facts, findings: &mut Findings) {
    if facts.entries.is_empty() {
        return;
    }
    let mut granted: HashMap<(Id, u64), u32, Fast> = HashMap::default();
    for entry in facts.entries.values() {
        for effect in &entry.effects {
            if let Effect::Granted {
                job, fence, attempt, ..
            } = effect
            {
                granted.insert((*job, *fence), *attempt);
            }
        }
    }
    for attempt in &facts.attempts {
        let Some(begun) = attempt.started else { continue };
        findings.judge(1);
        let (job, fence) = (facts.id(attempt.job), attempt.fence);
        let number = granted.get(&(job, fence)).copied();
        if number != Some(attempt.number) {
            findings.refuse([begun.line], || {
                format!(
                    "a worker began job {job} under fence {fence} as attempt {}, granted was {number:?}",
                    attempt.number
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    #[test]
    fn refuses() {
        prove(
            super::check,
            &[
                &|history| history.push(started(90, A, 2 << 24, 1)),
                &|history| history.push(started(90, B, 2 << 24, 1)),
                &|history| history.push(applied(20, vec![granted(B, 2 << 24, 2)])),
                &|history| history.push(started(70_000, A, 9 << 24, 2)),
                &|history| history.push(applied(20, vec![granted(B, 20 << 24, 2), granted(B, 20 << 24 | 1, 3)])),
            ],
        );
    }
}

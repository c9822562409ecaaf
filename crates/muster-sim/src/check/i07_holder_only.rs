//! I7: a report is taken only from the holder of the lease in force. From outside: never when a later attempt had
//! begun before the report was first sent, and one success per job; from inside by the lease at that index, and what
//! workers were told is what the log decided.

use std::collections::{HashMap, HashSet};

use crate::check::{Findings, order};
use crate::facts::{Attempt, Facts, Fast};
use crate::history::{Effect, How, Id, ReportVerdict};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let attempts = order::by_job(facts);
    for job in order::jobs(&attempts) {
        from_outside(facts, job, findings);
    }
    from_inside(facts, findings);
}

fn from_outside(facts: &Facts, attempts: &[&Attempt], findings: &mut Findings) {
    let mut later: Option<&Attempt> = None;
    let mut success: Option<&Attempt> = None;
    for attempt in attempts.iter().rev() {
        findings.judge(1);
        if let (Some(taken), Some((sent, _))) = (attempt.accepted, attempt.ended) {
            if let Some(newer) = later
                && let Some(begun) = newer.started
                && begun.at < sent.at
            {
                findings.refuse([begun.line, sent.line, taken.line], || {
                    format!(
                        "job {}: the report under fence {} was sent after the attempt under {} had begun, and taken",
                        facts.id(attempt.job),
                        attempt.fence,
                        newer.fence
                    )
                });
            }
            if attempt.accepted_as(|how| how == How::Succeeded)
                && let Some(other) = success.replace(attempt)
            {
                let line = other.accepted.map_or(0, |stamp| stamp.line);
                findings.refuse([taken.line, line], || {
                    let job = facts.id(attempt.job);
                    format!(
                        "job {job} succeeded under fence {} and under {}",
                        attempt.fence, other.fence
                    )
                });
            }
        }
        if let Some(begun) = attempt.started
            && later
                .and_then(|later| later.started)
                .is_none_or(|first| begun.at < first.at)
        {
            later = Some(attempt);
        }
    }
}

/// A repeat of a report is recognised at least so long, in milliseconds of replicated time; promised is a minute.
const RECOGNISED: u64 = 30_000;

/// Of a job.
#[derive(Default)]
struct Lease {
    /// Fence of the lease in force.
    held: Option<u64>,
    /// Fence of the last lease whose report was taken, and until when a repeat is recognised.
    taken: Option<(u64, u64)>,
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    told_truly(facts, findings);
    let mut leases: HashMap<Id, Lease, Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Granted { job, fence, .. } => leases.entry(*job).or_default().held = Some(*fence),
                Effect::Revoked { job, .. } => leases.entry(*job).or_default().held = None,
                Effect::Reported {
                    job, fence, verdict, ..
                } => {
                    findings.judge(1);
                    let Lease { held, taken } = leases.entry(*job).or_default();
                    let right = match verdict {
                        ReportVerdict::Accepted => *held == Some(*fence),
                        ReportVerdict::Repeated => taken.is_some_and(|(taken, _)| taken == *fence),
                        ReportVerdict::LeaseLost => {
                            let known = taken.is_some_and(|(taken, until)| taken == *fence && entry.now < until);
                            *held != Some(*fence) && !known
                        }
                    };
                    if !right {
                        let held = *held;
                        findings.refuse([entry.line], || {
                            format!(
                                "job {job} at index {index}: lease in force {held:?}, report under {fence}: {verdict:?}"
                            )
                        });
                    }
                    if *verdict == ReportVerdict::Accepted {
                        *taken = Some((*fence, entry.now + RECOGNISED));
                        *held = None;
                    }
                }
                _ => {}
            }
        }
    }
}

/// An answer that a report was taken rests on an entry that took it.
fn told_truly(facts: &Facts, findings: &mut Findings) {
    if facts.entries.is_empty() {
        return;
    }
    let mut taken: HashSet<(Id, u64), Fast> = HashSet::default();
    for entry in facts.entries.values() {
        for effect in &entry.effects {
            if let Effect::Reported {
                job,
                fence,
                verdict: ReportVerdict::Accepted,
                ..
            } = effect
            {
                taken.insert((*job, *fence));
            }
        }
    }
    for attempt in &facts.attempts {
        let Some(told) = attempt.accepted else { continue };
        findings.judge(1);
        let (job, fence) = (facts.id(attempt.job), attempt.fence);
        if !taken.contains(&(job, fence)) {
            findings.refuse([told.line], || {
                format!("the report of job {job} under fence {fence} was answered as taken, and no entry took it")
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
                // A late report of B's first attempt is taken after the second began.
                &|history| redo(history, [30_000, 90_000, 95_000], B, 3 << 24, How::Succeeded),
                // Two successes.
                &|history| redo(history, [90_000, 91_000, 92_000], A, 30 << 24, How::Succeeded),
                &|history| history.push(applied(20, vec![reported(A, 2 << 24, ReportVerdict::Accepted)])),
                &|history| history.push(applied(20, vec![reported(B, 3 << 24, ReportVerdict::Repeated)])),
                &|history| history.push(applied(20, vec![reported(A, 2 << 24, ReportVerdict::LeaseLost)])),
                &|history| redo(history, [70_000, 71_000, 72_000], C, 7 << 24, How::Snoozed),
            ],
        );
    }
}

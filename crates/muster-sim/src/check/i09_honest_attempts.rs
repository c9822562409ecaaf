//! I9: attempts are those that began and count, budgets hold, and a job dies exactly when a budget is used up or its
//! handler said so. From outside by the last scan; from inside by grants and ends.

use std::collections::HashMap;

use crate::check::{Findings, order};
use crate::facts::{Facts, Fast, LastJob, Line};
use crate::history::{AcceptedJob, Effect, How, Id, JobState, ReportVerdict};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_outside(facts, findings);
    from_inside(facts, findings);
}

/// What workers know of a job: failures that were taken, and whether a handler gave up for good.
#[derive(Clone, Copy, Default)]
struct Told {
    failures: u32,
    for_good: bool,
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    let mut told = vec![Told::default(); facts.jobs()];
    let attempts = order::by_job(facts);
    for job in order::jobs(&attempts) {
        let begun = || job.iter().filter(|attempt| attempt.started.is_some());
        for (one, next) in begun().zip(begun().skip(1)) {
            if next.number < one.number {
                let lines = [one, next].map(|attempt| attempt.started.map_or(0, |stamp| stamp.line));
                findings.refuse(lines, || {
                    format!(
                        "job {}: attempt {} came after {}",
                        facts.id(one.job),
                        next.number,
                        one.number
                    )
                });
            }
        }
        for attempt in job {
            let told = &mut told[attempt.job as usize];
            told.for_good |= attempt.ended.is_some_and(|(_, how)| how == How::FailedForGood);
            let failed = |how| matches!(how, How::Failed { .. } | How::FailedForGood);
            told.failures += u32::from(attempt.accepted_as(failed));
        }
    }
    if findings.needs_scan(facts) {
        for row in &facts.last.jobs {
            findings.judge(1);
            if let Err(why) = row_adds_up(row, told[row.job as usize]) {
                findings.refuse([row.line], || format!("job {}: {why}", facts.id(row.job)));
            }
        }
    }
}

fn row_adds_up(row: &LastJob, told: Told) -> Result<(), String> {
    let ([attempts, failures, crashes], [max_attempts, max_crashes]) = (row.counts, row.budgets);
    let spent = failures >= max_attempts || crashes >= max_crashes;
    let extra = attempts.checked_sub(failures + crashes);
    let right = match row.state {
        JobState::Succeeded | JobState::Running => extra == Some(1),
        // Stopped while running, its attempt handed back: that one neither failed nor crashed.
        JobState::Cancelled => extra.is_some_and(|extra| extra <= 1),
        _ => extra == Some(0),
    };
    if !right {
        return Err(format!(
            "{:?} with {attempts} attempts, {failures} failures and {crashes} crashes",
            row.state
        ));
    }
    if failures > max_attempts || crashes > max_crashes {
        return Err(format!(
            "{failures} failures of {max_attempts}, {crashes} crashes of {max_crashes}"
        ));
    }
    if row.state == JobState::Dead && !spent && !told.for_good {
        return Err(format!(
            "dead after {failures} failures of {max_attempts}, {crashes} crashes of {max_crashes}"
        ));
    }
    if !matches!(row.state, JobState::Dead | JobState::Cancelled) && spent {
        return Err(format!("{:?} with its budget used up", row.state));
    }
    if failures < told.failures {
        return Err(format!("{} failures were taken, {failures} are counted", told.failures));
    }
    Ok(())
}

/// A job replayed.
struct Replay {
    limits: Box<AcceptedJob>,
    failures: u32,
    crashes: u32,
    for_good: bool,
    line: Line,
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let mut jobs: HashMap<Id, Replay, Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Accepted(limits) => {
                    let replay = Replay {
                        limits: limits.clone(),
                        failures: 0,
                        crashes: 0,
                        for_good: false,
                        line: entry.line,
                    };
                    jobs.insert(limits.job, replay);
                }
                Effect::Reported {
                    job,
                    how,
                    verdict: ReportVerdict::Accepted,
                    ..
                }
                | Effect::Revoked { job, why: how, .. } => {
                    let Some(replay) = jobs.get_mut(job) else { continue };
                    match how {
                        How::Failed { .. } | How::TimedOut | How::Cancelled => replay.failures += 1,
                        How::FailedForGood => {
                            replay.failures += 1;
                            replay.for_good = true;
                        }
                        How::Crashed => replay.crashes += 1,
                        How::Succeeded | How::Preempted | How::Snoozed | How::Throttled => {}
                    }
                }
                Effect::Granted { job, attempt, .. } => {
                    let Some(replay) = jobs.get(job) else { continue };
                    findings.judge(1);
                    let counted = replay.failures + replay.crashes + 1;
                    if *attempt != counted {
                        findings.refuse([replay.line, entry.line], || {
                            format!("job {job} at index {index}: attempt {attempt}, counted {counted}")
                        });
                    }
                }
                Effect::Ended {
                    job,
                    state,
                    failures,
                    crashes,
                    ..
                } => {
                    let Some(replay) = jobs.remove(job) else { continue };
                    findings.judge(1);
                    let spent = replay.for_good
                        || replay.failures >= replay.limits.max_attempts
                        || replay.crashes >= replay.limits.max_crashes;
                    let counted = (replay.failures, replay.crashes);
                    if (*failures, *crashes) != counted || (*state == JobState::Dead && !spent) {
                        findings.refuse([replay.line, entry.line], || {
                            format!("job {job} {state:?} at index {index} with {failures} failures and {crashes} crashes; counted {counted:?}")
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
        prove(
            super::check,
            &[
                &|history| change_job(history, A, |job| job.attempts = 2),
                &|history| change_job(history, B, |job| job.failures = 0),
                &|history| change_job(history, C, |job| job.state = JobState::Dead),
                &|history| change_job(history, B, |job| job.max_attempts = 1),
                &|history| history.push(applied(20, vec![accepted(id(9), 0), granted(id(9), 20 << 24, 2)])),
                &|history| history.push(applied(20, vec![accepted(id(9), 0), ended(id(9), JobState::Dead)])),
            ],
        );
    }
}

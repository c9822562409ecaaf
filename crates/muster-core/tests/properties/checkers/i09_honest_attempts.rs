//! The attempt number counts what began and counts; a job dies exactly when a budget is used up or its worker said so.

use std::collections::BTreeMap;

use muster_core::{JobState, ReportReply};

use crate::facts::{Fact, How};

#[derive(Default)]
struct Count {
    attempts: u32,
    failures: u32,
    crashes: u32,
    for_good: bool,
}

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut jobs: BTreeMap<_, Count> = BTreeMap::new();
    for fact in history {
        match fact {
            Fact::Granted { job, attempt, .. } => {
                let count = jobs.entry(*job).or_default();
                count.attempts += 1;
                if count.attempts != *attempt {
                    return Err(format!("attempt {} of job {job} is called {attempt}", count.attempts));
                }
            }
            Fact::Reported {
                job,
                how,
                reply: ReportReply::Accepted(_),
                ..
            }
            | Fact::Revoked { job, why: how, .. } => {
                let count = jobs.entry(*job).or_default();
                match how {
                    How::Failed | How::TimedOut => count.failures += 1,
                    How::FailedForGood => {
                        count.failures += 1;
                        count.for_good = true;
                    }
                    How::Crashed => count.crashes += 1,
                    How::Uncounted => count.attempts -= 1,
                    How::Succeeded | How::Cancelled => {}
                }
            }
            Fact::Ended { job, state, limits, .. } => {
                let count = jobs.entry(*job).or_default();
                let spent = count.failures >= limits.max_attempts || count.crashes >= limits.max_crashes;
                if *state == JobState::Dead && !spent && !count.for_good {
                    return Err(format!("job {job} died with budgets left: {limits:?}"));
                }
                // A cancel may meet a job whose budget its last attempt used up.
                if matches!(state, JobState::Succeeded | JobState::Expired) && (spent || count.for_good) {
                    return Err(format!(
                        "job {job} is {state:?} though a budget was used up: {limits:?}"
                    ));
                }
                if *state != JobState::Cancelled
                    && (limits.attempts, limits.failures, limits.crashes)
                        != (count.attempts, count.failures, count.crashes)
                {
                    return Err(format!(
                        "job {job} has {limits:?}, but {} attempts, {} failures, {} crashes were seen",
                        count.attempts, count.failures, count.crashes
                    ));
                }
                if limits.failures > limits.max_attempts || limits.crashes > limits.max_crashes {
                    return Err(format!("job {job} went over its budget: {limits:?}"));
                }
            }
            Fact::Present { job } if jobs.get(job).is_some_and(|count| count.for_good) => {
                return Err(format!("job {job} lives on after a failure for good"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn is_proved_by_bad_histories() {
    use super::by_hand::*;
    use crate::facts::Limits;
    let dead = |attempts, failures, max_attempts| {
        ended_with(
            JOB,
            JobState::Dead,
            Limits {
                attempts,
                failures,
                crashes: 0,
                max_attempts,
                max_crashes: 3,
            },
        )
    };
    let for_good = reported(JOB, 1, How::FailedForGood, ReportReply::Accepted(JobState::Dead));
    let back = reported(JOB, 1, How::Uncounted, ReportReply::Accepted(JobState::Available));
    prove(
        check,
        &[
            granted(JOB, 1, 1, 0),
            back.clone(),
            granted(JOB, 2, 1, 0),
            failed(JOB, 2),
            granted(JOB, 3, 2, 0),
            failed(JOB, 3),
            dead(2, 2, 2),
        ],
        &[
            &[granted(JOB, 1, 2, 0)],
            &[granted(JOB, 1, 1, 0), back, granted(JOB, 2, 2, 0)],
            &[granted(JOB, 1, 1, 0), failed(JOB, 1), dead(1, 1, 2)],
            &[granted(JOB, 1, 1, 0), failed(JOB, 1), dead(2, 1, 1)],
            &[granted(JOB, 1, 1, 0), for_good, Fact::Present { job: JOB }],
            &[
                granted(JOB, 1, 1, 0),
                failed(JOB, 1),
                granted(JOB, 2, 2, 0),
                failed(JOB, 2),
                dead(2, 2, 1),
            ],
        ],
    );
}

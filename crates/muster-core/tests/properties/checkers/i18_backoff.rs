//! After a failure a job waits as long as its policy says, and does not start earlier.

use std::collections::BTreeMap;

use crate::facts::Fact;

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut waits = BTreeMap::new();
    for fact in history {
        match fact {
            Fact::Waits {
                job,
                since,
                until,
                least,
                most,
            } => {
                let Some(length) = until.checked_sub(*since) else {
                    return Err(format!("job {job} failed at {since} and is to run again at {until}"));
                };
                if !(*least..=*most).contains(&length) {
                    return Err(format!(
                        "job {job} waits {length} ms, its policy says {least} to {most}"
                    ));
                }
                waits.insert(*job, *until);
            }
            Fact::Granted { job, now, .. } => {
                if let Some(until) = waits.remove(job)
                    && *now < until
                {
                    return Err(format!("job {job} was to wait until {until} and started at {now}"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn is_proved_by_bad_histories() {
    use super::by_hand::*;
    let waits = |since, until| Fact::Waits {
        job: JOB,
        since,
        until,
        least: 80,
        most: 120,
    };
    prove(
        check,
        &[waits(10, 90), granted(JOB, 1, 2, 90), waits(100, 220)],
        &[
            &[waits(10, 89)],
            &[waits(10, 131)],
            &[waits(10, 5)],
            &[waits(10, 90), granted(JOB, 1, 2, 89)],
        ],
    );
}

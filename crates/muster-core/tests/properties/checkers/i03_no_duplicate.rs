//! All answers to one request name one job, and a job is new only once.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::Fact;

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut answers = BTreeMap::new();
    let mut made = BTreeSet::new();
    for fact in history {
        let Fact::Accepted {
            asked, job, existed, ..
        } = fact
        else {
            continue;
        };
        let first = *answers.entry(*asked).or_insert(*job);
        if first != *job {
            return Err(format!(
                "request {asked} was answered with job {first}, then with {job}"
            ));
        }
        if !existed && !made.insert(*job) {
            return Err(format!("job {job} was accepted as new twice"));
        }
        if *existed && !made.contains(job) {
            return Err(format!("job {job} is said to have existed, but it was never made"));
        }
    }
    Ok(())
}

#[test]
fn is_proved_by_bad_histories() {
    use super::by_hand::*;
    let answer = |asked, job, existed| Fact::Accepted {
        asked,
        job,
        tenant: TENANT,
        existed,
    };
    prove(
        check,
        &[accepted(JOB), answer(JOB, JOB, true), answer(OTHER, JOB, true)],
        &[
            &[accepted(JOB), accepted(JOB)],
            &[accepted(JOB), accepted(OTHER), answer(OTHER, JOB, true)],
            &[answer(JOB, JOB, true)],
        ],
    );
}

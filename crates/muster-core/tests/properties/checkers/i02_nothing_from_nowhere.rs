//! Whatever is seen was asked for, and accepted before it was seen.

use std::collections::BTreeSet;

use crate::facts::Fact;

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut asked = BTreeSet::new();
    let mut accepted = BTreeSet::new();
    for fact in history {
        match fact {
            Fact::Asked { job, .. } => {
                asked.insert(*job);
            }
            Fact::Accepted { job, .. } => {
                if !asked.contains(job) {
                    return Err(format!("job {job} was accepted but never asked for"));
                }
                accepted.insert(*job);
            }
            Fact::Granted { job, .. }
            | Fact::Entered { job, .. }
            | Fact::Ended { job, .. }
            | Fact::Present { job }
            | Fact::Revoked { job, .. }
                if !accepted.contains(job) =>
            {
                return Err(format!("job {job} was never accepted, yet: {fact:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn is_proved_by_bad_histories() {
    use super::by_hand::*;
    use muster_core::JobState;
    prove(
        check,
        &[asked(JOB), accepted(JOB), granted(JOB, 1, 1, 0)],
        &[
            &[accepted(JOB)],
            &[asked(JOB), Fact::NotAccepted { asked: JOB }, granted(JOB, 1, 1, 0)],
            &[asked(JOB), accepted(JOB), Fact::Present { job: OTHER }],
            &[asked(JOB), ended(JOB, JobState::Dead)],
        ],
    );
}

//! An accepted job is there in the last scan, or ended with a record.

use std::collections::BTreeSet;

use crate::facts::Fact;

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for fact in history {
        if let Fact::Present { job } | Fact::Ended { job, .. } = fact {
            seen.insert(*job);
        }
    }
    for fact in history {
        if let Fact::Accepted { job, .. } = fact
            && !seen.contains(job)
        {
            return Err(format!("job {job} was accepted and is gone"));
        }
    }
    Ok(())
}

#[test]
fn is_proved_by_bad_histories() {
    use super::by_hand::*;
    use muster_core::JobState;
    let present = Fact::Present { job: JOB };
    prove(
        check,
        &[
            accepted(JOB),
            accepted(OTHER),
            ended(OTHER, JobState::Dead),
            present.clone(),
        ],
        &[
            &[accepted(JOB)],
            &[accepted(JOB), accepted(OTHER), present],
            &[accepted(JOB), granted(JOB, 1, 1, 0), succeeded(JOB, 1)],
        ],
    );
}

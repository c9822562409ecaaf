//! Nothing happens to a job that has ended.

use std::collections::BTreeSet;

use muster_core::ReportReply;

use crate::facts::Fact;

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut over = BTreeSet::new();
    for fact in history {
        let (job, ends) = match fact {
            Fact::Ended { job, .. } => (job, true),
            Fact::Granted { job, .. }
            | Fact::Entered { job, .. }
            | Fact::Waits { job, .. }
            | Fact::Present { job }
            | Fact::Accepted {
                job, existed: false, ..
            }
            | Fact::Reported {
                job,
                reply: ReportReply::Accepted(_),
                ..
            } => (job, false),
            _ => continue,
        };
        if over.contains(job) {
            return Err(format!("job {job} had ended, then: {fact:?}"));
        }
        if ends {
            over.insert(*job);
        }
    }
    Ok(())
}

#[test]
fn is_proved_by_bad_histories() {
    use super::by_hand::*;
    use crate::facts::How;
    use muster_core::JobState;
    let end = ended(JOB, JobState::Succeeded);
    prove(
        check,
        &[
            granted(JOB, 1, 1, 0),
            succeeded(JOB, 1),
            end.clone(),
            reported(JOB, 1, How::Succeeded, ReportReply::Repeated),
        ],
        &[
            &[end.clone(), end.clone()],
            &[end.clone(), granted(JOB, 1, 1, 0)],
            &[end.clone(), entered(JOB, JobState::Available)],
            &[end.clone(), succeeded(JOB, 1)],
            &[end, accepted(JOB)],
        ],
    );
}

//! A job has at most one live lease, and tokens only grow: of a job, and of the whole cluster.

use std::collections::BTreeMap;

use muster_core::ReportReply;

use crate::facts::Fact;

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut live = BTreeMap::new();
    let mut last = None;
    for fact in history {
        match fact {
            Fact::Granted { job, lease, .. } => {
                if let Some(held) = live.insert(*job, *lease) {
                    return Err(format!("job {job} was given {lease} while {held} was live"));
                }
                if last >= Some(*lease) {
                    return Err(format!("token {lease} of job {job} follows {last:?}"));
                }
                last = Some(*lease);
            }
            Fact::Revoked { job, lease, .. }
            | Fact::Reported {
                job,
                lease,
                reply: ReportReply::Accepted(_),
                ..
            } if live.get(job) == Some(lease) => {
                live.remove(job);
            }
            Fact::Ended { job, .. } if live.contains_key(job) => {
                return Err(format!("job {job} ended with a live lease"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn is_proved_by_bad_histories() {
    use super::by_hand::*;
    use crate::facts::How;
    use muster_core::JobState;
    prove(
        check,
        &[
            granted(JOB, 1, 1, 0),
            granted(OTHER, 2, 1, 0),
            failed(JOB, 1),
            granted(JOB, 3, 2, 0),
        ],
        &[
            &[granted(JOB, 1, 1, 0), granted(JOB, 2, 2, 0)],
            &[granted(JOB, 2, 1, 0), failed(JOB, 2), granted(JOB, 1, 2, 0)],
            &[granted(JOB, 1, 1, 0), granted(OTHER, 1, 1, 0)],
            &[
                granted(JOB, 1, 1, 0),
                revoked(JOB, 9, How::Crashed),
                granted(JOB, 2, 2, 0),
            ],
            &[granted(JOB, 1, 1, 0), ended(JOB, JobState::Cancelled)],
        ],
    );
}

//! Two runs of one job overlap only where the earlier lease was taken back, and a resource that refuses lower tokens
//! than it has seen takes effects in the order of tokens.

use std::collections::BTreeMap;

use muster_core::{JobId, LeaseId, ReportReply};

use crate::facts::Fact;

/// What a run looks like from outside: it lasts until its worker says something of it.
#[derive(Default)]
struct Outside {
    /// Runs under way, and whether their lease was taken back.
    runs: BTreeMap<LeaseId, bool>,
    /// Greatest token the job's resource has seen.
    fence: Option<LeaseId>,
}

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut jobs: BTreeMap<JobId, Outside> = BTreeMap::new();
    for fact in history {
        match fact {
            Fact::Granted { job, lease, .. } => {
                let outside = jobs.entry(*job).or_default();
                if let Some((other, _)) = outside.runs.iter().find(|(_, taken_back)| !**taken_back) {
                    return Err(format!(
                        "job {job} runs under {other} and {lease} with both leases good"
                    ));
                }
                outside.runs.insert(*lease, false);
                outside.fence = outside.fence.max(Some(*lease));
            }
            Fact::Revoked { job, lease, .. } => {
                if let Some(taken_back) = jobs.entry(*job).or_default().runs.get_mut(lease) {
                    *taken_back = true;
                }
            }
            Fact::Reported { job, lease, reply, .. } => {
                let outside = jobs.entry(*job).or_default();
                outside.runs.remove(lease);
                if matches!(reply, ReportReply::Accepted(_)) && outside.fence > Some(*lease) {
                    return Err(format!(
                        "job {job}: an end under {lease} was taken after {:?}",
                        outside.fence
                    ));
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
    use crate::facts::How;
    prove(
        check,
        &[
            granted(JOB, 1, 1, 0),
            revoked(JOB, 1, How::TimedOut),
            granted(JOB, 2, 2, 0),
            succeeded(JOB, 2),
        ],
        &[
            &[granted(JOB, 1, 1, 0), granted(JOB, 2, 2, 0)],
            &[
                granted(JOB, 1, 1, 0),
                revoked(JOB, 1, How::TimedOut),
                granted(JOB, 2, 2, 0),
                succeeded(JOB, 1),
            ],
            &[
                granted(JOB, 1, 1, 0),
                revoked(JOB, 5, How::Crashed),
                granted(JOB, 2, 2, 0),
            ],
        ],
    );
}

//! A report is taken if and only if its token is the one in force; a repeat is recognised only if it was taken before.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::ReportReply;

use crate::facts::Fact;

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut live = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for fact in history {
        match fact {
            Fact::Granted { job, lease, .. } => {
                live.insert(*job, *lease);
            }
            Fact::Revoked { job, .. } => {
                live.remove(job);
            }
            Fact::Reported { job, lease, reply, .. } => {
                let in_force = live.get(job) == Some(lease);
                match reply {
                    ReportReply::Accepted(_) if in_force => {
                        live.remove(job);
                        taken.insert((*job, *lease));
                    }
                    ReportReply::LeaseLost if !in_force => {}
                    ReportReply::Repeated if !in_force && taken.contains(&(*job, *lease)) => {}
                    _ => return Err(format!("in force {:?}, but {fact:?}", live.get(job))),
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
    use muster_core::ReportReply::{LeaseLost, Repeated};
    let report = |index, reply| reported(JOB, index, How::Succeeded, reply);
    prove(
        check,
        &[
            granted(JOB, 1, 1, 0),
            revoked(JOB, 1, How::Crashed),
            report(1, LeaseLost),
            granted(JOB, 2, 2, 0),
            succeeded(JOB, 2),
            report(2, Repeated),
        ],
        &[
            &[succeeded(JOB, 1)],
            &[granted(JOB, 1, 1, 0), report(1, LeaseLost)],
            &[granted(JOB, 1, 1, 0), revoked(JOB, 1, How::TimedOut), succeeded(JOB, 1)],
            &[
                granted(JOB, 1, 1, 0),
                failed(JOB, 1),
                granted(JOB, 2, 2, 0),
                succeeded(JOB, 1),
            ],
            &[granted(JOB, 1, 1, 0), succeeded(JOB, 1), succeeded(JOB, 1)],
            &[
                granted(JOB, 1, 1, 0),
                revoked(JOB, 1, How::TimedOut),
                report(1, Repeated),
            ],
        ],
    );
}

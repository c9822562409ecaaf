//! No start happens while as many jobs of its tenant run as the limit allows.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::ReportReply;

use crate::facts::Fact;

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut limits = BTreeMap::new();
    let mut running: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for fact in history {
        match fact {
            Fact::Limited {
                tenant, concurrency, ..
            } => {
                limits.insert(*tenant, *concurrency);
            }
            Fact::Granted { job, tenant, .. } => {
                let running = running.entry(*tenant).or_default();
                running.insert(*job);
                let limit = limits.get(tenant).copied().unwrap_or(0);
                if limit != 0 && running.len() > limit as usize {
                    return Err(format!(
                        "{} jobs of {tenant:?} run, the limit is {limit}",
                        running.len()
                    ));
                }
            }
            Fact::Revoked { job, .. }
            | Fact::Reported {
                job,
                reply: ReportReply::Accepted(_),
                ..
            } => {
                for jobs in running.values_mut() {
                    jobs.remove(job);
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
    let limit = |concurrency| Fact::Limited {
        tenant: TENANT,
        rate: None,
        concurrency,
    };
    prove(
        check,
        &[
            limit(1),
            granted(JOB, 1, 1, 0),
            succeeded(JOB, 1),
            granted(OTHER, 2, 1, 0),
        ],
        &[
            &[limit(1), granted(JOB, 1, 1, 0), granted(OTHER, 2, 1, 0)],
            &[limit(2), granted(JOB, 1, 1, 0), limit(1), granted(OTHER, 2, 1, 0)],
            &[
                limit(1),
                granted(JOB, 1, 1, 0),
                reported(JOB, 9, How::Succeeded, ReportReply::LeaseLost),
                granted(OTHER, 2, 1, 0),
            ],
        ],
    );
}

//! A job moves along the edges of the life cycle only, and the counters of states equal a recount.

use std::collections::BTreeMap;

use muster_core::JobState::{self, *};

use crate::facts::Fact;

/// The life cycle, written down a second time.
fn is_legal(from: Option<JobState>, to: JobState) -> bool {
    match from {
        None => matches!(to, Scheduled | Blocked | Available),
        Some(Scheduled) => matches!(to, Blocked | Available | Cancelled | Expired),
        Some(Blocked) => matches!(to, Available | Cancelled | Expired),
        Some(Available) => matches!(to, Running | Cancelled | Expired),
        Some(Running) => matches!(to, Succeeded | Dead | Cancelled | Retrying | Available | Scheduled),
        Some(Retrying) => matches!(to, Available | Cancelled),
        Some(Succeeded | Dead | Cancelled | Expired) => false,
    }
}

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut states = BTreeMap::new();
    for fact in history {
        match fact {
            Fact::Entered { job, state } | Fact::Ended { job, state, .. } => {
                let from = states.insert(*job, *state);
                if !is_legal(from, *state) {
                    return Err(format!("job {job} went from {from:?} to {state:?}"));
                }
                if matches!(fact, Fact::Ended { .. }) != state.is_terminal() {
                    return Err(format!("job {job}: {state:?} was announced as {fact:?}"));
                }
            }
            Fact::Granted { job, .. } if states.get(job) != Some(&Running) => {
                return Err(format!("job {job} has a lease but is {:?}", states.get(job)));
            }
            Fact::Census { counted, shown, .. } if counted != shown => {
                return Err(format!("counted {counted:?} jobs by state, counters say {shown:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn is_proved_by_bad_histories() {
    use super::by_hand::*;
    let census = |counted, shown| Fact::Census {
        tenant: TENANT,
        counted,
        shown,
    };
    prove(
        check,
        &[
            entered(JOB, Scheduled),
            entered(JOB, Available),
            entered(JOB, Running),
            granted(JOB, 1, 1, 0),
            entered(JOB, Retrying),
            census([0, 0, 0, 1, 0], [0, 0, 0, 1, 0]),
            entered(JOB, Available),
            ended(JOB, Cancelled),
        ],
        &[
            &[entered(JOB, Running)],
            &[entered(JOB, Available), ended(JOB, Succeeded)],
            &[entered(JOB, Scheduled), entered(JOB, Running)],
            &[entered(JOB, Blocked), entered(JOB, Running)],
            &[entered(JOB, Available), ended(JOB, Cancelled), entered(JOB, Available)],
            &[entered(JOB, Available), granted(JOB, 1, 1, 0)],
            &[census([0, 1, 0, 0, 0], [0, 0, 1, 0, 0])],
        ],
    );
}

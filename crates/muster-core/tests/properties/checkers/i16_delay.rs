//! Nothing starts before its time, and replicated time never goes back.

use std::collections::BTreeMap;

use crate::facts::Fact;

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut due = BTreeMap::new();
    let mut clocks = BTreeMap::new();
    for fact in history {
        match fact {
            Fact::Asked { job, due: first, .. } => {
                due.entry(*job).or_insert(*first);
            }
            Fact::Waits { job, until, .. } => {
                due.insert(*job, *until);
            }
            Fact::Granted { job, now, .. } => {
                if let Some(due) = due.get(job)
                    && now < due
                {
                    return Err(format!("job {job} was due at {due} and started at {now}"));
                }
            }
            Fact::Applied { replica, now, .. } => {
                let before = clocks.insert(*replica, *now);
                if before > Some(*now) {
                    return Err(format!("time went from {before:?} back to {now}"));
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
    let asked = |due| Fact::Asked {
        job: JOB,
        due,
        place: None,
    };
    let waits = |until| Fact::Waits {
        job: JOB,
        since: 0,
        until,
        least: 0,
        most: until,
    };
    let applied = |now| Fact::Applied {
        replica: 1,
        index: now,
        now,
        hash: 0,
    };
    prove(
        check,
        &[
            asked(5),
            applied(5),
            granted(JOB, 1, 1, 5),
            waits(9),
            applied(9),
            granted(JOB, 2, 2, 9),
        ],
        &[
            &[asked(5), granted(JOB, 1, 1, 4)],
            &[asked(5), granted(JOB, 1, 1, 5), waits(9), granted(JOB, 2, 2, 8)],
            &[applied(7), applied(6)],
        ],
    );
}

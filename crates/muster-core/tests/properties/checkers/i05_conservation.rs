//! At every census the jobs accepted of a tenant are those ended and those live.

use std::collections::BTreeMap;

use crate::facts::Fact;

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut live: BTreeMap<_, i64> = BTreeMap::new();
    for fact in history {
        match fact {
            Fact::Accepted {
                tenant, existed: false, ..
            } => *live.entry(*tenant).or_default() += 1,
            Fact::Ended { tenant, .. } => *live.entry(*tenant).or_default() -= 1,
            Fact::Census { tenant, shown, .. } => {
                let expected = live.get(tenant).copied().unwrap_or_default();
                let actual = i64::try_from(shown.iter().sum::<u64>()).expect("few jobs");
                if expected != actual {
                    return Err(format!(
                        "{tenant:?}: accepted less ended is {expected}, live are {actual}"
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
    use muster_core::JobState;
    let census = |live| Fact::Census {
        tenant: TENANT,
        counted: [0, live, 0, 0, 0],
        shown: [0, live, 0, 0, 0],
    };
    prove(
        check,
        &[
            accepted(JOB),
            accepted(OTHER),
            census(2),
            ended(JOB, JobState::Dead),
            census(1),
        ],
        &[
            &[accepted(JOB), census(0)],
            &[census(1)],
            &[accepted(JOB), ended(JOB, JobState::Dead), census(1)],
        ],
    );
}

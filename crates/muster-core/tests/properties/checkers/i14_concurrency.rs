//! No start happens while as many jobs run behind one of its limiters as the rule allows.

use std::collections::BTreeMap;

use muster_core::ReportReply;

use super::rules::Rules;
use crate::facts::{Fact, Through};

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut rules = Rules::default();
    let mut running: BTreeMap<_, &[Through]> = BTreeMap::new();
    for fact in history {
        rules.follow(fact);
        match fact {
            Fact::Granted { job, through, .. } => {
                running.insert(*job, through);
                for limiter in through {
                    let same = |other: &Through| {
                        (other.level, &other.tenant, &other.name) == (limiter.level, &limiter.tenant, &limiter.name)
                    };
                    let count = running.values().filter(|through| through.iter().any(same)).count();
                    let most = rules.of(limiter).map_or(0, |rule| rule.concurrency);
                    if most != 0 && count > most as usize {
                        return Err(format!("{count} jobs run behind {limiter:?}, the limit is {most}"));
                    }
                }
            }
            Fact::Revoked { job, .. }
            | Fact::Reported {
                job,
                reply: ReportReply::Accepted(_),
                ..
            } => {
                running.remove(job);
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
    let start = |job, index, key| granted_through(job, index, 0, &[(key, 1)]);
    prove(
        check,
        &[
            limited("k*", None, 1),
            limited("k2", None, 0),
            start(JOB, 1, "k"),
            succeeded(JOB, 1),
            start(JOB, 2, "k2"),
            start(OTHER, 3, "k2"),
        ],
        &[
            &[limited("k", None, 1), start(JOB, 1, "k"), start(OTHER, 2, "k")],
            &[
                limited("k", None, 2),
                start(JOB, 1, "k"),
                limited("k", None, 1),
                start(OTHER, 2, "k"),
            ],
            &[
                limited("*", None, 1),
                start(JOB, 1, "k"),
                reported(JOB, 9, How::Succeeded, ReportReply::LeaseLost),
                start(OTHER, 2, "k"),
            ],
            &[
                limited("*", None, 0),
                limited("k", None, 1),
                start(JOB, 1, "k"),
                granted_through(OTHER, 2, 0, &[("other", 1), ("k", 1)]),
            ],
        ],
    );
}

//! I4: a job is in one state at each index and moves along legal edges only. From inside.

use std::collections::HashMap;

use crate::check::{Findings, lifecycle};
use crate::facts::{Facts, Fast, Line};
use crate::history::{Effect, Id, JobState};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    if !findings.needs_server(facts) {
        return;
    }
    let mut states: HashMap<Id, (JobState, Line), Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            let (job, state) = match effect {
                Effect::Accepted(job) => {
                    findings.judge(1);
                    let known = states.insert(job.job, (job.state, entry.line));
                    if let Some((state, line)) = known {
                        findings.refuse([line, entry.line], || {
                            format!("job {} was {state:?} and is accepted again at index {index}", job.job)
                        });
                    }
                    if !lifecycle::first(job.state) {
                        findings.refuse([entry.line], || format!("job {} began as {:?}", job.job, job.state));
                    }
                    continue;
                }
                Effect::Entered { job, state } | Effect::Ended { job, state, .. } => (*job, *state),
                _ => continue,
            };
            findings.judge(1);
            match states.insert(job, (state, entry.line)) {
                None => findings.refuse([entry.line], || {
                    format!("job {job} became {state:?} at index {index} and was never accepted")
                }),
                Some((from, line)) if !lifecycle::legal(from, state) => findings.refuse([line, entry.line], || {
                    format!("job {job} went from {from:?} to {state:?} at index {index}")
                }),
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    #[test]
    fn refuses() {
        prove(
            super::check,
            &[
                &|history| history.push(applied(20, vec![entered(A, JobState::Available)])),
                &|history| history.push(applied(20, vec![entered(id(99), JobState::Running)])),
                &|history| history.push(applied(20, vec![accepted(A, 0)])),
                &|history| {
                    history.push(applied(
                        20,
                        vec![accepted(id(9), 0), entered(id(9), JobState::Retrying)],
                    ));
                },
            ],
        );
    }
}

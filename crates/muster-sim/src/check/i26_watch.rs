//! I26: a watch delivers every change, once, in the order of the log, and its progress marks are true. From outside:
//! indexes never go back, no edge of the lifecycle is skipped or repeated; with server records nothing is missing.

use std::collections::{BTreeMap, HashMap};

use crate::check::{Findings, lifecycle};
use crate::facts::{Delivery, Facts, Fast, JobNo, Line, Watch};
use crate::history::{Effect, JobState};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let mut streams: BTreeMap<(u32, u32), Vec<&Delivery>> = BTreeMap::new();
    for delivery in &facts.watched {
        streams.entry(delivery.stream).or_default().push(delivery);
    }
    let log = if streams.is_empty() {
        HashMap::default()
    } else {
        changes(facts)
    };
    for (stream, mut deliveries) in streams {
        deliveries.sort_unstable_by_key(|delivery| delivery.stamp);
        from_outside(facts, findings, &deliveries);
        if let Some(watch) = facts.watches.iter().find(|watch| watch.stream == stream) {
            complete(facts, findings, watch, &deliveries, &log);
        }
    }
}

fn from_outside(facts: &Facts, findings: &mut Findings, deliveries: &[&Delivery]) {
    let mut last: Option<&Delivery> = None;
    let mut states: HashMap<JobNo, (JobState, Line), Fast> = HashMap::default();
    for delivery in deliveries {
        findings.judge(1);
        let line = delivery.stamp.line;
        if let Some(last) = last {
            let back = delivery.index < last.index;
            let passed = last.change.is_none() && delivery.change.is_some() && delivery.index <= last.index;
            if back || passed {
                findings.refuse([last.stamp.line, line], || {
                    format!("a watch delivered index {} after {}", delivery.index, last.index)
                });
            }
        }
        last = Some(delivery);
        let Some((job, state)) = delivery.change else { continue };
        if let Some((from, before)) = states.insert(job, (state, line))
            && !lifecycle::legal(from, state)
        {
            findings.refuse([before, line], || {
                format!("a watch showed job {} go from {from:?} to {state:?}", facts.id(job))
            });
        }
    }
}

/// By job: the changes of its state.
fn changes(facts: &Facts) -> HashMap<JobNo, Vec<(u64, JobState)>, Fast> {
    let mut changes: HashMap<JobNo, Vec<(u64, JobState)>, Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            if let Effect::Entered { job, state } | Effect::Ended { job, state, .. } = effect
                && let Some(job) = facts.job(*job)
            {
                changes.entry(job).or_default().push((*index, *state));
            }
        }
    }
    changes
}

/// Judges watches of one job: those of a whole tenant may begin to see a job in the middle.
fn complete(
    facts: &Facts,
    findings: &mut Findings,
    watch: &Watch,
    deliveries: &[&Delivery],
    log: &HashMap<JobNo, Vec<(u64, JobState)>, Fast>,
) {
    let (Some(job), Some(last)) = (watch.job, deliveries.last()) else {
        return;
    };
    let Some(log) = log.get(&job) else { return };
    // Of the entry last delivered from, some changes may still be on their way.
    let upto = if last.change.is_none() {
        last.index
    } else {
        last.index.saturating_sub(1)
    };
    let within = |index: u64| index > watch.after && index <= upto;
    let expected: Vec<_> = log.iter().filter(|(index, _)| within(*index)).copied().collect();
    let delivered: Vec<_> = deliveries
        .iter()
        .filter(|delivery| within(delivery.index))
        .filter_map(|delivery| Some((delivery.index, delivery.change?.1)))
        .collect();
    if expected != delivered {
        findings.refuse([last.stamp.line], || {
            format!(
                "a watch of job {} delivered {delivered:?}, the log has {expected:?}",
                facts.id(job)
            )
        });
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
                &|history| history.push(watched(200_000, A, JobState::Succeeded, 4)),
                &|history| history.push(progress(200_000, 3)),
                &|history| history.retain(|record| !matches!(record, Record::Watched(change) if change.index == 2)),
                &|history| history.push(watched(22_000, A, JobState::Retrying, 4)),
            ],
        );
    }
}

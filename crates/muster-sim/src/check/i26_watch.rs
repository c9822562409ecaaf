//! I26: a watch delivers changes in the order of the log, each once, and its progress marks are true. One that promises
//! every change leaves none out; one that promises the latest ends with the job's end. From outside: indexes never go
//! back, and states follow each other as a job's life allows; with server records nothing is missing or invented.

use std::collections::{BTreeMap, HashMap};

use crate::check::timeline::Timelines;
use crate::check::{Findings, lifecycle};
use crate::facts::{Delivery, End, Facts, Fast, JobNo, Line, Watch};
use crate::history::JobState;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let mut streams: BTreeMap<(u32, u32), Vec<&Delivery>> = BTreeMap::new();
    for delivery in &facts.watched {
        streams.entry(delivery.stream).or_default().push(delivery);
    }
    let log = if facts.watches.is_empty() {
        Timelines::empty()
    } else {
        Timelines::of(facts)
    };
    let watches: BTreeMap<(u32, u32), &Watch> = facts.watches.iter().map(|watch| (watch.stream, watch)).collect();
    for (stream, deliveries) in &mut streams {
        deliveries.sort_unstable_by_key(|delivery| delivery.stamp);
        match watches.get(stream) {
            Some(watch) if watch.latest => latest(facts, findings, deliveries, &log),
            Some(watch) => {
                every(facts, findings, deliveries);
                complete(facts, findings, watch, deliveries, &log);
            }
            None => every(facts, findings, deliveries),
        }
    }
    for watch in facts.watches.iter().filter(|watch| watch.latest) {
        ends_with_the_end(facts, findings, watch, streams.get(&watch.stream));
    }
}

/// Of a watch that promises the latest: indexes grow, states follow from each other, and the log had each.
fn latest(facts: &Facts, findings: &mut Findings, deliveries: &[&Delivery], log: &Timelines) {
    let mut last: Option<(u64, JobState, Line)> = None;
    for delivery in deliveries {
        let Some((job, state)) = delivery.change else { continue };
        findings.judge(1);
        let line = delivery.stamp.line;
        if let Some((index, from, before)) = last {
            if delivery.index <= index {
                findings.refuse([before, line], || {
                    format!("a watch delivered index {} after {index}", delivery.index)
                });
            }
            // A change of priority shows the state once more.
            let again = from == state && !state.is_terminal();
            if !again && !lifecycle::reachable(from, state) {
                findings.refuse([before, line], || {
                    format!("a watch showed job {} {state:?} after {from:?}", facts.id(job))
                });
            }
        }
        last = Some((delivery.index, state, line));
        if let Err(then) = log.agrees(facts.id(job), state, delivery.index) {
            findings.refuse([line], || {
                format!(
                    "a watch showed job {} {state:?} at index {}, the log says {then:?}",
                    facts.id(job),
                    delivery.index
                )
            });
        }
    }
}

/// A watch that was over in order has told the end.
fn ends_with_the_end(facts: &Facts, findings: &mut Findings, watch: &Watch, deliveries: Option<&Vec<&Delivery>>) {
    let call = facts.call(watch.call);
    if call.end != End::Ok {
        return;
    }
    findings.judge(1);
    let last = deliveries.and_then(|all| all.last()?.change);
    if last.is_none_or(|(_, state)| !state.is_terminal()) {
        let line = call.completed.map_or(call.invoked.line, |stamp| stamp.line);
        findings.refuse([line], || {
            format!(
                "a watch was over and the last it showed was {:?}",
                last.map(|(_, state)| state)
            )
        });
    }
}

/// Of a watch that promises every change.
fn every(facts: &Facts, findings: &mut Findings, deliveries: &[&Delivery]) {
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

/// Judges watches of one job: those of a whole tenant may begin to see a job in the middle.
fn complete(facts: &Facts, findings: &mut Findings, watch: &Watch, deliveries: &[&Delivery], log: &Timelines) {
    let (Some(job), Some(last)) = (watch.job, deliveries.last()) else {
        return;
    };
    let Some(log) = log.states(facts.id(job)) else { return };
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
                &|history| history.push(watched_by(6, 51_500, B, JobState::Running, 12)),
                &|history| history.push(watched_by(6, 40_000, B, JobState::Retrying, 9)),
                &|history| history.push(watched_by(6, 40_000, B, JobState::Available, 3)),
                &|history| {
                    history.retain(|record| !matches!(record, Record::Watched(change) if change.index == 11));
                },
            ],
        );
    }
}

//! I23: nothing starts in a stopped queue. From outside by fences between the log indexes at which a stop and the next
//! resume took effect; from inside at every grant.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::check::Findings;
use crate::facts::{End, Facts, Fast, Line, NameNo};
use crate::history::{Effect, Id, Name};

/// Of one queue, by log index: stopped or resumed, and where.
type Stops = BTreeMap<u64, (bool, Line)>;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_outside(facts, findings);
    from_inside(facts, findings);
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    // A call of unknown outcome makes the queue unjudgeable.
    let mut stops: BTreeMap<(NameNo, NameNo), Option<Stops>> = BTreeMap::new();
    for pause in &facts.pauses {
        let call = facts.call(pause.call);
        let known = stops.entry(pause.queue).or_insert_with(|| Some(Stops::new()));
        match (call.end, call.index, known.as_mut()) {
            (End::Fail, ..) => {}
            (End::Ok, Some(index), Some(stops)) => {
                let before = stops.insert(index, (pause.paused, call.invoked.line));
                // Two in one entry: which came first is not told.
                if before.is_some_and(|(paused, _)| paused != pause.paused) {
                    *known = None;
                }
            }
            _ => *known = None,
        }
    }
    if stops.is_empty() {
        return;
    }
    let mut queue_of: Vec<Option<(NameNo, NameNo)>> = vec![None; facts.jobs()];
    for row in &facts.last.jobs {
        queue_of[row.job as usize] = Some((row.tenant, row.queue));
    }
    for attempt in &facts.attempts {
        let Some(Some(known)) = queue_of[attempt.job as usize].and_then(|queue| stops.get(&queue)) else {
            continue;
        };
        findings.judge(1);
        if let Some((_, (true, line))) = known.range(..=attempt.fence >> 24).next_back() {
            let begun = attempt.started.map_or(*line, |stamp| stamp.line);
            findings.refuse([*line, begun], || {
                format!(
                    "job {} was granted under fence {} in a stopped queue",
                    facts.id(attempt.job),
                    attempt.fence
                )
            });
        }
    }
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let mut stopped: HashSet<(Name, Name), Fast> = HashSet::default();
    let mut queues: HashMap<Id, (Name, Name), Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Paused { tenant, queue, paused } => {
                    let queue = (tenant.clone(), queue.clone());
                    if *paused {
                        stopped.insert(queue);
                    } else {
                        stopped.remove(&queue);
                    }
                }
                Effect::Accepted(job) => {
                    queues.insert(job.job, (job.tenant.clone(), job.queue.clone()));
                }
                Effect::Granted { job, .. } => {
                    findings.judge(1);
                    if let Some(queue) = queues.get(job).filter(|queue| stopped.contains(*queue)) {
                        findings.refuse([entry.line], || {
                            format!("job {job} of stopped queue {:?} was granted at index {index}", queue.1)
                        });
                    }
                }
                Effect::Ended { job, .. } => {
                    queues.remove(job);
                }
                _ => {}
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
                &|history| history.extend(pause(9, 1, "mail", true, 1)),
                &|history| history.extend(pause(9, 1, "mail", true, 10)),
                &|history| {
                    history.push(applied(
                        20,
                        vec![paused("mail", true), accepted(id(9), 0), granted(id(9), 20 << 24, 1)],
                    ));
                },
            ],
        );
    }
}

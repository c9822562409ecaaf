//! I16: nothing starts before its time. By replicated time from inside, by the recording clock with slack from outside.

use std::collections::HashMap;

use crate::check::Findings;
use crate::facts::{End, Facts, Fast, Line};
use crate::history::{Effect, Id};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_outside(facts, findings);
    from_inside(facts, findings);
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    if facts.header.epoch_ms == 0 || facts.clocks_moved() {
        return;
    }
    let mut due: Vec<(u64, Line)> = vec![(0, 0); facts.jobs()];
    for ask in facts.asks.iter().filter(|ask| ask.end != End::Fail) {
        let line = facts.call(ask.call).invoked.line;
        let earliest = &mut due[ask.job as usize];
        // Of several calls for one job any may be the one that counts.
        *earliest = if earliest.1 == 0 {
            (ask.due, line)
        } else {
            (*earliest).min((ask.due, line))
        };
    }
    for attempt in &facts.attempts {
        let (Some(begun), (due, line)) = (attempt.started, due[attempt.job as usize]) else {
            continue;
        };
        if due == 0 {
            continue;
        }
        findings.judge(1);
        let at = facts.header.epoch_ms + (begun.at + facts.header.slack_us) / 1000;
        if at < due {
            findings.refuse([line, begun.line], || {
                format!("job {} began {} ms before its time", facts.id(attempt.job), due - at)
            });
        }
    }
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let mut due: HashMap<Id, (u64, Line), Fast> = HashMap::default();
    let mut late: Vec<u64> = Vec::new();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Accepted(job) => {
                    due.insert(job.job, (job.due, entry.line));
                }
                Effect::Waits { job, until } => {
                    due.insert(*job, (*until, entry.line));
                }
                Effect::Granted { job, .. } => {
                    let Some((at, line)) = due.get(job).copied() else {
                        continue;
                    };
                    findings.judge(1);
                    if entry.now < at {
                        findings.refuse([line, entry.line], || {
                            format!(
                                "job {job} began at index {index}, {} ms before its time",
                                at - entry.now
                            )
                        });
                    } else if at > 0 {
                        late.push(entry.now - at);
                    }
                }
                _ => {}
            }
        }
    }
    if !late.is_empty() {
        late.sort_unstable();
        let at = |part: usize| late[(late.len() - 1) * part / 100];
        findings.note(format!(
            "late by {} ms (median), {} ms (99th percentile)",
            at(50),
            at(99)
        ));
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
                &|history| history.push(applied(20, vec![accepted(id(9), NOW + 1), granted(id(9), 20 << 24, 1)])),
                &|history| {
                    let wait = Effect::Waits {
                        job: id(9),
                        until: NOW + 9,
                    };
                    history.push(applied(20, vec![accepted(id(9), 0), wait, granted(id(9), 20 << 24, 1)]));
                },
                &|history| {
                    let late = JobArgs {
                        available_at: EPOCH + 3_600_000,
                        ..args(id(9), None)
                    };
                    history.extend(enqueue(9, 1, late, Some((id(9), false))));
                    redo(history, [60_000, 61_000, 62_000], id(9), 9 << 24, How::Succeeded);
                },
            ],
        );
    }
}

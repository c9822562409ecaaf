//! I1: an acknowledged job is in the last scan, once, with its owner. From inside: it is in the applied log, and all that
//! the log accepted is in the last scan.

use crate::check::Findings;
use crate::facts::{End, Facts, Line};
use crate::history::Effect;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_inside(facts, findings);
    from_outside(facts, findings);
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    if !findings.needs_scan(facts) {
        return;
    }
    let mut there: Vec<(Line, u32)> = vec![(0, 0); facts.jobs()];
    for row in &facts.last.jobs {
        let place = &mut there[row.job as usize];
        if place.0 != 0 {
            findings.refuse([place.0, row.line], || {
                format!("job {} stands twice in the last scan", facts.id(row.job))
            });
        }
        *place = (row.line, row.tenant);
    }
    for ask in facts.asks.iter().filter(|ask| ask.end == End::Ok) {
        let Some((job, ..)) = ask.answer else { continue };
        findings.judge(1);
        let call = facts.call(ask.call);
        let told = call.completed.map_or(call.invoked.line, |stamp| stamp.line);
        let (line, tenant) = there[job as usize];
        if line == 0 {
            findings.refuse([told], || {
                format!("job {} was acknowledged and is not in the last scan", facts.id(job))
            });
        } else if tenant != ask.tenant {
            findings.refuse([told, line], || {
                format!(
                    "job {} of {:?} belongs to {:?}",
                    facts.id(job),
                    facts.name(ask.tenant),
                    facts.name(tenant)
                )
            });
        }
    }
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    if facts.entries.is_empty() {
        return;
    }
    let mut accepted: Vec<Option<(u64, Line)>> = vec![None; facts.jobs()];
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            if let Effect::Accepted(job) = effect
                && let Some(job) = facts.job(job.job)
            {
                accepted[job as usize] = Some((*index, entry.line));
            }
        }
    }
    for ask in facts.asks.iter().filter(|ask| ask.end == End::Ok) {
        let Some((job, ..)) = ask.answer else { continue };
        let call = facts.call(ask.call);
        let told = call.completed.map_or(call.invoked.line, |stamp| stamp.line);
        findings.judge(1);
        match accepted[job as usize] {
            None => findings.refuse([told], || {
                format!("job {} was acknowledged and is not in the log", facts.id(job))
            }),
            Some((index, line)) if call.index.is_some_and(|known| known < index) => {
                findings.refuse([told, line], || {
                    format!(
                        "job {} was acknowledged as of an index before {index}, where it was accepted",
                        facts.id(job)
                    )
                });
            }
            Some(_) => {}
        }
    }
    if !facts.last.complete() {
        return;
    }
    for row in &facts.last.jobs {
        accepted[row.job as usize] = None;
    }
    for (job, lost) in accepted.iter().enumerate() {
        if let Some((index, line)) = lost {
            findings.refuse([*line], || {
                let id = facts.id(job as u32);
                format!("job {id} was accepted at index {index} and is not in the last scan")
            });
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
                &|history| remove_job(history, A),
                &|history| remove_job(history, B),
                &|history| repeat_last_job(history, A),
                &|history| change_job(history, B, |job| job.tenant = "other".into()),
                &|history| history.extend(enqueue(9, 1, args(id(50), None), Some((id(50), false)))),
                &|history| {
                    // Of unknown outcome, accepted by the log, and gone.
                    history.extend(enqueue(9, 1, args(id(9), None), None).into_iter().take(1));
                    history.push(applied(13, vec![accepted(id(9), 0)]));
                },
            ],
        );
    }
}

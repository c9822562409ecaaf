//! I3: one id and one idempotency key make one job, however often they are sent. From outside.

use std::collections::HashMap;

use crate::check::Findings;
use crate::facts::{End, Facts, Fast, JobNo, Line, NameNo, Stamp};
use crate::history::Micros;

/// How long a key is unique.
const KEY_WINDOW: Micros = 24 * 3600 * 1_000_000;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let roots = roots(facts);
    let root = |job: JobNo| roots[job as usize];
    // By id: the job of the first reply, and the reply that says it was new.
    let mut answered: Vec<Option<(JobNo, Line)>> = vec![None; facts.jobs()];
    let mut new: Vec<Option<Line>> = vec![None; facts.jobs()];
    let mut keys: HashMap<(NameNo, NameNo), (JobNo, Stamp), Fast> = HashMap::default();
    for ask in facts.asks.iter().filter(|ask| ask.end == End::Ok) {
        let (Some((job, existed, _)), Some(told)) = (ask.answer, facts.call(ask.call).completed) else {
            continue;
        };
        findings.judge(1);
        let (first, line) = *answered[ask.job as usize].get_or_insert((job, told.line));
        if root(first) != root(job) {
            findings.refuse([line, told.line], || {
                let [id, first, job] = [ask.job, first, job].map(|job| facts.id(job));
                format!("calls for job {id} were answered with {first} and with {job}")
            });
        }
        if !existed && let Some(line) = new[job as usize].replace(told.line) {
            findings.refuse([line, told.line], || format!("job {} was new twice", facts.id(job)));
        }
        if let Some(key) = ask.key {
            let held = keys.entry((ask.tenant, key)).or_insert((job, told));
            if told.at.saturating_sub(held.1.at) > KEY_WINDOW {
                *held = (job, told);
            } else if root(held.0) != root(job) {
                let (first, before) = *held;
                findings.refuse([before.line, told.line], || {
                    let [first, job] = [first, job].map(|job| facts.id(job));
                    format!("key {:?} was answered with {first} and with {job}", facts.name(key))
                });
            }
        }
    }
    let mut last: HashMap<(NameNo, NameNo), (JobNo, Line), Fast> = HashMap::default();
    for row in &facts.last.jobs {
        let Some(key) = row.key else { continue };
        findings.judge(1);
        let (job, line) = *last.entry((row.tenant, key)).or_insert((row.job, row.line));
        if root(job) != root(row.job) {
            findings.refuse([line, row.line], || {
                let [first, job] = [job, row.job].map(|job| facts.id(job));
                format!("key {:?} made {first} and {job}", facts.name(key))
            });
        }
    }
}

/// For each job the one that it revives in the end, or itself. A revived job may take over the key of the dead one.
fn roots(facts: &Facts) -> Vec<JobNo> {
    let mut roots: Vec<JobNo> = (0..facts.jobs() as JobNo).collect();
    for ask in &facts.asks {
        if let Some(from) = ask.redrives {
            roots[ask.job as usize] = roots[from as usize];
        }
    }
    for row in &facts.last.jobs {
        if let Some(from) = row.redriven_from {
            roots[row.job as usize] = roots[from as usize];
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    #[test]
    fn refuses() {
        prove(
            super::check,
            &[
                // The same id, another job.
                &|history| history.extend(enqueue(9, 1, args(A, None), Some((B, true)))),
                // The same id, new again.
                &|history| history.extend(enqueue(9, 1, args(A, None), Some((A, false)))),
                // The same key, another job.
                &|history| history.extend(enqueue(9, 1, args(id(50), Some("key")), Some((id(50), false)))),
                &|history| change_job(history, A, |job| job.key = Some("key".into())),
            ],
        );
    }
}

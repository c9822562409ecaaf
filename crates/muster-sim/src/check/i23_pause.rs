//! I23: nothing starts in a stopped queue, or of a stopped kind. From outside by fences between the log indexes at which a stop and the next
//! resume took effect; from inside at every grant.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::check::Findings;
use crate::facts::{End, Facts, Fast, Line, NameNo};
use crate::history::{Effect, Id, Name};

/// Of one queue or kind, by log index: stopped or resumed, and where.
type Stops = BTreeMap<u64, (bool, Line)>;
/// Whether it is a kind, owner, name.
type What = (bool, Name, Name);

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_outside(facts, findings);
    from_inside(facts, findings);
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    // A call of unknown outcome makes the queue or kind unjudgeable.
    let mut stops: BTreeMap<(bool, (NameNo, NameNo)), Option<Stops>> = BTreeMap::new();
    for pause in &facts.pauses {
        let call = facts.call(pause.call);
        let what = (pause.of_kind, pause.what);
        let known = stops.entry(what).or_insert_with(|| Some(Stops::new()));
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
    let asks = facts.ask_of_jobs();
    for attempt in &facts.attempts {
        let job = attempt.job as usize;
        let queue = queue_of[job].map(|queue| (false, queue));
        let kind = asks[job].map(|ask| (true, (ask.tenant, ask.kind)));
        for what in [queue, kind].into_iter().flatten() {
            let Some(Some(known)) = stops.get(&what) else { continue };
            findings.judge(1);
            if let Some((_, (true, line))) = known.range(..=attempt.fence >> 24).next_back() {
                let begun = attempt.started.map_or(*line, |stamp| stamp.line);
                findings.refuse([*line, begun], || {
                    format!(
                        "job {} was granted under fence {} {}",
                        facts.id(attempt.job),
                        attempt.fence,
                        if what.0 {
                            "and its kind is stopped"
                        } else {
                            "in a stopped queue"
                        }
                    )
                });
            }
        }
    }
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let mut stopped: HashSet<What, Fast> = HashSet::default();
    let mut jobs: HashMap<Id, [What; 2], Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Paused { tenant, queue, paused } => {
                    stop(&mut stopped, (false, tenant.clone(), queue.clone()), *paused);
                }
                Effect::KindPaused { tenant, kind, paused } => {
                    stop(&mut stopped, (true, tenant.clone(), kind.clone()), *paused);
                }
                Effect::Accepted(job) => {
                    let queue = (false, job.tenant.clone(), job.queue.clone());
                    let kind = (true, job.tenant.clone(), job.kind.clone());
                    jobs.insert(job.job, [queue, kind]);
                }
                Effect::Granted { job, .. } => {
                    findings.judge(1);
                    let own = jobs.get(job).map(<[What; 2]>::as_slice).unwrap_or_default();
                    for (is_kind, _, name) in own.iter().filter(|what| stopped.contains(*what)) {
                        findings.refuse([entry.line], || {
                            let what = if *is_kind { "kind" } else { "queue" };
                            format!("job {job} of stopped {what} {name:?} was granted at index {index}")
                        });
                    }
                }
                Effect::Ended { job, .. } => {
                    jobs.remove(job);
                }
                _ => {}
            }
        }
    }
}

fn stop(stopped: &mut HashSet<What, Fast>, what: What, paused: bool) {
    if paused {
        stopped.insert(what);
    } else {
        stopped.remove(&what);
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
                &|history| history.extend(pause_kind(9, 1, "send", true, 10)),
                &|history| {
                    history.push(applied(
                        20,
                        vec![
                            kind_paused("send", true),
                            accepted(id(9), 0),
                            granted(id(9), 20 << 24, 1),
                        ],
                    ));
                },
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

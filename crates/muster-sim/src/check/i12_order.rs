//! I12: jobs of an ordering key run in the order of their acceptance, one at a time. From outside by attempts whose reports
//! were taken; from inside at every grant, where also the death of a strict job must hold up the others.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::check::Findings;
use crate::facts::{End, Facts, Fast, JobNo, Line, NameNo};
use crate::history::{Effect, Id, JobState, Micros, Name};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_outside(facts, findings);
    from_inside(facts, findings);
}

/// Tenant, queue and ordering key.
type Group = (NameNo, NameNo, NameNo);

/// A job of an ordering key, as its client and its workers saw it.
#[derive(Default)]
struct Seen {
    invoked: Micros,
    acknowledged: Option<Micros>,
    /// First and last beginning of an attempt whose report was taken.
    began: Option<((Micros, Line), (Micros, Line))>,
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    let mut groups: BTreeMap<Group, BTreeMap<JobNo, Seen>> = BTreeMap::new();
    let mut group_of: HashMap<JobNo, Group, Fast> = HashMap::default();
    for ask in &facts.asks {
        // A revived job may have the place of the dead one, which is not told.
        let (Some(key), None) = (ask.ordering, ask.redrives) else {
            continue;
        };
        let group = (ask.tenant, ask.queue, key);
        group_of.insert(ask.job, group);
        let call = facts.call(ask.call);
        let seen = groups.entry(group).or_default().entry(ask.job).or_insert_with(|| Seen {
            invoked: call.invoked.at,
            ..Seen::default()
        });
        seen.invoked = seen.invoked.min(call.invoked.at);
        let own = ask.end == End::Ok && ask.answer.is_some_and(|(job, ..)| job == ask.job);
        if let Some(done) = call.completed.filter(|_| own) {
            seen.acknowledged = Some(seen.acknowledged.map_or(done.at, |at| at.min(done.at)));
        }
    }
    // Ends stand before beginnings at the same time.
    let mut edges: Vec<(Group, Micros, bool, Line)> = Vec::new();
    for attempt in facts.attempts.iter().filter(|attempt| attempt.accepted.is_some()) {
        let (Some(group), Some(begun), Some((ended, _))) = (group_of.get(&attempt.job), attempt.started, attempt.ended)
        else {
            continue;
        };
        // One that took no time was beside nothing.
        if ended.at > begun.at {
            edges.push((*group, begun.at, true, begun.line));
            edges.push((*group, ended.at, false, ended.line));
        }
        if let Some(seen) = groups.get_mut(group).and_then(|jobs| jobs.get_mut(&attempt.job)) {
            let this = (begun.at, begun.line);
            let (first, last) = seen.began.unwrap_or((this, this));
            seen.began = Some((first.min(this), last.max(this)));
        }
    }
    one_at_a_time(facts, findings, edges);
    for jobs in groups.values() {
        in_order(findings, jobs.values());
    }
}

fn one_at_a_time(facts: &Facts, findings: &mut Findings, mut edges: Vec<(Group, Micros, bool, Line)>) {
    edges.sort_unstable();
    let mut running: Option<(Group, Line)> = None;
    for (group, at, begins, line) in edges {
        findings.judge(1);
        let before = running.filter(|(other, _)| *other == group);
        if let (Some((_, other)), true) = (before, begins) {
            findings.refuse([other, line], || {
                format!("two jobs of ordering key {:?} ran at {at} µs", facts.name(group.2))
            });
        }
        running = begins.then_some((group, line));
    }
}

/// Of two jobs of which one was acknowledged before the other was asked for, the first one's last attempt begins before
/// the second one's first.
fn in_order<'s>(findings: &mut Findings, jobs: impl Iterator<Item = &'s Seen>) {
    let began: Vec<&Seen> = jobs.filter(|seen| seen.began.is_some()).collect();
    let mut by_invoked = began.clone();
    by_invoked.sort_unstable_by_key(|seen| seen.invoked);
    let mut by_acknowledged: Vec<&Seen> = began.into_iter().filter(|seen| seen.acknowledged.is_some()).collect();
    by_acknowledged.sort_unstable_by_key(|seen| seen.acknowledged);
    let mut earlier = by_acknowledged.into_iter().peekable();
    let mut last: Option<(Micros, Line)> = None;
    for seen in by_invoked {
        while let Some(before) = earlier.next_if(|before| before.acknowledged < Some(seen.invoked)) {
            last = last.max(before.began.map(|(_, last)| last));
        }
        let (Some((first, _)), Some(before)) = (seen.began, last) else {
            continue;
        };
        findings.judge(1);
        if before.0 > first.0 {
            findings.refuse([before.1, first.1], || {
                format!(
                    "a job began at {} µs and one accepted before it at {} µs",
                    first.0, before.0
                )
            });
        }
    }
}

/// Within an entry the ends of jobs stand after what was accepted, so a death may be told after it was made good.
#[derive(Default)]
struct Row {
    live: Vec<Id>,
    held_by: Option<Id>,
    settled: HashSet<Id, Fast>,
}

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let mut rows: HashMap<(Name, Name, Name), Row, Fast> = HashMap::default();
    let mut jobs: HashMap<Id, ((Name, Name, Name), bool), Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Accepted(job) => {
                    let Some(key) = &job.claims.ordering_key else {
                        continue;
                    };
                    let group = (job.tenant.clone(), job.queue.clone(), key.clone());
                    let row = rows.entry(group.clone()).or_default();
                    jobs.insert(job.job, (group, job.claims.strict));
                    let dying = row.live.iter().position(|other| Some(*other) == job.redrives);
                    let at = if row.held_by.is_some() && row.held_by == job.redrives {
                        row.held_by = None;
                        0
                    } else {
                        dying.map_or(row.live.len(), |at| at + 1)
                    };
                    row.settled.extend(dying.and(job.redrives));
                    row.live.insert(at, job.job);
                }
                Effect::Granted { job, .. } => {
                    let Some((group, _)) = jobs.get(job) else { continue };
                    findings.judge(1);
                    let row = rows.entry(group.clone()).or_default();
                    if row.live.first() != Some(job) || row.held_by.is_some() {
                        let (live, held_by) = (&row.live, row.held_by);
                        findings.refuse([entry.line], || {
                            format!(
                                "job {job} starts at index {index}, but of {group:?} come first {live:?}, held by {held_by:?}"
                            )
                        });
                    }
                }
                Effect::Ended { job, state, .. } => {
                    let Some((group, strict)) = jobs.get(job) else {
                        continue;
                    };
                    let row = rows.entry(group.clone()).or_default();
                    row.live.retain(|other| other != job);
                    if *state == JobState::Dead && *strict && !row.settled.remove(job) {
                        row.held_by = Some(*job);
                    }
                }
                Effect::Released { job } => {
                    if let Some((group, _)) = jobs.get(job) {
                        let row = rows.entry(group.clone()).or_default();
                        row.held_by = row.held_by.filter(|held_by| held_by != job);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    fn ordered(job: Id, strict: bool) -> Effect {
        let Effect::Accepted(mut accepted) = accepted(job, 0) else {
            unreachable!()
        };
        accepted.claims.ordering_key = Some("k".into());
        accepted.claims.strict = strict;
        Effect::Accepted(accepted)
    }

    fn asked(history: &mut Vec<Record>, job: Id, number: u32, at: Micros) {
        let mut args = args(job, None);
        args.claims.ordering_key = Some("k".into());
        history.extend(enqueue_at(at, 9, number, args, Some((job, false))));
    }

    #[test]
    fn refuses() {
        prove(
            super::check,
            &[
                &|history| {
                    // Both at once.
                    asked(history, id(9), 1, 1_000);
                    asked(history, id(10), 2, 3_000);
                    redo(history, [11_000, 19_000, 20_000], id(9), 5 << 24, How::Succeeded);
                    redo(history, [18_000, 29_000, 30_000], id(10), 6 << 24, How::Succeeded);
                },
                &|history| {
                    // The second one first.
                    asked(history, id(9), 1, 1_000);
                    asked(history, id(10), 2, 3_000);
                    redo(history, [11_000, 19_000, 20_000], id(10), 5 << 24, How::Succeeded);
                    redo(history, [21_000, 29_000, 30_000], id(9), 6 << 24, How::Succeeded);
                },
                &|history| {
                    history.push(applied(20, vec![ordered(id(9), false), ordered(id(10), false)]));
                    history.push(applied(21, vec![granted(id(10), 21 << 24, 1)]));
                },
                &|history| {
                    history.push(applied(20, vec![ordered(id(9), true), ordered(id(10), true)]));
                    history.push(applied(
                        21,
                        vec![granted(id(9), 21 << 24, 1), ended(id(9), JobState::Dead)],
                    ));
                    history.push(applied(22, vec![granted(id(10), 22 << 24, 1)]));
                },
            ],
        );
    }
}

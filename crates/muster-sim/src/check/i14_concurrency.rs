//! I14: no more jobs run at once behind a limiter than its rule allows. From outside by attempts whose reports were taken,
//! where one rule applied all along; from inside at every grant.

use std::collections::HashMap;

use crate::check::Findings;
use crate::check::rules::{Limiter, Outside, Rules, Settled, limiters};
use crate::facts::{Facts, Fast, Line};
use crate::history::{Effect, Id, JobState, Micros};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    from_outside(facts, findings);
    from_inside(facts, findings);
}

fn from_outside(facts: &Facts, findings: &mut Findings) {
    if facts.rules.is_empty() {
        return;
    }
    let mut settled = Settled::new(facts);
    let asks = facts.ask_of_jobs();
    // Ends stand before beginnings at the same time.
    let mut edges: Vec<(Outside, Micros, bool, Line)> = Vec::new();
    for attempt in facts.attempts.iter().filter(|attempt| attempt.accepted.is_some()) {
        let (Some(ask), Some(begun), Some((ended, _))) = (asks[attempt.job as usize], attempt.started, attempt.ended)
        else {
            continue;
        };
        if ended.at <= begun.at {
            // It took no time, so it was beside nothing.
            continue;
        }
        for (limiter, _) in settled.limiters(ask) {
            let rule = settled.of(limiter).filter(|(rule, _)| rule.concurrency > 0);
            if rule.is_some_and(|(_, since)| since.before(facts, attempt, ask)) {
                edges.push((limiter, begun.at, true, begun.line));
                edges.push((limiter, ended.at, false, ended.line));
            }
        }
    }
    edges.sort_unstable();
    let mut running: Option<(Outside, u32)> = None;
    for (limiter, at, begins, line) in edges {
        findings.judge(1);
        let before = running
            .filter(|(other, _)| *other == limiter)
            .map_or(0, |(_, count)| count);
        let count = if begins { before + 1 } else { before.saturating_sub(1) };
        running = Some((limiter, count));
        let most = settled.of(limiter).map_or(u32::MAX, |(rule, _)| rule.concurrency);
        if begins && count > most {
            findings.refuse([line], || {
                format!(
                    "{count} jobs of {} {:?} of {:?} ran at {at} µs, allowed are {most}",
                    limiter.level.as_str(),
                    facts.name(limiter.name),
                    facts.name(limiter.tenant)
                )
            });
        }
    }
}

/// The limiters of a live job, and whether it runs.
type Live = (Vec<(Limiter, u32)>, bool);

fn from_inside(facts: &Facts, findings: &mut Findings) {
    let mut rules = Rules::default();
    let mut running: HashMap<Limiter, u32, Fast> = HashMap::default();
    let mut jobs: HashMap<Id, Live, Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            rules.follow(effect);
            match effect {
                Effect::Accepted(job) => {
                    jobs.insert(job.job, (limiters(job), false));
                }
                Effect::Entered { job, state } | Effect::Ended { job, state, .. } => {
                    let Some((own, runs)) = jobs.get_mut(job) else {
                        continue;
                    };
                    let was = std::mem::replace(runs, *state == JobState::Running);
                    if was == *runs {
                        continue;
                    }
                    for (limiter, _) in &*own {
                        // One that is there needs no copy of its name.
                        let count = match running.get_mut(limiter) {
                            Some(count) => count,
                            None => running.entry(limiter.clone()).or_default(),
                        };
                        if was {
                            *count = count.saturating_sub(1);
                            continue;
                        }
                        *count += 1;
                        findings.judge(1);
                        let most = rules.of(limiter).map_or(0, |rule| rule.concurrency);
                        if most > 0 && *count > most {
                            let count = *count;
                            findings.refuse([entry.line], || {
                                format!(
                                    "at index {index} job {job} is number {count} of {limiter:?}, allowed are {most}"
                                )
                            });
                        }
                    }
                    if state.is_terminal() {
                        jobs.remove(job);
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

    #[test]
    fn one_that_took_no_time_is_beside_nothing() {
        accept(super::check, &|history| {
            limit(history, LimitLevel::Key, "solo", None, 1);
            for (number, at) in [(9, 101_000), (10, 103_000)] {
                let mut args = args(id(number), None);
                args.claims.limit_keys = vec![("solo".into(), 1)];
                history.extend(enqueue(9, number as u32, args, Some((id(number), false))));
                let length = if number == 9 { 0 } else { 1_000 };
                redo(
                    history,
                    [at, at + length, at + 2_000],
                    id(number),
                    (number as u64) << 24,
                    How::Succeeded,
                );
            }
        });
    }

    #[test]
    fn refuses() {
        prove(
            super::check,
            &[
                &|history| limit(history, LimitLevel::Tenant, "*", None, 1),
                &|history| {
                    limit(history, LimitLevel::Queue, "m*", None, 2);
                    history.extend(enqueue(9, 1, args(id(9), None), Some((id(9), false))));
                    redo(history, [11_000, 19_000, 20_000], id(9), 5 << 24, How::Succeeded);
                },
                &|history| {
                    // A wide rule that allows it, and a narrow one that does not.
                    let effects = vec![
                        limited(LimitLevel::Key, "*", None, 5),
                        limited(LimitLevel::Key, "k", None, 1),
                        with_key(id(9), "k", 1),
                        with_key(id(10), "k", 1),
                    ];
                    history.push(applied(20, effects));
                    let running = [id(9), id(10)].map(|job| entered(job, JobState::Running));
                    history.push(applied(21, running.to_vec()));
                },
                &|history| {
                    // A rule that is gone does not allow what another one forbids.
                    let wide = limited(LimitLevel::Kind, "*", None, 1);
                    let narrow = limited(LimitLevel::Kind, "send", None, 0);
                    let Effect::Limit(rule) = &narrow else { return };
                    let gone = Effect::LimitGone(rule.selector.clone());
                    let effects = vec![wide, narrow.clone(), gone, accepted(id(9), 0), accepted(id(10), 0)];
                    history.push(applied(20, effects));
                    let running = [id(9), id(10)].map(|job| entered(job, JobState::Running));
                    history.push(applied(21, running.to_vec()));
                },
            ],
        );
    }
}

//! I27, as far as a history shows it: one leader at a time, one entry per index and none left out, terms and applied
//! indexes never go back. From inside.
//!
//! Votes are ordered by term and then by node, so a node that has voted for one in a term may yet vote for another of a greater
//! number. Both can come to lead in that term, then, one after the other; never the other way round.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::check::Findings;
use crate::facts::{Facts, Fast, Line};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    // What a node is told of its leader may be a moment old: only the first word of each counts.
    let mut seen: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut leaders: BTreeMap<u64, (u64, Line)> = BTreeMap::new();
    for (line, leader) in &facts.leaders {
        findings.judge(1);
        let last = leaders.entry(leader.term).or_insert((leader.node, *line));
        if leader.node < last.0 && !seen.contains(&(leader.term, leader.node)) {
            findings.refuse([last.1, *line], || {
                format!(
                    "node {} came to lead term {} after node {}",
                    leader.node, leader.term, last.0
                )
            });
        }
        if leader.node > last.0 {
            *last = (leader.node, *line);
        }
        seen.insert((leader.term, leader.node));
    }
    if facts.applied.is_empty() {
        findings.skip("no server records");
        return;
    }
    let mut log: BTreeMap<u64, (u64, u64, Line)> = BTreeMap::new();
    let mut lives: HashMap<(u64, u32), (u64, Line), Fast> = HashMap::default();
    for (line, applied) in &facts.applied {
        findings.judge(1);
        let (term, digest, first) = *log
            .entry(applied.index)
            .or_insert((applied.term, applied.digest, *line));
        if (term, digest) != (applied.term, applied.digest) {
            findings.refuse([first, *line], || {
                format!(
                    "index {} holds an entry of term {term} and another of term {}",
                    applied.index, applied.term
                )
            });
        }
        if let Some((index, before)) = lives.insert((applied.node, applied.life), (applied.index, *line))
            && applied.index <= index
        {
            findings.refuse([before, *line], || {
                format!("node {} applied index {} after {index}", applied.node, applied.index)
            });
        }
    }
    let mut last: Option<(u64, u64, Line)> = None;
    for (index, (term, _, line)) in log {
        if let Some((passed, before, first)) = last {
            if term < before {
                findings.refuse([first, line], || {
                    format!("index {index} is of term {term}, an earlier one of term {before}")
                });
            }
            if index != passed + 1 {
                findings.refuse([first, line], || {
                    format!("no node applied indexes {} to {}", passed + 1, index - 1)
                });
            }
        }
        last = Some((index, term, line));
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
                &|history| history.push(leader(0, 1)),
                &|history| history.push(applied(4, vec![])),
                &|history| change_applied(history, 12, |applied| applied.term = 0),
                &|history| history.push(applied(14, vec![])),
                &|history| {
                    let mut other = applied_by(2, 4);
                    other.digest += 1;
                    history.push(Record::Applied(other));
                },
            ],
        );
    }

    #[test]
    fn a_greater_number_may_lead_the_same_term_later() {
        accept(super::check, &|history| history.extend([leader(2, 1), leader(1, 1)]));
    }
}

//! I27, as far as a history shows it: one leader per term, one entry per index and none left out, terms and applied
//! indexes never go back. From inside.

use std::collections::{BTreeMap, HashMap};

use crate::check::Findings;
use crate::facts::{Facts, Fast, Line};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let mut leaders: BTreeMap<u64, (u64, Line)> = BTreeMap::new();
    for (line, leader) in &facts.leaders {
        findings.judge(1);
        let (node, first) = *leaders.entry(leader.term).or_insert((leader.node, *line));
        if node != leader.node {
            findings.refuse([first, *line], || {
                format!("nodes {node} and {} both led term {}", leader.node, leader.term)
            });
        }
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
                &|history| history.push(leader(2, 1)),
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
}

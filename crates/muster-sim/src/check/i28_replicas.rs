//! I28: nodes that applied the same index have the same state and saw the same effects. From inside, and by the last
//! scan.

use std::collections::HashMap;

use crate::check::Findings;
use crate::facts::{Facts, Fast, Line};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let mut hashes: HashMap<u64, (u64, u64, Line), Fast> = HashMap::default();
    let applied = facts
        .applied
        .iter()
        .map(|(line, applied)| (*line, applied.node, applied.index, applied.hash));
    let last = facts
        .last
        .nodes
        .iter()
        .map(|(line, node)| (*line, node.node, node.index, node.hash));
    for (line, node, index, hash) in applied.chain(last) {
        findings.judge(1);
        let (other, first, at) = *hashes.entry(index).or_insert((node, hash, line));
        if first != hash {
            findings.refuse([at, line], || {
                format!("at index {index} node {other} has hash {first:016x}, node {node} has {hash:016x}")
            });
        }
    }
    for (one, other) in &facts.disputed {
        findings.refuse([*one, *other], || {
            "two nodes saw different effects of one entry".to_owned()
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
                &|history| change_applied(history, 12, |applied| applied.hash += 1),
                &|history| history.push(last_node(3, 12, 99)),
                &|history| {
                    let mut other = applied_by(2, 4);
                    other.hash += 1;
                    history.push(Record::Applied(other));
                },
                &|history| {
                    let mut other = applied_by(2, 4);
                    other.effects = vec![entered(A, JobState::Retrying)];
                    history.push(Record::Applied(other));
                },
            ],
        );
    }
}

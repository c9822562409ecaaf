//! I25: each client sees its own writes, and what it sees never goes back, whichever node answers. From outside.

use std::collections::HashMap;

use crate::check::Findings;
use crate::facts::{Call, End, Facts, Fast, JobNo, Stamp};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    indexes(facts, findings);
    versions(facts, findings);
}

/// Log indexes told to a client never go back.
fn indexes(facts: &Facts, findings: &mut Findings) {
    let mut last: HashMap<u32, (u64, Stamp), Fast> = HashMap::default();
    for call in facts.calls.iter().filter(|call| call.end == End::Ok) {
        let (Some(index), Some(told)) = (call.index, call.completed) else {
            continue;
        };
        findings.judge(1);
        let before = last.entry(call.process).or_insert((index, told));
        if before.1.at <= call.invoked.at && index < before.0 {
            let (known, stamp) = *before;
            findings.refuse([stamp.line, told.line], || {
                format!("client {} was told of index {known} and then of {index}", call.process)
            });
        }
        if index >= before.0 {
            *before = (index, told);
        }
    }
}

/// Jobs that a client knows are there, and their versions never go back.
fn versions(facts: &Facts, findings: &mut Findings) {
    let mut known: HashMap<(u32, JobNo), (u64, Stamp), Fast> = HashMap::default();
    let mut asks = facts.asks.iter().peekable();
    let mut reads: Vec<_> = facts
        .reads
        .iter()
        .filter(|read| facts.call(read.call).end == End::Ok)
        .collect();
    reads.sort_by_key(|read| read.call);
    for read in reads {
        while let Some(ask) = asks.next_if(|ask| ask.call < read.call) {
            let call = facts.call(ask.call);
            if let (Some((job, ..)), Some(told)) = (ask.answer, call.completed) {
                known.entry((call.process, job)).or_insert((0, told));
            }
        }
        let call: &Call = facts.call(read.call);
        let Some(told) = call.completed else { continue };
        findings.judge(1);
        let before = known.get(&(call.process, read.job)).copied();
        let before = before.filter(|(_, stamp)| stamp.at <= call.invoked.at);
        match (before, read.seen) {
            (Some((_, stamp)), None) => findings.refuse([stamp.line, told.line], || {
                format!(
                    "client {} knew job {} and does not find it",
                    call.process,
                    facts.id(read.job)
                )
            }),
            (Some((version, stamp)), Some((.., seen))) if seen > 0 && seen < version => {
                findings.refuse([stamp.line, told.line], || {
                    format!(
                        "client {} saw job {} at version {version} and then at {seen}",
                        call.process,
                        facts.id(read.job)
                    )
                });
            }
            (_, Some((.., seen))) => {
                known.insert((call.process, read.job), (seen, told));
            }
            (None, None) => {}
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
                // Process 0 enqueued A and B.
                &|history| history.extend(not_found(0, 90, A)),
                &|history| history.extend(pause(0, 90, "calm", true, 2)),
                // Process 3 has read A at version 4.
                &|history| history.extend(read(3, 90, A, JobState::Running, 2)),
            ],
        );
    }
}

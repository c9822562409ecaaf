//! I33: the run did something: calls of each kind asked for went well, and each kind of fault that was asked for, or injected
//! more than now and then, took effect. From outside.

use std::collections::BTreeMap;

use crate::check::Findings;
use crate::facts::{End, Facts};
use crate::history::{FaultKind, OperationKind};

/// A fault may miss by chance, because what it is aimed at is down just then; all of so many do not.
const MISSES: u64 = 3;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let mut done: BTreeMap<OperationKind, u64> = BTreeMap::new();
    for call in facts.calls.iter().filter(|call| call.end == End::Ok) {
        *done.entry(call.kind).or_default() += 1;
    }
    findings.judge(done.values().sum());
    if done.is_empty() {
        findings.refuse([1], || "no call went well".to_owned());
    }
    for (kind, least) in &facts.header.demands.operations {
        let count = done.get(kind).copied().unwrap_or(0);
        if count < *least {
            findings.refuse([1], || {
                format!("{count} calls of kind {kind:?} went well, asked for are {least}")
            });
        }
    }
    // By kind: injected, took effect.
    let mut faults: BTreeMap<FaultKind, [u64; 2]> = BTreeMap::new();
    for kind in &facts.header.demands.faults {
        faults.insert(*kind, [MISSES, 0]);
    }
    for (_, fault) in &facts.faults {
        findings.judge(1);
        let [injected, took_effect] = faults.entry(fault.kind).or_default();
        *injected += 1;
        *took_effect += u64::from(fault.took_effect);
    }
    for (kind, [injected, took_effect]) in faults {
        if injected >= MISSES && took_effect == 0 {
            findings.refuse([1], || format!("no fault of kind {kind:?} took effect"));
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
                &|history| history.retain(|record| !matches!(record, Record::Complete(_))),
                &|history| history.retain(|record| !matches!(record, Record::Fault(_))),
                &|history| {
                    let dud = Fault {
                        kind: FaultKind::Drop,
                        target: "1".into(),
                        start: 1,
                        end: 2,
                        took_effect: false,
                    };
                    history.extend(vec![Record::Fault(dud); 3]);
                },
            ],
        );
    }
}

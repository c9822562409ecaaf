//! I32: after the last fault all work gets done within a bound, and all nodes come to the same index. From outside.

use crate::check::Findings;
use crate::facts::Facts;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let (Some(bound), Some(healed)) = (facts.header.demands.drained_within_us, facts.healed) else {
        findings.skip("the run did not promise to drain");
        return;
    };
    let Some((scanned, true)) = facts.last.scanned else {
        findings.skip("no complete last scan");
        return;
    };
    findings.judge(1);
    let took = scanned.at.saturating_sub(healed);
    if took > bound {
        findings.refuse([scanned.line], || {
            format!("{took} µs from the last fault to the last scan, promised are {bound}")
        });
    }
    for row in &facts.last.jobs {
        findings.judge(1);
        if !row.state.is_terminal() {
            findings.refuse([row.line], || {
                format!("job {} is still {:?}", facts.id(row.job), row.state)
            });
        }
    }
    for pair in facts.last.nodes.windows(2) {
        findings.judge(1);
        let ((one, first), (other, second)) = (&pair[0], &pair[1]);
        if first.index != second.index {
            findings.refuse([*one, *other], || {
                format!(
                    "node {} is at index {}, node {} at {}",
                    first.node, first.index, second.node, second.index
                )
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
                &|history| change_job(history, A, |job| job.state = JobState::Available),
                &|history| history.push(last_node(3, 11, 11)),
                &|history| {
                    history.push(Record::Scanned(Scanned {
                        at: Micros::MAX,
                        complete: true,
                    }));
                },
            ],
        );
    }
}

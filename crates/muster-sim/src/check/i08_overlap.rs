//! I8: two attempts of a job run at once only when the earlier one's lease was lost, and a fenced resource is used in
//! the order of fences. From outside.

use crate::check::{Findings, order};
use crate::facts::Facts;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let attempts = order::by_job(facts);
    let mut overlaps = 0_u64;
    for pair in attempts.windows(2).filter(|pair| pair[0].job == pair[1].job) {
        findings.judge(1);
        let (Some(begun), Some((ended, _))) = (pair[1].started, pair[0].ended) else {
            continue;
        };
        if begun.at >= ended.at {
            continue;
        }
        overlaps += 1;
        if let Some(taken) = pair[0].accepted {
            findings.refuse([begun.line, ended.line, taken.line], || {
                format!(
                    "job {} ran under fences {} and {} at once, and the earlier kept its lease",
                    facts.id(pair[0].job),
                    pair[0].fence,
                    pair[1].fence
                )
            });
        }
    }
    let mut writes: Vec<_> = facts.writes.iter().collect();
    writes.sort_unstable_by_key(|write| (write.job, write.stamp));
    let mut highest = (u32::MAX, 0);
    for write in writes {
        findings.judge(1);
        if highest.0 != write.job {
            highest = (write.job, 0);
        }
        if write.accepted != (write.fence >= highest.1) {
            findings.refuse([write.stamp.line], || {
                let (job, verb) = (facts.id(write.job), if write.accepted { "took" } else { "refused" });
                format!(
                    "the resource of job {job} {verb} fence {} after {}",
                    write.fence, highest.1
                )
            });
        }
        if write.accepted {
            highest.1 = highest.1.max(write.fence);
        }
    }
    if overlaps > 0 {
        findings.note(format!("{overlaps} overlaps after a lost lease"));
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
                &|history| redo(history, [30_000, 90_000, 95_000], B, 3 << 24, How::Succeeded),
                &|history| history.extend([wrote(80, B, 9 << 24, true), wrote(81, B, 3 << 24, true)]),
                &|history| history.extend([wrote(80, B, 9 << 24, true), wrote(81, B, 9 << 24, false)]),
            ],
        );
    }
}

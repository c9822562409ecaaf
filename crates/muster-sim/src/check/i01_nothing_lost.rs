//! I1: an acknowledged job is in the last scan, once, with its owner. From outside.

use crate::check::Findings;
use crate::facts::{End, Facts, Line};

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    if !findings.needs_scan(facts) {
        return;
    }
    let mut there: Vec<(Line, u32)> = vec![(0, 0); facts.jobs()];
    for row in &facts.last.jobs {
        let place = &mut there[row.job as usize];
        if place.0 != 0 {
            findings.refuse([place.0, row.line], || {
                format!("job {} stands twice in the last scan", facts.id(row.job))
            });
        }
        *place = (row.line, row.tenant);
    }
    for ask in facts.asks.iter().filter(|ask| ask.end == End::Ok) {
        let Some((job, ..)) = ask.answer else { continue };
        findings.judge(1);
        let call = facts.call(ask.call);
        let told = call.completed.map_or(call.invoked.line, |stamp| stamp.line);
        let (line, tenant) = there[job as usize];
        if line == 0 {
            findings.refuse([told], || {
                format!("job {} was acknowledged and is not in the last scan", facts.id(job))
            });
        } else if tenant != ask.tenant {
            findings.refuse([told, line], || {
                format!(
                    "job {} of {:?} belongs to {:?}",
                    facts.id(job),
                    facts.name(ask.tenant),
                    facts.name(tenant)
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
                &|history| remove_job(history, A),
                &|history| remove_job(history, B),
                &|history| repeat_last_job(history, A),
                &|history| change_job(history, B, |job| job.tenant = "other".into()),
            ],
        );
    }
}

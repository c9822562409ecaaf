//! Over every window, starts ≤ burst + count × length / period. In integers, for every pair of starts.

use std::collections::BTreeMap;

use muster_core::{RateLimit, Timestamp};

use crate::facts::Fact;

/// Whether the window from the first to the last of these starts holds too many.
fn is_over(limit: &RateLimit, starts: &[Timestamp]) -> bool {
    let (Some(first), Some(last)) = (starts.first(), starts.last()) else {
        return false;
    };
    let above_burst = (starts.len() as u128).saturating_sub(u128::from(limit.burst));
    above_burst * u128::from(limit.period) > u128::from(limit.count) * u128::from(last - first)
}

pub fn check(history: &[Fact]) -> Result<(), String> {
    // Starts since the limit was last changed.
    let mut tenants: BTreeMap<_, (RateLimit, Vec<Timestamp>)> = BTreeMap::new();
    for fact in history {
        match fact {
            Fact::Limited {
                tenant,
                rate: Some(rate),
                ..
            } if tenants.get(tenant).is_none_or(|(limit, _)| limit != rate) => {
                tenants.insert(*tenant, (*rate, Vec::new()));
            }
            Fact::Limited { tenant, rate: None, .. } => {
                tenants.remove(tenant);
            }
            Fact::Granted { tenant, now, .. } => {
                let Some((limit, starts)) = tenants.get_mut(tenant) else {
                    continue;
                };
                starts.push(*now);
                for first in 0..starts.len() {
                    if is_over(limit, &starts[first..]) {
                        return Err(format!("{tenant:?}: {:?} within {limit:?}", &starts[first..]));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn is_proved_by_bad_histories() {
    use super::by_hand::*;
    let limit = |count, period, burst| Fact::Limited {
        tenant: TENANT,
        rate: Some(RateLimit { count, period, burst }),
        concurrency: 0,
    };
    let start = |now| granted(JOB, now, 1, now);
    prove(
        check,
        &[
            limit(2, 100, 2),
            start(0),
            start(0),
            start(50),
            start(100),
            start(149),
            start(200),
        ]
        .map(|fact| if fact == start(149) { start(150) } else { fact }),
        &[
            &[limit(1, 100, 1), start(0), start(99)],
            &[limit(2, 100, 2), start(0), start(0), start(0)],
            &[limit(2, 100, 2), start(0), start(0), start(50), start(99)],
            // A long quiet time saves no more than the burst.
            &[limit(1, 10, 2), start(0), start(1000), start(1000), start(1000)],
        ],
    );
}

//! Over every window, tokens taken ≤ burst + count × length / period. In integers, for every pair of starts.

use std::collections::BTreeMap;

use muster_core::{LimitLevel, Name, RateLimit, Timestamp};

use super::rules::Rules;
use crate::facts::{Fact, Through};

/// Whether the window from the first to the last of these starts holds too many tokens.
fn is_over(limit: &RateLimit, starts: &[(Timestamp, u32)]) -> bool {
    let (Some((first, _)), Some((last, _))) = (starts.first(), starts.last()) else {
        return false;
    };
    let taken: u128 = starts.iter().map(|(_, cost)| u128::from(*cost)).sum();
    let above_burst = taken.saturating_sub(u128::from(limit.burst));
    above_burst * u128::from(limit.period) > u128::from(limit.count) * u128::from(last - first)
}

/// A limiter and its starts since its rate was last changed.
struct Known {
    limiter: Through,
    rate: Option<RateLimit>,
    starts: Vec<(Timestamp, u32)>,
}

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut rules = Rules::default();
    let mut limiters: BTreeMap<(LimitLevel, Name, Name), Known> = BTreeMap::new();
    for fact in history {
        if rules.follow(fact) {
            for known in limiters.values_mut() {
                let rate = rules.of(&known.limiter).and_then(|rule| rule.rate);
                if rate != known.rate {
                    (known.rate, known.starts) = (rate, Vec::new());
                }
            }
        }
        let Fact::Granted { through, now, .. } = fact else {
            continue;
        };
        for limiter in through {
            let key = (limiter.level, limiter.tenant.clone(), limiter.name.clone());
            let known = limiters.entry(key).or_insert_with(|| Known {
                limiter: limiter.clone(),
                rate: rules.of(limiter).and_then(|rule| rule.rate),
                starts: Vec::new(),
            });
            let Some(rate) = known.rate else { continue };
            known.starts.push((*now, limiter.cost));
            for first in 0..known.starts.len() {
                if is_over(&rate, &known.starts[first..]) {
                    return Err(format!("{limiter:?}: {:?} within {rate:?}", &known.starts[first..]));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn is_proved_by_bad_histories() {
    use super::by_hand::*;
    let limit = |count, period, burst| limited("k", Some(RateLimit { count, period, burst }), 0);
    let start = |now| granted_through(JOB, now, now, &[("k", 1)]);
    let costly = |now, cost| granted_through(JOB, now, now, &[("k", cost)]);
    prove(
        check,
        &[
            limit(2, 100, 2),
            start(0),
            start(0),
            start(50),
            start(100),
            start(150),
            start(200),
            costly(300, 2),
            limit(4, 100, 2),
            costly(300, 2),
        ],
        &[
            &[limit(1, 100, 1), start(0), start(99)],
            &[limit(2, 100, 2), start(0), start(0), start(0)],
            &[limit(2, 100, 2), start(0), start(0), start(50), start(99)],
            // A long quiet time saves no more than the burst.
            &[limit(1, 10, 2), start(0), start(1000), start(1000), start(1000)],
            &[limit(1, 10, 2), costly(0, 3)],
            &[limit(1, 10, 2), costly(0, 2), start(9)],
        ],
    );
}

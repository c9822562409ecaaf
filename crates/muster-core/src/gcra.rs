//! Rates: the generic cell rate algorithm in whole numbers.
//!
//! Time is counted in units of 1/`count` ms, so that the distance of two tokens at the full rate is exactly `period`
//! units. The state is the *theoretical arrival time*: when the next token would be due if they were taken evenly. A
//! start of `cost` tokens is admitted if the last of them is at most `(burst − 1) × period` units ahead of now, so over
//! any window of length L at most `burst + count × L / period` tokens are taken.

use crate::ids::Timestamp;
use crate::limit::RateLimit;

/// Longest period of a rate limit: 31 days.
pub(crate) const PERIOD_MAX: u64 = 31 * 24 * 3600 * 1000;
/// Most tokens per period.
pub(crate) const COUNT_MAX: u32 = 1_000_000_000;

fn units(limit: &RateLimit, at: Timestamp) -> u128 {
    u128::from(at) * u128::from(limit.count)
}

fn tokens(limit: &RateLimit, number: u32) -> u128 {
    u128::from(number) * u128::from(limit.period)
}

/// The first time at which a start is admitted; not after `now` if it is admitted at once. Never, if it costs more than
/// the burst.
pub(crate) fn admits_at(limit: &RateLimit, arrival: u128, cost: u32) -> Timestamp {
    if cost > limit.burst {
        return Timestamp::MAX;
    }
    let from = arrival.saturating_sub(tokens(limit, limit.burst - cost));
    u64::try_from(from.div_ceil(u128::from(limit.count.max(1)))).unwrap_or(Timestamp::MAX)
}

/// The first time at which a start is admitted after starts of `ahead` tokens in all, each as early as may be.
pub(crate) fn admits_after(limit: &RateLimit, arrival: u128, now: Timestamp, ahead: u64, cost: u32) -> Timestamp {
    if ahead == 0 {
        return admits_at(limit, arrival, cost);
    }
    let taken = u128::from(ahead) * u128::from(limit.period);
    admits_at(limit, arrival.max(units(limit, now)).saturating_add(taken), cost)
}

/// The state after a start at `now`.
pub(crate) fn take(limit: &RateLimit, arrival: u128, now: Timestamp, cost: u32) -> u128 {
    arrival.max(units(limit, now)).saturating_add(tokens(limit, cost))
}

/// When the bucket is full again, so that its state says nothing any more.
pub(crate) fn full_at(limit: &RateLimit, arrival: u128) -> Timestamp {
    u64::try_from(arrival.div_ceil(u128::from(limit.count.max(1)))).unwrap_or(Timestamp::MAX)
}

/// Tokens that can be taken at `now`.
pub(crate) fn level(limit: &RateLimit, arrival: u128, now: Timestamp) -> u32 {
    let ahead = arrival.saturating_sub(units(limit, now));
    let used = ahead.div_ceil(u128::from(limit.period.max(1)));
    limit.burst.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
}

/// The state under a new limit: what was used of the old one counts as the same number of tokens.
pub(crate) fn convert(old: Option<&RateLimit>, new: Option<&RateLimit>, arrival: u128, now: Timestamp) -> u128 {
    let (Some(old), Some(new)) = (old, new) else { return 0 };
    let used = arrival.saturating_sub(units(old, now));
    let used = used
        .saturating_mul(u128::from(new.period))
        .div_ceil(u128::from(old.period.max(1)));
    if used == 0 {
        return 0;
    }
    units(new, now).saturating_add(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts as early as admitted from `from` on, with the costs in turn.
    fn earliest(limit: &RateLimit, from: Timestamp, costs: &[u32], n: usize) -> Vec<(Timestamp, u32)> {
        let (mut state, mut now, mut starts) = (0, from, Vec::new());
        for cost in costs.iter().cycle().take(n) {
            now = now.max(admits_at(limit, state, *cost));
            state = take(limit, state, now, *cost);
            starts.push((now, *cost));
        }
        starts
    }

    #[test]
    fn no_window_has_more_than_burst_and_rate() {
        for (count, period, burst, costs) in [
            (1, 1, 1, &[1][..]),
            (3, 1000, 1, &[1]),
            (7, 1000, 5, &[1, 5, 2]),
            (1000, 7, 3, &[3, 1]),
            (1, 86_400_000, 2, &[2, 1, 1]),
            (999, 1000, 10, &[1, 10, 7, 1, 1]),
        ] {
            let limit = RateLimit { count, period, burst };
            let starts = earliest(&limit, 1_700_000_000_123, costs, 300);
            for i in 0..starts.len() {
                let mut taken = 0;
                for (at, cost) in &starts[i..] {
                    taken += u128::from(*cost);
                    let length = u128::from(at - starts[i].0);
                    let most = u128::from(burst) + u128::from(count) * length / u128::from(period);
                    assert!(taken <= most, "{limit:?} from {i} to {at}");
                }
            }
        }
    }

    #[test]
    fn the_full_rate_is_reached() {
        let limit = RateLimit {
            count: 7,
            period: 1000,
            burst: 5,
        };
        let starts = earliest(&limit, 1_000_000, &[1], 705);
        assert!(starts[704].0 - starts[0].0 <= 100_001);
        assert_eq!(starts[4].0, starts[0].0, "the burst starts at once");
        assert!(starts[5].0 > starts[0].0);
        let starts = earliest(&limit, 1_000_000, &[5], 141);
        assert!(
            starts[140].0 - starts[0].0 <= 100_141,
            "in pieces of the burst up to a millisecond each is lost by rounding"
        );
    }

    #[test]
    fn what_costs_more_than_the_burst_never_starts() {
        let limit = RateLimit {
            count: 1,
            period: 10,
            burst: 3,
        };
        assert_eq!(admits_at(&limit, 0, 3), 0);
        assert_eq!(admits_at(&limit, 0, 4), Timestamp::MAX);
    }

    #[test]
    fn the_level_is_what_can_be_taken() {
        let limit = RateLimit {
            count: 2,
            period: 1000,
            burst: 4,
        };
        let mut state = 0;
        assert_eq!(level(&limit, state, 5_000), 4);
        for left in [3, 2, 1, 0] {
            state = take(&limit, state, 5_000, 1);
            assert_eq!(level(&limit, state, 5_000), left);
        }
        assert_eq!((level(&limit, state, 5_499), level(&limit, state, 5_500)), (0, 1));
        assert_eq!(full_at(&limit, state), 7_000);
        assert_eq!(level(&limit, state, 7_000), 4);
    }

    #[test]
    fn a_changed_limit_keeps_what_was_used() {
        let old = RateLimit {
            count: 1,
            period: 1000,
            burst: 1,
        };
        let new = RateLimit {
            count: 10,
            period: 1000,
            burst: 1,
        };
        let used = take(&old, 0, 5000, 1);
        assert_eq!(admits_at(&old, used, 1), 6000);
        let converted = convert(Some(&old), Some(&new), used, 5000);
        assert_eq!(admits_at(&new, converted, 1), 5100);
        assert_eq!(convert(None, Some(&new), 99, 5000), 0);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let limit = RateLimit {
            count: COUNT_MAX,
            period: PERIOD_MAX,
            burst: u32::MAX,
        };
        let mut state = 0;
        for _ in 0..3 {
            state = take(&limit, state, u64::MAX, u32::MAX);
        }
        assert!(admits_at(&limit, u128::MAX, 1) > 0);
        assert!(convert(Some(&limit), Some(&limit), state, 0) > 0);
        assert!(full_at(&limit, u128::MAX) > 0);
        assert_eq!(level(&limit, u128::MAX, 0), 0);
    }
}

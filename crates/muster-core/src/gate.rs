//! Gates: the limits that must admit a start.
//!
//! A gate that refuses parks the tenant, which then costs nothing until the gate's timer wakes it (rate) or one of its
//! own attempts ends (concurrency).
//!
//! **Rate** is the generic cell rate algorithm in whole numbers. Time is counted in units of 1/`count` ms, so that the
//! distance of two starts at the full rate is exactly `period` units. The state is the *theoretical arrival time*: when
//! the next start would be due if starts came evenly. A start is admitted up to `(burst − 1) × period` units ahead of
//! it, so over any window of length L at most `burst + count × L / period` starts happen.

use crate::command::RateLimit;
use crate::ids::Timestamp;

/// Longest period of a rate limit: 31 days.
pub(crate) const PERIOD_MAX: u64 = 31 * 24 * 3600 * 1000;
/// Most starts per period.
pub(crate) const COUNT_MAX: u32 = 1_000_000_000;

fn units(limit: &RateLimit, at: Timestamp) -> u128 {
    u128::from(at) * u128::from(limit.count)
}

fn tolerance(limit: &RateLimit) -> u128 {
    u128::from(limit.burst.max(1) - 1) * u128::from(limit.period)
}

/// The first time at which a start is admitted; not after `now` if it is admitted at once.
pub(crate) fn admits_at(limit: &RateLimit, arrival: u128) -> Timestamp {
    let from = arrival.saturating_sub(tolerance(limit));
    u64::try_from(from.div_ceil(u128::from(limit.count.max(1)))).unwrap_or(u64::MAX)
}

/// The state after a start at `now`.
pub(crate) fn take(limit: &RateLimit, arrival: u128, now: Timestamp) -> u128 {
    arrival.max(units(limit, now)).saturating_add(u128::from(limit.period))
}

/// The state under a new limit: what was used of the old one counts as the same number of starts.
pub(crate) fn convert(old: Option<&RateLimit>, new: Option<&RateLimit>, arrival: u128, now: Timestamp) -> u128 {
    let (Some(old), Some(new)) = (old, new) else { return 0 };
    let used = arrival.saturating_sub(units(old, now));
    let used = used
        .saturating_mul(u128::from(new.period))
        .div_ceil(u128::from(old.period.max(1)));
    units(new, now).saturating_add(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts as early as admitted from `from` on, for `n` starts.
    fn earliest(limit: &RateLimit, from: Timestamp, n: usize) -> Vec<Timestamp> {
        let (mut state, mut now, mut starts) = (0, from, Vec::new());
        for _ in 0..n {
            now = now.max(admits_at(limit, state));
            state = take(limit, state, now);
            starts.push(now);
        }
        starts
    }

    #[test]
    fn no_window_has_more_than_burst_and_rate() {
        for (count, period, burst) in [
            (1, 1, 1),
            (3, 1000, 1),
            (7, 1000, 5),
            (1000, 7, 3),
            (1, 86_400_000, 2),
            (999, 1000, 10),
        ] {
            let limit = RateLimit { count, period, burst };
            let starts = earliest(&limit, 1_700_000_000_123, 300);
            for i in 0..starts.len() {
                for j in i..starts.len() {
                    let length = u128::from(starts[j] - starts[i]);
                    let most = u128::from(burst) + u128::from(count) * length / u128::from(period);
                    assert!((j - i + 1) as u128 <= most, "{limit:?} {i}..={j}");
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
        let starts = earliest(&limit, 1_000_000, 705);
        assert!(starts[704] - starts[0] <= 100_001);
        assert_eq!(starts[4], starts[0], "the burst starts at once");
        assert!(starts[5] > starts[0]);
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
        let used = take(&old, 0, 5000);
        assert_eq!(admits_at(&old, used), 6000);
        let converted = convert(Some(&old), Some(&new), used, 5000);
        assert_eq!(admits_at(&new, converted), 5100);
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
            state = take(&limit, state, u64::MAX);
        }
        assert!(admits_at(&limit, u128::MAX) > 0);
        assert!(convert(Some(&limit), Some(&limit), state, 0) > 0);
    }
}

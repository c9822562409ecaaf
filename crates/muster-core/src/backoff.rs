//! The wait between attempts, in whole numbers.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ids::Millis;
use crate::job::Backoff;

/// Wait after the `attempt`-th failure (from 1) of a job with this seed.
pub(crate) fn wait(backoff: &Backoff, attempt: u32, seed: u64) -> Millis {
    let attempt = attempt.max(1);
    match *backoff {
        Backoff::Fixed { delay } => delay,
        Backoff::Linear { base, cap } => base.saturating_mul(u64::from(attempt)).min(cap),
        Backoff::Exponential {
            base,
            cap,
            jitter_percent,
        } => {
            let factor = 1_u64.checked_shl(attempt - 1).unwrap_or(u64::MAX);
            let middle = base.saturating_mul(factor).min(cap);
            let span = (u128::from(middle) * u128::from(jitter_percent.min(100)) / 100) as u64;
            let random = xxh3_64_with_seed(&attempt.to_le_bytes(), seed);
            let offset = random % span.saturating_mul(2).saturating_add(1);
            (middle - span).saturating_add(offset)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_gives_its_wait() {
        let linear = Backoff::Linear { base: 10, cap: 35 };
        let exact = Backoff::Exponential {
            base: 10,
            cap: 100,
            jitter_percent: 0,
        };
        for (backoff, attempt, expected) in [
            (&Backoff::Fixed { delay: 7 }, 9, 7),
            (&linear, 1, 10),
            (&linear, 3, 30),
            (&linear, 4, 35),
            (&exact, 1, 10),
            (&exact, 2, 20),
            (&exact, 4, 80),
            (&exact, 5, 100),
            (&exact, 65, 100),
            (&exact, u32::MAX, 100),
            (
                &Backoff::Linear {
                    base: u64::MAX,
                    cap: u64::MAX,
                },
                2,
                u64::MAX,
            ),
        ] {
            assert_eq!(wait(backoff, attempt, 1), expected, "{backoff:?} {attempt}");
        }
    }

    #[test]
    fn jitter_stays_in_its_span_and_uses_it() {
        let backoff = Backoff::Exponential {
            base: 1000,
            cap: 1000,
            jitter_percent: 20,
        };
        let waits: Vec<Millis> = (0..2000).map(|seed| wait(&backoff, 3, seed)).collect();
        assert!(waits.iter().all(|wait| (800..=1200).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 820) && waits.iter().any(|wait| *wait > 1180));
        assert_eq!(wait(&backoff, 3, 5), wait(&backoff, 3, 5));
        let wild = Backoff::Exponential {
            base: u64::MAX,
            cap: u64::MAX,
            jitter_percent: 100,
        };
        wait(&wild, 3, 5);
    }
}

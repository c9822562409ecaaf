//! Quotas: bounds on what a tenant brings in. Limits (`limit.rs`) bound what starts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gcra;
use crate::ids::{Millis, Timestamp};
use crate::job::JobSpec;
use crate::limit::RateLimit;

/// When to try again what waits for jobs to end: nobody knows when they do.
const RETRY_AFTER: Millis = 1_000;

/// Bounds on the jobs of one tenant. 0 and `None` bound nothing, which is the default.
///
/// A bound set below what is there takes nothing away: no more comes in until enough has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Live jobs, in whatever state: a running one may have to wait again.
    pub jobs_max: u64,
    /// Bytes of live jobs, as [`JobSpec::bytes`] counts them.
    pub bytes_max: u64,
    /// Jobs accepted over time; each takes one token.
    pub enqueue_rate: Option<RateLimit>,
}

/// What a tenant uses of its quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaUse {
    /// Live jobs.
    pub jobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Theoretical arrival time of the enqueue rate (see `gcra`).
    pub arrival: u128,
}

/// A bound of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum QuotaBound {
    /// Live jobs.
    Jobs = 0,
    /// Bytes of live jobs.
    Bytes = 1,
    /// Jobs accepted over time.
    EnqueueRate = 2,
}

impl QuotaBound {
    /// Name of the setting, as in the proto.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jobs => "jobs_max",
            Self::Bytes => "bytes_max",
            Self::EnqueueRate => "enqueue_rate",
        }
    }
}

/// How a quota would be exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excess {
    /// Which bound.
    pub bound: QuotaBound,
    /// What would be used of it. Of the rate: tokens taken and not yet given back.
    pub value: u64,
    /// What may be. Of the rate: its burst.
    pub limit: u64,
    /// When it may fit; 0 = never, since the call alone is more than the quota.
    pub retry_after: Millis,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bound, value, limit, ..
        } = self;
        let what = bound.as_str();
        match bound {
            QuotaBound::Jobs => write!(
                f,
                "its quota {what} is {limit} live jobs, and this would be number {value}"
            ),
            QuotaBound::Bytes => write!(
                f,
                "its quota {what} is {limit}, and its live jobs would have {value} bytes"
            ),
            QuotaBound::EnqueueRate => write!(
                f,
                "its quota {what} admits no more jobs yet: {value} would be in use of {limit} at once"
            ),
        }
    }
}

impl Quota {
    /// True if it bounds nothing.
    pub fn is_unbounded(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a job of `bytes` bytes to what is used, or says what stands against it at `now`. `together`: jobs and bytes that
    /// the same call has brought already and that come in with this one or not at all.
    pub fn admit(&self, used: &mut QuotaUse, together: (u64, u64), bytes: u64, now: Timestamp) -> Result<(), Excess> {
        let (jobs, all_bytes) = (used.jobs + 1, used.bytes.saturating_add(bytes));
        let (own_jobs, own_bytes) = (together.0 + 1, together.1.saturating_add(bytes));
        let excess = |bound, value, limit, own: u64, after| {
            let retry_after = if own > limit { 0 } else { after };
            Err(Excess {
                bound,
                value,
                limit,
                retry_after,
            })
        };
        if self.jobs_max != 0 && jobs > self.jobs_max {
            return excess(QuotaBound::Jobs, jobs, self.jobs_max, own_jobs, RETRY_AFTER);
        }
        if self.bytes_max != 0 && all_bytes > self.bytes_max {
            return excess(QuotaBound::Bytes, all_bytes, self.bytes_max, own_bytes, RETRY_AFTER);
        }
        if let Some(rate) = &self.enqueue_rate {
            let at = gcra::admits_at(rate, used.arrival, 1);
            if at > now {
                let burst = u64::from(rate.burst);
                return excess(QuotaBound::EnqueueRate, burst + 1, burst, own_jobs, at - now);
            }
            used.arrival = gcra::take(rate, used.arrival, now, 1);
        }
        used.jobs = jobs;
        used.bytes = all_bytes;
        Ok(())
    }

    /// Jobs that the rate lets in at once at `now`; `None` if there is no rate.
    pub fn tokens(&self, used: &QuotaUse, now: Timestamp) -> Option<u32> {
        self.enqueue_rate.map(|rate| gcra::level(&rate, used.arrival, now))
    }
}

impl JobSpec {
    /// Bytes that count for a tenant's quota: payload, metadata, idempotency and ordering key. Never changes while it lives.
    pub fn bytes(&self) -> u64 {
        let metadata: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        let key = self.idempotency_key.as_ref().map_or(0, |key| key.len());
        let order = self.ordering.as_ref().map_or(0, |ordering| ordering.key.len());
        (self.payload.data.len() + metadata + key + order) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(jobs: u64, bytes: u64) -> QuotaUse {
        QuotaUse {
            jobs,
            bytes,
            arrival: 0,
        }
    }

    #[test]
    fn what_fits_is_added_and_what_does_not_changes_nothing() {
        let quota = Quota {
            jobs_max: 2,
            bytes_max: 100,
            enqueue_rate: None,
        };
        let mut now = used(0, 0);
        assert_eq!(quota.admit(&mut now, (0, 0), 60, 5), Ok(()));
        assert_eq!(now, used(1, 60));
        let excess = quota.admit(&mut now, (0, 0), 41, 5).expect_err("101 bytes");
        assert_eq!(
            (excess.bound, excess.value, excess.limit, excess.retry_after),
            (QuotaBound::Bytes, 101, 100, RETRY_AFTER)
        );
        assert_eq!(quota.admit(&mut now, (0, 0), 40, 5), Ok(()));
        let excess = quota.admit(&mut now, (0, 0), 0, 5).expect_err("a third job");
        assert_eq!((excess.bound, excess.value, excess.limit), (QuotaBound::Jobs, 3, 2));
        assert_eq!(now, used(2, 100));
    }

    #[test]
    fn what_can_never_fit_is_not_to_be_tried_again() {
        let quota = Quota {
            jobs_max: 2,
            bytes_max: 100,
            enqueue_rate: Some(RateLimit {
                count: 1,
                period: 1_000,
                burst: 1,
            }),
        };
        let never = |used: QuotaUse, together, bytes| {
            let excess = quota.admit(&mut used.clone(), together, bytes, 7_000);
            excess.expect_err("too much").retry_after == 0
        };
        assert!(never(used(0, 0), (0, 0), 101));
        assert!(never(used(0, 0), (1, 60), 101));
        assert!(never(used(2, 0), (2, 0), 1));
        assert!(!never(used(2, 0), (1, 0), 1));
        // The second of two that must come together finds the burst of 1 spent.
        let mut now = used(0, 0);
        assert_eq!(quota.admit(&mut now, (0, 0), 1, 7_000), Ok(()));
        assert!(never(now, (1, 1), 1));
        assert!(!never(now, (0, 0), 1));
    }

    #[test]
    fn a_rate_says_when_the_next_one_fits() {
        let quota = Quota {
            enqueue_rate: Some(RateLimit {
                count: 10,
                period: 1_000,
                burst: 3,
            }),
            ..Quota::default()
        };
        let mut now = QuotaUse::default();
        for left in [2, 1, 0] {
            assert_eq!(quota.admit(&mut now, (0, 0), 1, 50_000), Ok(()));
            assert_eq!(quota.tokens(&now, 50_000), Some(left));
        }
        let excess = quota.admit(&mut now, (0, 0), 1, 50_040).expect_err("too fast");
        assert_eq!((excess.value, excess.limit, excess.retry_after), (4, 3, 60));
        assert_eq!(quota.admit(&mut now, (0, 0), 1, 50_100), Ok(()));
        assert_eq!(now.jobs, 4);
    }

    #[test]
    fn no_quota_bounds_nothing() {
        let quota = Quota::default();
        assert!(quota.is_unbounded());
        let mut now = used(u64::MAX - 1, u64::MAX);
        assert_eq!(quota.admit(&mut now, (0, 0), u64::MAX, 0), Ok(()));
    }
}

//! One checker per invariant, each blind to the core and to the model, each tried on histories it must refuse.

mod i01_nothing_lost;
mod i02_nothing_from_nowhere;
mod i03_no_duplicate;
mod i04_one_state;
mod i05_conservation;
mod i06_one_lease;
mod i07_holder_only;
mod i08_overlap;
mod i09_honest_attempts;
mod i10_terminal;
mod i12_order;
mod i14_concurrency;
mod i15_rate;
mod i16_delay;
mod i18_backoff;
mod i28_replicas;
mod rules;

use crate::facts::Fact;

/// Judges a whole history.
pub type Checker = fn(&[Fact]) -> Result<(), String>;

/// All of them.
pub const ALL: &[(&str, Checker)] = &[
    ("I1 an accepted job is never lost", i01_nothing_lost::check),
    ("I2 nothing comes from nowhere", i02_nothing_from_nowhere::check),
    ("I3 a retry makes no second job", i03_no_duplicate::check),
    ("I4 one state at a time, legal edges only", i04_one_state::check),
    ("I5 accepted = ended + live", i05_conservation::check),
    ("I6 one live lease per job", i06_one_lease::check),
    ("I7 only the holder ends an attempt", i07_holder_only::check),
    ("I8 overlap only after a lost lease", i08_overlap::check),
    ("I9 attempts are counted honestly", i09_honest_attempts::check),
    ("I10 the end is the end", i10_terminal::check),
    ("I12 jobs of an ordering key run in order", i12_order::check),
    ("I14 concurrency limits hold", i14_concurrency::check),
    ("I15 rate limits hold over every window", i15_rate::check),
    ("I16 nothing starts early", i16_delay::check),
    ("I18 backoff keeps to its policy", i18_backoff::check),
    ("I28 replicas agree", i28_replicas::check),
];

/// The first invariant that a history breaks.
pub fn check_all(history: &[Fact]) -> Result<(), String> {
    for (name, check) in ALL {
        check(history).map_err(|fault| format!("{name}: {fault}"))?;
    }
    Ok(())
}

/// Short words for histories written by hand.
#[cfg(test)]
pub mod by_hand {
    use muster_core::{
        JobId, JobState, LeaseId, LimitLevel, LimitRule, LimitSelector, RateLimit, ReportReply, SessionId, TenantId,
        Timestamp,
    };

    use super::Checker;
    use crate::facts::{Fact, How, Limits, Through};

    pub const JOB: JobId = JobId(1);
    pub const OTHER: JobId = JobId(2);
    pub const TENANT: TenantId = TenantId(1);
    pub const SESSION: SessionId = SessionId(7);

    /// Asserts that a good history passes and each bad one does not.
    pub fn prove(check: Checker, good: &[Fact], bad: &[&[Fact]]) {
        assert_eq!(check(good), Ok(()), "a good history");
        for (number, history) in bad.iter().enumerate() {
            assert!(check(history).is_err(), "bad history {number} passed: {history:?}");
        }
        assert!(bad.len() >= 3, "three bad histories at least");
    }

    pub fn lease(index: u64) -> LeaseId {
        LeaseId { index, position: 0 }
    }

    pub fn asked(job: JobId) -> Fact {
        Fact::Asked {
            job,
            due: 0,
            place: None,
        }
    }

    pub fn accepted(job: JobId) -> Fact {
        Fact::Accepted {
            asked: job,
            job,
            tenant: TENANT,
            existed: false,
        }
    }

    /// A rule of a limit key, for all tenants.
    pub fn limited(names: &str, rate: Option<RateLimit>, concurrency: u32) -> Fact {
        Fact::Limited(LimitRule {
            selector: LimitSelector {
                level: LimitLevel::Key,
                tenants: "*".into(),
                names: names.into(),
            },
            rate,
            concurrency,
            note: "".into(),
        })
    }

    /// A start that passes limiters of these keys, with these costs.
    pub fn granted_through(job: JobId, index: u64, now: Timestamp, keys: &[(&str, u32)]) -> Fact {
        let through = keys.iter().map(|(name, cost)| Through {
            level: LimitLevel::Key,
            tenant: "t".into(),
            name: (*name).into(),
            cost: *cost,
        });
        Fact::Granted {
            job,
            tenant: TENANT,
            session: SESSION,
            lease: lease(index),
            attempt: 1,
            now,
            through: through.collect(),
        }
    }

    pub fn granted(job: JobId, index: u64, attempt: u32, now: Timestamp) -> Fact {
        Fact::Granted {
            job,
            tenant: TENANT,
            session: SESSION,
            lease: lease(index),
            attempt,
            now,
            through: Vec::new(),
        }
    }

    pub fn reported(job: JobId, index: u64, how: How, reply: ReportReply) -> Fact {
        Fact::Reported {
            job,
            session: SESSION,
            lease: lease(index),
            how,
            reply,
        }
    }

    pub fn succeeded(job: JobId, index: u64) -> Fact {
        reported(job, index, How::Succeeded, ReportReply::Accepted(JobState::Succeeded))
    }

    pub fn failed(job: JobId, index: u64) -> Fact {
        reported(job, index, How::Failed, ReportReply::Accepted(JobState::Retrying))
    }

    pub fn revoked(job: JobId, index: u64, why: How) -> Fact {
        Fact::Revoked {
            job,
            lease: lease(index),
            why,
        }
    }

    pub fn entered(job: JobId, state: JobState) -> Fact {
        Fact::Entered { job, state }
    }

    pub fn ended(job: JobId, state: JobState) -> Fact {
        ended_with(job, state, Limits::default())
    }

    pub fn ended_with(job: JobId, state: JobState, limits: Limits) -> Fact {
        Fact::Ended {
            job,
            tenant: TENANT,
            state,
            limits,
        }
    }
}

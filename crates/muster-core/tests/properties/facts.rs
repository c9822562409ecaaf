//! A history: what was asked of the core and what it said, in the order in which it happened.
//!
//! The checkers judge facts and nothing else, so they can be tried on histories written by hand.

use muster_core::{
    JobId, JobState, LeaseId, LimitLevel, LimitRule, LimitSelector, LogIndex, Millis, Name, ReportReply, SessionId,
    TenantId, Timestamp,
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A replica had applied the entry at `index`.
    Applied {
        replica: u32,
        index: LogIndex,
        now: Timestamp,
        hash: u64,
    },
    /// Somebody asked for a job that may not start before `due`.
    Asked {
        job: JobId,
        due: Timestamp,
        place: Option<Place>,
    },
    /// The answer to it: yes.
    Accepted {
        asked: JobId,
        job: JobId,
        tenant: TenantId,
        existed: bool,
    },
    /// The answer to it: no.
    NotAccepted { asked: JobId },
    /// A lease was given.
    Granted {
        job: JobId,
        tenant: TenantId,
        session: SessionId,
        lease: LeaseId,
        attempt: u32,
        now: Timestamp,
        through: Vec<Through>,
    },
    /// A worker reported an attempt.
    Reported {
        job: JobId,
        session: SessionId,
        lease: LeaseId,
        how: How,
        reply: ReportReply,
    },
    /// A lease was taken back.
    Revoked { job: JobId, lease: LeaseId, why: How },
    /// A live job entered a state.
    Entered { job: JobId, state: JobState },
    /// A job ended.
    Ended {
        job: JobId,
        tenant: TenantId,
        state: JobState,
        limits: Limits,
    },
    /// A job waits after a failure, from `since` until `until`; its policy allows `least` to `most`.
    Waits {
        job: JobId,
        since: Timestamp,
        until: Timestamp,
        least: Millis,
        most: Millis,
    },
    /// A rule of the rule book from now on.
    Limited(LimitRule),
    /// A rule is gone.
    Unlimited(LimitSelector),
    /// The jobs behind this dead one go on.
    Released { held_by: JobId },
    /// Live jobs of a tenant by state: counted one by one, and as the core's counters have them.
    Census {
        tenant: TenantId,
        counted: [u64; 5],
        shown: [u64; 5],
    },
    /// In the last scan a job was there, live.
    Present { job: JobId },
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Succeeded,
    Failed,
    /// Failed, and not to be tried again.
    FailedForGood,
    TimedOut,
    Crashed,
    /// Handed back or put off: the attempt does not count.
    Uncounted,
    /// Stopped after a cancel was asked for.
    Cancelled,
}

/// Budgets of a job and what it used of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub attempts: u32,
    pub failures: u32,
    pub crashes: u32,
    pub max_attempts: u32,
    pub max_crashes: u32,
}

/// A limiter that a start passed, and what it took of its rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Through {
    pub level: LimitLevel,
    pub tenant: Name,
    pub name: Name,
    pub cost: u32,
}

/// An ordering key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    pub tenant: Name,
    pub queue: Name,
    pub key: Name,
}

/// A job's place among the jobs of an ordering key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub order: Order,
    /// Its death holds up the others.
    pub strict: bool,
    /// The dead job that it revives.
    pub revives: Option<JobId>,
}

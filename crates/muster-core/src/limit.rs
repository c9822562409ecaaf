//! Limits as people set them: rules with patterns.
//!
//! A rule limits starts (rate), running jobs (concurrency), or both. It is for one level of the tree cluster, tenant,
//! queue, kind, key, and for the names that its patterns match. Every name has a limiter of its own: the rule
//! `key, *, 5 at once` lets five jobs of *each* key run. Of the rules of a level that match a name the most specific one
//! applies, and it alone. A job starts when the limiters of all five levels, and of each of its keys, admit it at once.

use serde::{Deserialize, Serialize};

use crate::ids::{Millis, Name};

/// Most rules in the rule book.
pub const LIMIT_RULES_MAX: usize = 10_000;
/// Most tokens that one start can take of a limit.
pub const LIMIT_COST_MAX: u32 = 1_000_000;
/// Most limit keys on one job.
pub const LIMIT_KEYS_MAX: usize = 8;

/// At most `count` tokens per `period`, and `burst` at once after a quiet time. Over any window of length L no more
/// than `burst + count × L / period` tokens are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RateLimit {
    /// Tokens per period, 1–1,000,000,000.
    pub count: u32,
    /// Length of the period in milliseconds, 1 ms–31 days.
    pub period: Millis,
    /// Tokens at once, from 1. A job that costs more never starts under this limit.
    pub burst: u32,
}

/// Where in the tree a limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum LimitLevel {
    /// All jobs of the cluster together.
    Cluster = 0,
    /// All jobs of a tenant.
    Tenant = 1,
    /// All jobs of a queue.
    Queue = 2,
    /// All jobs of a kind within a tenant.
    Kind = 3,
    /// All jobs of a tenant that carry a limit key.
    Key = 4,
}

impl LimitLevel {
    /// All levels, widest first.
    pub const ALL: [Self; 5] = [Self::Cluster, Self::Tenant, Self::Queue, Self::Kind, Self::Key];

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Tenant => "tenant",
            Self::Queue => "queue",
            Self::Kind => "kind",
            Self::Key => "key",
        }
    }
}

/// What a rule is for. Two rules with the same selector are the same rule.
///
/// A pattern is a name, or the beginning of names followed by `*`. A name is more specific than a beginning, a longer
/// beginning more than a shorter one. Of two rules the one with the more specific pattern of tenants applies; if these are
/// the same, the one with the more specific pattern of names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LimitSelector {
    /// Level.
    pub level: LimitLevel,
    /// Pattern of tenants; `*` for the cluster.
    pub tenants: Name,
    /// Pattern of queues, kinds or keys; `*` for the cluster and for tenants.
    pub names: Name,
}

/// A rule of the rule book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRule {
    /// What it is for.
    pub selector: LimitSelector,
    /// Limit on tokens over time; `None` = none.
    pub rate: Option<RateLimit>,
    /// Most jobs running at once, each counting as one whatever it costs; 0 = no limit. A rule with neither exempts what
    /// it matches from broader rules.
    pub concurrency: u32,
    /// Why, for the next operator.
    pub note: Name,
}

/// What the starts of a job take.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobLimits {
    /// Tokens that a start takes of the rates of cluster, tenant, queue and kind, from 1. Default 1.
    pub cost: u32,
    /// Limit keys, in ascending order, each once; at most 8.
    pub keys: Vec<LimitKey>,
}

/// A limit key on a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LimitKey {
    /// The key, e.g. `stripe:acct_7`. Keys of different tenants have nothing in common.
    pub key: Name,
    /// Tokens that a start takes of its rate, from 1.
    pub cost: u32,
}

impl Default for JobLimits {
    fn default() -> Self {
        Self {
            cost: 1,
            keys: Vec::new(),
        }
    }
}

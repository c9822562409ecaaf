//! Small identifiers that cross every layer.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name given by people: tenant, queue, job kind, label. Cheap to clone.
pub type Name = Arc<str>;

/// Milliseconds since the Unix epoch, as stamped by a leader. The core never reads a clock.
pub type Timestamp = u64;

/// A length of time in milliseconds.
pub type Millis = u64;

/// Index of an entry in the Raft log.
pub type LogIndex = u64;

/// Identity of a job: a UUID (version 7 when minted by Muster), ordered as its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u128);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for JobId {
    type Err = uuid::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(Self(uuid::Uuid::parse_str(s)?.as_u128()))
    }
}

/// Identity of a tenant: never reused, so a tenant deleted and made again under its old name is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TenantId(pub u64);

/// Identity of a worker session, minted at random by the node that accepted the stream. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u128);

/// Identity of an administrative request: a repeat carries the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u128);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

/// Identity of a node. Never reused, also not after its disk was lost.
pub type NodeId = u64;

/// The right to run one attempt, and its fencing token.
///
/// Index of the log entry that granted it and the position of the grant within that entry: unique in the cluster's
/// life and strictly increasing, at no cost. Ordered as (index, position).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId {
    /// Log index of the entry in which the lease was granted.
    pub index: LogIndex,
    /// Position among the grants of that entry, from 0.
    pub position: u32,
}

impl LeaseId {
    /// As one integer that keeps the order (index · 2^24 + position); the form that workers and user code see.
    ///
    /// An entry grants fewer than 2^24 leases, and an index stays below 2^40 for as long as 10,000 entries a
    /// second are written for three years; both are checked where entries are built and applied.
    pub fn fence(self) -> u64 {
        (self.index << 24) | u64::from(self.position)
    }

    /// The inverse of [`LeaseId::fence`].
    pub fn from_fence(fence: u64) -> Self {
        Self {
            index: fence >> 24,
            position: (fence & 0x00ff_ffff) as u32,
        }
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_keeps_the_order_and_comes_back() {
        let leases = [(0, 0), (0, 1), (1, 0), (1, 5), (2, 0xff_ffff), (3, 0)]
            .map(|(index, position)| LeaseId { index, position });
        for pair in leases.windows(2) {
            assert!(pair[0].fence() < pair[1].fence());
        }
        for lease in leases {
            assert_eq!(LeaseId::from_fence(lease.fence()), lease);
        }
    }
}

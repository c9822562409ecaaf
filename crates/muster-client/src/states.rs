//! States and priorities of jobs.

use std::fmt;
use std::str::FromStr;

use muster_proto::v1;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobState {
    /// Waits for its time.
    Scheduled,
    /// Its time has come, but it waits for an earlier job of its ordering key.
    Blocked,
    /// May start as soon as a worker, its tenant's share and its limits allow.
    Available,
    /// A worker holds its lease.
    Running,
    /// An attempt failed; waits for its backoff.
    Retrying,
    /// Ended well. Terminal.
    Succeeded,
    /// Ended without success, waits for an operator. Terminal until redriven.
    Dead,
    /// Ended by request. Terminal.
    Cancelled,
    /// Never started in time. Terminal.
    Expired,
    /// A state that this version of the client does not know.
    Unknown,
}

impl JobState {
    /// All states that a filter can ask for.
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Blocked,
        Self::Available,
        Self::Running,
        Self::Retrying,
        Self::Succeeded,
        Self::Dead,
        Self::Cancelled,
        Self::Expired,
    ];

    /// True when the job has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Dead | Self::Cancelled | Self::Expired)
    }

    /// In lower case, as in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Blocked => "blocked",
            Self::Available => "available",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }

    pub(crate) fn from_proto(state: i32) -> Self {
        match v1::JobState::try_from(state) {
            Ok(v1::JobState::Scheduled) => Self::Scheduled,
            Ok(v1::JobState::Blocked) => Self::Blocked,
            Ok(v1::JobState::Available) => Self::Available,
            Ok(v1::JobState::Running) => Self::Running,
            Ok(v1::JobState::Retrying) => Self::Retrying,
            Ok(v1::JobState::Succeeded) => Self::Succeeded,
            Ok(v1::JobState::Dead) => Self::Dead,
            Ok(v1::JobState::Cancelled) => Self::Cancelled,
            Ok(v1::JobState::Expired) => Self::Expired,
            Ok(v1::JobState::Unspecified) | Err(_) => Self::Unknown,
        }
    }

    pub(crate) fn to_proto(self) -> i32 {
        let state = match self {
            Self::Scheduled => v1::JobState::Scheduled,
            Self::Blocked => v1::JobState::Blocked,
            Self::Available => v1::JobState::Available,
            Self::Running => v1::JobState::Running,
            Self::Retrying => v1::JobState::Retrying,
            Self::Succeeded => v1::JobState::Succeeded,
            Self::Dead => v1::JobState::Dead,
            Self::Cancelled => v1::JobState::Cancelled,
            Self::Expired => v1::JobState::Expired,
            Self::Unknown => v1::JobState::Unspecified,
        };
        state.into()
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Error::Invalid {
                field: "state",
                message: format!("{text:?} is none of {}", Self::ALL.map(Self::as_str).join(", ")),
            })
    }
}

/// Urgency within the tenant. Each level below critical counts as one aging step (30 s, unless the tenant has another
/// [`crate::PriorityOrder`]) of waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// First.
    Critical,
    /// Before normal.
    High,
    /// The default.
    #[default]
    Normal,
    /// After normal.
    Low,
    /// Last.
    Bulk,
}

impl Priority {
    /// All levels, most urgent first.
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Normal, Self::Low, Self::Bulk];

    /// In lower case, as in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
            Self::Bulk => "bulk",
        }
    }

    pub(crate) fn from_proto(priority: i32) -> Self {
        match v1::Priority::try_from(priority) {
            Ok(v1::Priority::Critical) => Self::Critical,
            Ok(v1::Priority::High) => Self::High,
            Ok(v1::Priority::Low) => Self::Low,
            Ok(v1::Priority::Bulk) => Self::Bulk,
            Ok(v1::Priority::Normal | v1::Priority::Unspecified) | Err(_) => Self::Normal,
        }
    }

    pub(crate) fn to_proto(self) -> i32 {
        let priority = match self {
            Self::Critical => v1::Priority::Critical,
            Self::High => v1::Priority::High,
            Self::Normal => v1::Priority::Normal,
            Self::Low => v1::Priority::Low,
            Self::Bulk => v1::Priority::Bulk,
        };
        priority.into()
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|priority| priority.as_str() == text)
            .ok_or_else(|| Error::Invalid {
                field: "priority",
                message: format!("{text:?} is none of {}", Self::ALL.map(Self::as_str).join(", ")),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_proto_values_go_there_and_back() {
        for state in JobState::ALL {
            assert_eq!(state.as_str().parse::<JobState>().unwrap(), state);
            assert_eq!(JobState::from_proto(state.to_proto()), state);
        }
        for priority in Priority::ALL {
            assert_eq!(priority.as_str().parse::<Priority>().unwrap(), priority);
            assert_eq!(Priority::from_proto(priority.to_proto()), priority);
        }
        assert_eq!(JobState::from_proto(99), JobState::Unknown);
        assert!("odd".parse::<JobState>().is_err());
    }
}

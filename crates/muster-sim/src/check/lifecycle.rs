//! The edges of a job's life, written down a second time, from the documentation.

use crate::history::JobState;
use crate::history::JobState::{Available, Blocked, Cancelled, Dead, Expired, Retrying, Running, Scheduled, Succeeded};

/// Whether a job may go from one state straight to another.
pub(super) fn legal(from: JobState, to: JobState) -> bool {
    match from {
        Scheduled | Retrying => matches!(to, Available | Cancelled),
        Available => matches!(to, Running | Expired | Cancelled),
        Running => matches!(to, Succeeded | Retrying | Dead | Available | Scheduled | Cancelled),
        Blocked | Succeeded | Dead | Cancelled | Expired => false,
    }
}

/// States in which a job may be accepted.
pub(super) fn first(state: JobState) -> bool {
    matches!(state, Scheduled | Available)
}

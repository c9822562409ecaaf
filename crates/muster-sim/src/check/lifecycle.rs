//! The edges of a job's life, written down a second time, from the documentation.

use crate::history::JobState;
use crate::history::JobState::{Available, Blocked, Cancelled, Dead, Expired, Retrying, Running, Scheduled, Succeeded};

/// Whether a job may go from one state straight to another.
pub(super) fn legal(from: JobState, to: JobState) -> bool {
    match from {
        Scheduled => matches!(to, Blocked | Available | Cancelled),
        Blocked => matches!(to, Available | Expired | Cancelled),
        Retrying => matches!(to, Available | Cancelled),
        Available => matches!(to, Running | Expired | Cancelled),
        Running => matches!(to, Succeeded | Retrying | Dead | Available | Scheduled | Cancelled),
        Succeeded | Dead | Cancelled | Expired => false,
    }
}

/// Whether a job may come from one state to another by one edge or more.
pub(super) fn reachable(from: JobState, to: JobState) -> bool {
    const ALL: [JobState; 8] = [
        Scheduled, Available, Running, Retrying, Succeeded, Dead, Cancelled, Expired,
    ];
    let mut seen = [false; ALL.len()];
    let mut open = vec![from];
    while let Some(state) = open.pop() {
        for (number, next) in ALL.iter().enumerate() {
            if legal(state, *next) && !std::mem::replace(&mut seen[number], true) {
                if *next == to {
                    return true;
                }
                open.push(*next);
            }
        }
    }
    false
}

/// States in which a job may be accepted.
pub(super) fn first(state: JobState) -> bool {
    matches!(state, Scheduled | Blocked | Available)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_reached_and_not_left() {
        assert!(reachable(Scheduled, Dead) && reachable(Running, Running) && reachable(Retrying, Expired));
        assert!(!reachable(Dead, Running) && !reachable(Succeeded, Succeeded) && !reachable(Available, Blocked));
    }
}

//! The leader's list of open sessions and of when each was last heard of.
//!
//! Held in memory by the leader alone; a new leader begins anew from the replicated sessions.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use muster_core::{Millis, SessionId, Timestamp};

/// Pause before a loss is proposed again when the first proposal brought no change.
const LOSE_AGAIN: Duration = Duration::from_secs(1);

/// A session as the replicated state has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub session: SessionId,
    pub ttl: Millis,
    pub vouched_at: Timestamp,
}

#[derive(Debug)]
struct Entry {
    ttl: Duration,
    /// When it is lost if nothing is heard.
    deadline: Instant,
    /// Heard of since the log was last told.
    heard: bool,
    /// When the log was last told, as far as this leader knows.
    recorded: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Roster {
    entries: BTreeMap<SessionId, Entry>,
}

impl Roster {
    /// The list of a leader that begins at `now`. Each session gets one TTL from now, less the time for which it was
    /// already silent while others were heard of: so a row of elections does not keep a dead session alive.
    pub(crate) fn begin(known: &[Known], now: Instant) -> Self {
        let last_record = known.iter().map(|known| known.vouched_at).max().unwrap_or(0);
        let mut roster = Self::default();
        for known in known {
            let ttl = Duration::from_millis(known.ttl);
            // A live session is recorded once in a third of its TTL, so being that far behind says nothing.
            let behind = Duration::from_millis(last_record.saturating_sub(known.vouched_at));
            let silent = behind.saturating_sub(ttl / 3);
            // Its node must get the time to vouch to the new leader.
            let grace = ttl.saturating_sub(silent).max(ttl / 2);
            roster.entries.insert(
                known.session,
                Entry {
                    ttl,
                    deadline: now + grace,
                    heard: false,
                    recorded: now.checked_sub(behind).unwrap_or(now),
                },
            );
        }
        roster
    }

    /// Takes over sessions opened since, forgets those that are gone.
    pub(crate) fn refresh(&mut self, known: &[Known], now: Instant) {
        let open: HashSet<_> = known.iter().map(|known| known.session).collect();
        self.entries.retain(|session, _| open.contains(session));
        for known in known {
            let ttl = Duration::from_millis(known.ttl);
            self.entries.entry(known.session).or_insert(Entry {
                ttl,
                deadline: now + ttl,
                heard: false,
                recorded: now,
            });
        }
    }

    pub(crate) fn heard(&mut self, sessions: &[SessionId], now: Instant) {
        for session in sessions {
            if let Some(entry) = self.entries.get_mut(session) {
                entry.deadline = now + entry.ttl;
                entry.heard = true;
            }
        }
    }

    /// Sessions to declare lost now.
    pub(crate) fn lost(&mut self, now: Instant) -> Vec<SessionId> {
        let mut lost = Vec::new();
        for (session, entry) in &mut self.entries {
            if entry.deadline <= now {
                entry.deadline = now + LOSE_AGAIN;
                entry.heard = false;
                lost.push(*session);
            }
        }
        lost
    }

    /// Sessions of which the log is to be told now that they were heard of: each once in a third of its TTL at most.
    pub(crate) fn record(&mut self, now: Instant) -> Vec<SessionId> {
        let mut record = Vec::new();
        for (session, entry) in &mut self.entries {
            if entry.heard && entry.recorded + entry.ttl / 3 <= now {
                entry.heard = false;
                entry.recorded = now;
                record.push(*session);
            }
        }
        record
    }

    /// When there will be something to do if nothing is heard.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let wakes = self.entries.values().map(|entry| {
            if entry.heard {
                entry.deadline.min(entry.recorded + entry.ttl / 3)
            } else {
                entry.deadline
            }
        });
        wakes.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: u64 = 9_000;

    fn known(session: u128, vouched_at: Timestamp) -> Known {
        Known {
            session: SessionId(session),
            ttl: TTL,
            vouched_at,
        }
    }

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_silent_session_is_lost_after_its_ttl_and_not_before() {
        let start = Instant::now();
        let mut roster = Roster::begin(&[known(1, 500), known(2, 500)], start);
        roster.heard(&[SessionId(2)], after(start, 4_000));
        assert!(roster.lost(after(start, TTL - 1)).is_empty());
        assert_eq!(roster.lost(after(start, TTL)), [SessionId(1)]);
        assert!(
            roster.lost(after(start, TTL + 1)).is_empty(),
            "proposed once for a while"
        );
        assert_eq!(roster.lost(after(start, 4_000 + TTL)), [SessionId(1), SessionId(2)]);
    }

    #[test]
    fn a_new_leader_counts_the_silence_that_the_log_shows() {
        let start = Instant::now();
        // The first was silent for 5 s more than the second; a third of the TTL is normal.
        let mut roster = Roster::begin(&[known(1, 1_000), known(2, 6_000)], start);
        assert_eq!(roster.lost(after(start, 7_000)), [SessionId(1)]);
        assert_eq!(roster.lost(after(start, TTL)), [SessionId(1), SessionId(2)]);
        // However long it was: its node gets the time to vouch.
        let mut roster = Roster::begin(&[known(1, 1_000), known(2, 600_000)], start);
        assert!(roster.lost(after(start, TTL / 2 - 1)).is_empty());
        assert_eq!(roster.lost(after(start, TTL / 2)), [SessionId(1)]);
    }

    #[test]
    fn the_log_is_told_once_in_a_third_of_the_ttl() {
        let start = Instant::now();
        let mut roster = Roster::begin(&[known(1, 500), known(2, 500)], start);
        roster.heard(&[SessionId(1)], after(start, 100));
        assert!(roster.record(after(start, 2_999)).is_empty());
        assert_eq!(roster.next_wake(), Some(after(start, 3_000)));
        assert_eq!(roster.record(after(start, 3_000)), [SessionId(1)]);
        assert!(roster.record(after(start, 9_000)).is_empty(), "not heard of since");
    }

    #[test]
    fn a_refresh_follows_the_state() {
        let start = Instant::now();
        let mut roster = Roster::begin(&[known(1, 500)], start);
        roster.refresh(&[known(2, 600)], after(start, 1_000));
        assert_eq!(roster.next_wake(), Some(after(start, 1_000 + TTL)));
        roster.heard(&[SessionId(1)], after(start, 2_000));
        assert_eq!(roster.lost(after(start, 1_000 + TTL)), [SessionId(2)]);
    }
}

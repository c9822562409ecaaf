//! The state of one cluster as the beginning of another: after a restore, or when a majority was lost for good.

use crate::cluster::Member;
use crate::core::Core;
use crate::hash::Effect;
use crate::ids::{LogIndex, SessionId};
use crate::reply::Applied;

use super::session::End;

impl Core {
    /// Makes this the state of the new cluster `cluster` of these members as of `index`.
    ///
    /// Its worker sessions exist no more, so all are closed: the jobs they ran wait again, and the interrupted attempts
    /// do not count. Replicated time stands still.
    ///
    /// Not a command, since no log holds it: it is done once, on a node that is stopped, and gives the same state on every
    /// machine that does it with the same arguments. `index` must lie above every index that the old cluster may have
    /// reached, also unknown to this state, so that no fencing token is ever given out twice.
    ///
    /// # Panics
    /// If `index` is not above the applied index: the caller chooses it.
    pub fn refound(&mut self, index: LogIndex, cluster: u128, members: &[Member]) -> Applied {
        assert!(
            index > self.meta.applied,
            "a new cluster begins above the applied index {}, not at {index}",
            self.meta.applied
        );
        self.begin_entry(index);
        self.meta.cluster = cluster;
        self.effects
            .note(Effect::Bootstrap, (cluster >> 64) as u64, cluster as u64);
        let open: Vec<SessionId> = self.session_of.keys().copied().collect();
        for session in open {
            self.end_session(session, End::Closed);
        }
        self.found_members(members);
        self.compact_marks();
        self.end_entry();
        self.applied(Vec::new(), Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use crate::*;

    #[test]
    fn jobs_that_ran_wait_again_and_tokens_go_on() {
        let mut bed = Bed::new();
        bed.one(Command::Bootstrap { cluster: 7 });
        for id in 1..=3 {
            bed.enqueue(job(id));
        }
        bed.open(1, 2);
        let old = bed.row(1).lease.expect("it runs").id;
        bed.one(Command::Cancel {
            tenant: "default".into(),
            job: JobId(2),
        });
        let (now, applied) = (bed.core.meta().now, bed.core.meta().applied);

        let mut twin = Core::restore(bed.core.rows()).unwrap();
        let events = bed.core.refound(1_000_000, 8, &[]).events;
        assert_eq!(twin.refound(1_000_000, 8, &[]).events, events);
        bed.core.check_invariants().unwrap();
        assert_eq!(twin.meta(), bed.core.meta(), "every machine comes to the same state");
        let meta = bed.core.meta();
        assert_eq!((meta.cluster, meta.applied, meta.now), (8, 1_000_000, now));
        assert!(applied < 1_000_000 && bed.core.sessions().is_empty());
        let row = bed.row(1);
        assert_eq!((row.state, row.attempts, row.crashes), (JobState::Available, 0, 0));
        assert_eq!(bed.state(3), Some(JobState::Available));
        let cancelled = |event: &Event| matches!(event, Event::JobEnded(row) if row.spec.id == JobId(2) && row.state == JobState::Cancelled);
        assert!(
            events.iter().any(cancelled),
            "a cancel that was asked for holds: {events:?}"
        );

        bed.index = 1_000_000;
        bed.open(2, 1);
        assert!(bed.row(1).lease.expect("it runs again").id > old);
        // The worker of the old cluster is too late.
        let late = AttemptReport {
            job: JobId(1),
            lease: old,
            outcome: succeeded(),
        };
        assert_eq!(bed.report(2, vec![late], 0), [ReportReply::LeaseLost]);
    }

    #[test]
    #[should_panic(expected = "begins above the applied index")]
    fn the_index_must_grow() {
        let mut bed = Bed::new();
        bed.enqueue(job(1));
        bed.core.refound(1, 8, &[]);
    }
}

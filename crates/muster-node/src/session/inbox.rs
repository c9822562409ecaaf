//! What a worker said and the log does not know yet.
//!
//! Kept beside the actor, not in it: a new actor after a crash finds everything here and goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::AttemptReport;

use super::types::{SessionEnd, SessionInput};

/// Proposals of reports under way at once. The second keeps the log busy while the first comes back.
const FLIGHTS_MAX: usize = 2;

/// Reports and credits of one proposal.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    /// Names it among the flights of this session.
    pub number: u64,
    pub reports: Arc<Vec<AttemptReport>>,
    pub credit_total: u64,
}

/// What is still to be done for a session.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    reports: Vec<AttemptReport>,
    credit_total: u64,
    credit_flown: u64,
    flights: BTreeMap<u64, Flight>,
    next_flight: u64,
    quiet: Option<Progress>,
    close: Option<(SessionEnd, Progress)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Asked,
    UnderWay,
    Done,
}

/// The next proposal to make.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Report(Flight),
    Quiet,
    Close(SessionEnd),
}

impl Inbox {
    /// Takes in a frame. False when the session is closing and the frame was not heard.
    pub(crate) fn take(&mut self, input: SessionInput) -> bool {
        if self.close.is_some() {
            return false;
        }
        self.reports.extend(input.reports);
        self.credit_total = self.credit_total.saturating_add(u64::from(input.credits));
        if input.quiet {
            self.quieten();
        }
        if input.bye {
            self.close(SessionEnd::Bye);
        }
        true
    }

    /// No more jobs for this session; those it has go on.
    pub(crate) fn quieten(&mut self) {
        self.quiet.get_or_insert(Progress::Asked);
    }

    /// Asks for the end of the session; the first to ask names the reason.
    pub(crate) fn close(&mut self, end: SessionEnd) {
        self.close.get_or_insert((end, Progress::Asked));
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.close.is_some()
    }

    /// The reason of the end that was asked for.
    pub(crate) fn closing(&self) -> Option<SessionEnd> {
        self.close.map(|(end, _)| end)
    }

    /// The next proposal to make now, if any; it counts as under way from here on.
    pub(crate) fn next(&mut self, batch_max: usize) -> Option<Step> {
        if let Some(flight) = self.next_flight(batch_max) {
            return Some(Step::Report(flight));
        }
        if self.quiet == Some(Progress::Asked) {
            self.quiet = Some(Progress::UnderWay);
            return Some(Step::Quiet);
        }
        let (end, progress) = self.close?;
        // What the worker still reported is made durable before its leases are taken away.
        if progress != Progress::Asked || !self.flights.is_empty() || !self.reports.is_empty() {
            return None;
        }
        self.close = Some((end, Progress::UnderWay));
        Some(Step::Close(end))
    }

    fn next_flight(&mut self, batch_max: usize) -> Option<Flight> {
        // Credits of a session that closes would only bring jobs that nobody runs.
        let new_credit = self.credit_total > self.credit_flown && self.close.is_none();
        if self.flights.len() >= FLIGHTS_MAX || (self.reports.is_empty() && !new_credit) {
            return None;
        }
        let rest = self.reports.split_off(self.reports.len().min(batch_max));
        let reports = std::mem::replace(&mut self.reports, rest);
        if new_credit {
            self.credit_flown = self.credit_total;
        }
        let flight = Flight {
            number: self.next_flight,
            reports: Arc::new(reports),
            credit_total: self.credit_flown,
        };
        self.next_flight += 1;
        self.flights.insert(flight.number, flight.clone());
        Some(flight)
    }

    /// A flight came back with an answer. `None` if it had come back before.
    pub(crate) fn landed(&mut self, number: u64) -> Option<Flight> {
        self.flights.remove(&number)
    }

    pub(crate) fn quieted(&mut self) {
        self.quiet = Some(Progress::Done);
    }

    /// After a crash of the actor: what was under way goes out again. Nothing is counted twice, as reports are known
    /// by their lease and credits are totals.
    pub(crate) fn recover(&mut self) {
        let mut reports = Vec::new();
        for flight in std::mem::take(&mut self.flights).into_values() {
            reports.extend(flight.reports.iter().cloned());
        }
        reports.append(&mut self.reports);
        self.reports = reports;
        self.credit_flown = 0;
        if self.quiet == Some(Progress::UnderWay) {
            self.quiet = Some(Progress::Asked);
        }
        if let Some((_, progress)) = &mut self.close {
            *progress = Progress::Asked;
        }
    }

    /// Leases with a report that waits or is under way.
    pub(crate) fn reported(&self) -> impl Iterator<Item = muster_core::LeaseId> {
        let flying = self.flights.values().flat_map(|flight| flight.reports.iter());
        flying.chain(&self.reports).map(|report| report.lease)
    }
}

#[cfg(test)]
mod tests {
    use muster_core::{AttemptOutcome, JobId, LeaseId};

    use super::*;

    fn report(index: u64) -> AttemptReport {
        AttemptReport {
            job: JobId(u128::from(index)),
            lease: LeaseId { index, position: 0 },
            outcome: AttemptOutcome::Preempted,
        }
    }

    fn frame(reports: std::ops::Range<u64>, credits: u32) -> SessionInput {
        SessionInput {
            reports: reports.map(report).collect(),
            credits,
            ..SessionInput::default()
        }
    }

    fn flight(inbox: &mut Inbox) -> Flight {
        match inbox.next(100) {
            Some(Step::Report(flight)) => flight,
            other => panic!("expected a flight, not {other:?}"),
        }
    }

    #[test]
    fn frames_merge_while_two_flights_are_under_way() {
        let mut inbox = Inbox::default();
        inbox.take(frame(0..2, 5));
        let first = flight(&mut inbox);
        assert_eq!((first.reports.len(), first.credit_total), (2, 5));
        inbox.take(frame(2..3, 1));
        let second = flight(&mut inbox);
        assert_eq!((second.reports.len(), second.credit_total), (1, 6));
        inbox.take(frame(3..5, 2));
        inbox.take(frame(5..9, 4));
        assert!(inbox.next(100).is_none());
        assert!(inbox.landed(first.number).is_some());
        assert!(inbox.landed(first.number).is_none());
        let third = flight(&mut inbox);
        assert_eq!((third.reports.len(), third.credit_total), (6, 12));
    }

    #[test]
    fn a_batch_is_bounded_and_keeps_the_order() {
        let mut inbox = Inbox::default();
        inbox.take(frame(0..5, 0));
        let mut sizes = Vec::new();
        while let Some(Step::Report(flight)) = inbox.next(2) {
            sizes.push(flight.reports.iter().map(|r| r.lease.index).collect::<Vec<_>>());
            inbox.landed(flight.number);
        }
        assert_eq!(sizes, [vec![0, 1], vec![2, 3], vec![4]]);
    }

    #[test]
    fn bye_waits_for_all_reports_and_ends_the_hearing() {
        let mut inbox = Inbox::default();
        inbox.take(SessionInput {
            bye: true,
            ..frame(0..1, 3)
        });
        assert!(!inbox.take(frame(1..2, 0)));
        let last = flight(&mut inbox);
        assert_eq!(last.credit_total, 0, "a session that closes asks for no jobs");
        assert!(inbox.next(100).is_none());
        inbox.landed(last.number);
        assert!(matches!(inbox.next(100), Some(Step::Close(SessionEnd::Bye))));
        assert!(inbox.next(100).is_none());
    }

    #[test]
    fn after_a_crash_everything_under_way_goes_out_again() {
        let mut inbox = Inbox::default();
        inbox.take(SessionInput {
            quiet: true,
            ..frame(0..2, 4)
        });
        let _lost = flight(&mut inbox);
        assert!(matches!(inbox.next(100), Some(Step::Quiet)));
        inbox.take(frame(2..3, 1));
        inbox.recover();
        assert_eq!(inbox.reported().count(), 3);
        let again = flight(&mut inbox);
        assert_eq!((again.reports.len(), again.credit_total), (3, 5));
        assert!(matches!(inbox.next(100), Some(Step::Quiet)));
        inbox.quieted();
        inbox.landed(again.number);
        inbox.take(SessionInput {
            bye: true,
            ..SessionInput::default()
        });
        assert!(matches!(inbox.next(100), Some(Step::Close(_))));
        inbox.recover();
        assert!(matches!(inbox.next(100), Some(Step::Close(_))));
    }
}

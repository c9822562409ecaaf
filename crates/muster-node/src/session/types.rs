//! What crosses the border between a worker's stream and its session.

use muster_core::{Assignment, AttemptReport, JobId, LeaseId, Millis, Name, ReportReply, WorkerClass};

/// How a worker introduces itself.
#[derive(Clone, Debug)]
pub struct SessionHello {
    /// For people.
    pub name: Name,
    /// What it takes.
    pub class: WorkerClass,
    /// Silence that loses the session, in milliseconds; 1,000–600,000.
    pub ttl: Millis,
}

/// What a worker has to say. An empty one is a sign of life.
#[derive(Clone, Debug, Default)]
pub struct SessionInput {
    /// Ended attempts.
    pub reports: Vec<AttemptReport>,
    /// Further jobs there is room for.
    pub credits: u32,
    /// No more jobs.
    pub quiet: bool,
    /// All is reported: close in order. Nothing after it is heard.
    pub bye: bool,
}

/// What the node has to say to a worker; the worker takes in the jobs before the stops.
#[derive(Clone, Debug, Default)]
pub struct SessionOutput {
    /// Jobs to run.
    pub jobs: Vec<Assignment>,
    /// What became of reports.
    pub acks: Vec<ReportAck>,
    /// Attempts to stop.
    pub stops: Vec<Stop>,
    /// The node is drained: go on at another, and leave this session when its jobs are done.
    pub leave: bool,
}

impl SessionOutput {
    /// True when there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.acks.is_empty() && self.stops.is_empty() && !self.leave
    }
}

/// Answer to one report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportAck {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub lease: LeaseId,
    /// What became of it, durable.
    pub reply: ReportReply,
}

/// An attempt to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub lease: LeaseId,
    /// Why.
    pub reason: StopReason,
}

/// Why an attempt is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A client asked for it; the worker reports `Cancelled`.
    Cancel,
    /// The lease is gone; no report is wanted.
    LeaseLost,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The worker said bye and all it reported is durable.
    Bye,
    /// Silent for too long, its stream broke, or the leader gave it up: its leases are reclaimed.
    Lost,
    /// The node stops; the worker should connect to another.
    Shutdown,
    /// The node is drained and the worker did not leave in time; it should connect to another.
    Drained,
    /// The session's actor crashed too often; its leases were taken back without counting the attempts.
    Failed,
}

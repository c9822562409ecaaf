//! What jobs do.

use std::future::Future;
use std::time::Duration;

use muster_sim::history::{How, Id, WorkerLog};

use crate::chaos::load::CALM;
use crate::chaos::world::World;

/// All kinds of job.
pub(super) const KINDS: [&str; 6 + CALM.len()] = [
    "work", "flaky", "moody", "fatal", "doomed", "stuck", CALM[0], CALM[1], CALM[2], CALM[3],
];
/// Wait of a job that is put off.
pub(super) const SNOOZE: Duration = Duration::from_millis(200);

/// An attempt as a worker got it.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) job: Id,
    pub(super) fence: u64,
    pub(super) number: u32,
    pub(super) kind: String,
    /// Number in the payload.
    pub(super) argument: u32,
}

impl Attempt {
    /// Number in a payload, with which it begins.
    pub(super) fn argument(payload: &[u8]) -> u32 {
        let text = std::str::from_utf8(payload).ok();
        let first = text.and_then(|text| text.split(' ').next());
        first.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Runs the job: uses the resource at the beginning and at the end, and says how it ended. `stop`: a cancel was
    /// asked for.
    pub(super) async fn run(&self, world: &World, log: &WorkerLog, stop: impl Future<Output = ()>) -> How {
        log.started(self.job, self.fence, self.number);
        self.write(world, log);
        let time = match self.kind.as_str() {
            "work" => u64::from(self.argument),
            "stuck" => 60_000,
            _ => 10,
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(time)) => {}
            () = stop => return How::Cancelled,
        }
        self.write(world, log);
        match self.kind.as_str() {
            "flaky" if self.number <= self.argument => How::Failed {
                retry_after_ms: if self.number == 1 { 250 } else { 0 },
            },
            // Fences of a job's attempts differ, so it is not put off for ever.
            "moody" => match (self.fence >> 24) % 3 {
                0 => How::Succeeded,
                1 => How::Snoozed,
                _ => How::Throttled,
            },
            "fatal" => How::FailedForGood,
            "doomed" => How::Failed { retry_after_ms: 0 },
            _ => How::Succeeded,
        }
    }

    fn write(&self, world: &World, log: &WorkerLog) {
        let note = |accepted| log.wrote(self.job, self.fence, accepted);
        world.resource.write(self.job, self.fence, note);
    }
}

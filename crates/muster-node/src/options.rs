//! Options of the node: the `[server]` table of `cluster.toml`.

use std::time::Duration;

use serde::Deserialize;

use crate::Error;
use crate::local::HttpWorkerOptions;

/// Reads a duration with a unit, such as `"250ms"` or `"10s"`.
pub(crate) use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;

/// Options of a node.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeOptions {
    /// This node's id. Not read from the table: the server sets it.
    #[serde(skip)]
    pub node: muster_core::NodeId,
    /// Worker sessions this node holds at most. Default 10,000.
    pub sessions_max: usize,
    /// Reports of one session that wait for their acknowledgement to be taken; more make the stream wait. Default 20,000.
    pub session_reports_max: usize,
    /// Reports in one proposal of a session. Default 2,000.
    pub report_batch_max: usize,
    /// Time one proposal gets before it is tried again. Default `"5s"`.
    #[serde(with = "duration")]
    pub propose_timeout: Duration,
    /// On stop: how long local workers may finish what they run. Default `"500ms"`.
    #[serde(with = "duration")]
    pub local_drain: Duration,
    /// When the node is drained: how long workers may take to go elsewhere, their running jobs included. Afterwards their
    /// sessions are closed and the jobs handed back, uncounted. Default `"30s"`.
    #[serde(with = "duration")]
    pub session_drain: Duration,
    /// Restart of crashed actors.
    pub restart: RestartOptions,
    /// Checkpoints of the memory state.
    pub checkpoint: CheckpointOptions,
    /// Workers that call a URL for each job.
    #[serde(rename = "http_worker")]
    pub http_workers: Vec<HttpWorkerOptions>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            node: 0,
            sessions_max: 10_000,
            session_reports_max: 20_000,
            report_batch_max: 2_000,
            propose_timeout: Duration::from_secs(5),
            local_drain: Duration::from_millis(500),
            session_drain: Duration::from_secs(30),
            restart: RestartOptions::default(),
            checkpoint: CheckpointOptions::default(),
            http_workers: Vec::new(),
        }
    }
}

/// How often an actor may crash, and how long it then waits.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestartOptions {
    /// Restarts of one actor within `window`; one more and the node gives up (a session is closed). Default 5.
    pub max: u32,
    /// See `max`. Default `"30s"`.
    #[serde(with = "duration")]
    pub window: Duration,
    /// Wait before the first restart; doubles with each within the window. Default `"10ms"`.
    #[serde(with = "duration")]
    pub backoff_min: Duration,
    /// Longest wait. Default `"2s"`.
    #[serde(with = "duration")]
    pub backoff_max: Duration,
}

impl Default for RestartOptions {
    fn default() -> Self {
        Self {
            max: 5,
            window: Duration::from_secs(30),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(2),
        }
    }
}

/// When the memory state is written back. The pause between checkpoints adapts within the bounds.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointOptions {
    /// Shortest pause. Default `"50ms"`.
    #[serde(with = "duration")]
    pub pause_min: Duration,
    /// Longest pause. Default `"1s"`.
    #[serde(with = "duration")]
    pub pause_max: Duration,
    /// The time for which a checkpoint may lock the state, its parts together; longer ones shorten the pause. Default `"3ms"`.
    #[serde(with = "duration")]
    pub lock_target: Duration,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        Self {
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(1),
            lock_target: Duration::from_millis(3),
        }
    }
}

impl NodeOptions {
    /// Checks ranges and relations.
    pub fn validate(&self) -> Result<(), Error> {
        at_least("sessions_max", self.sessions_max, 1)?;
        at_least("session_reports_max", self.session_reports_max, 1)?;
        at_least("report_batch_max", self.report_batch_max, 1)?;
        not_above(
            "restart.backoff_min",
            self.restart.backoff_min,
            "restart.backoff_max",
            self.restart.backoff_max,
        )?;
        not_above(
            "checkpoint.pause_min",
            self.checkpoint.pause_min,
            "checkpoint.pause_max",
            self.checkpoint.pause_max,
        )?;
        for worker in &self.http_workers {
            worker.validate()?;
        }
        Ok(())
    }
}

fn at_least(field: &'static str, value: usize, min: usize) -> Result<(), Error> {
    if value >= min {
        return Ok(());
    }
    Err(Error::Option {
        field,
        value: value.to_string(),
        reason: format!("must be at least {min}"),
    })
}

fn not_above(field: &'static str, value: Duration, other: &str, bound: Duration) -> Result<(), Error> {
    if value <= bound {
        return Ok(());
    }
    Err(Error::Option {
        field,
        value: format!("{value:?}"),
        reason: format!("must not be above {other}, which is {bound:?}"),
    })
}

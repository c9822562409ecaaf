//! Metrics of the node; `docs/metrics.md` says what they mean.
//!
//! Every node applies every entry, so a figure is counted on one node only and the sum over all nodes is right:
//!
//! - on the leader: `muster_jobs_completed_total`, `muster_jobs_retried_total`, `muster_lease_lost_total`,
//!   `muster_limit_closed_total`, `muster_order_held_total`, `muster_queue_depth`, `muster_unroutable` (gauges go to 0 when the node stops leading);
//! - on the node that holds the worker's session: `muster_wait_seconds`, `muster_run_seconds`,
//!   `muster_stale_reports_total`, `muster_worker_sessions`;
//! - on each node for itself: `muster_actor_restarts_total`.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use muster_core::{JobState, LimitLevel, LiveCounts, Millis, ReportReply};

use crate::session::ReportAck;

/// What the leader counts of one log entry.
#[derive(Debug, Default)]
pub(crate) struct EntryCounts {
    pub succeeded: u64,
    pub dead: u64,
    pub cancelled: u64,
    pub expired: u64,
    pub retried_failed: u64,
    pub retried_lost: u64,
    pub leases_lost: u64,
    /// By level.
    pub limits_shut: [u64; 5],
    pub keys_throttled: u64,
    pub orders_held: u64,
}

impl EntryCounts {
    pub(crate) fn ended(&mut self, state: JobState) {
        match state {
            JobState::Succeeded => self.succeeded += 1,
            JobState::Dead => self.dead += 1,
            JobState::Cancelled => self.cancelled += 1,
            JobState::Expired => self.expired += 1,
            _ => {}
        }
    }

    pub(crate) fn limit_closed(&mut self, level: LimitLevel, throttled: bool) {
        if throttled {
            self.keys_throttled += 1;
        } else {
            self.limits_shut[level as usize] += 1;
        }
    }

    pub(crate) fn publish(&self) {
        let completed = [
            ("succeeded", self.succeeded),
            ("dead", self.dead),
            ("cancelled", self.cancelled),
            ("expired", self.expired),
        ];
        for (outcome, count) in completed {
            if count > 0 {
                counter!("muster_jobs_completed_total", "outcome" => outcome).increment(count);
            }
        }
        for (cause, count) in [("failed", self.retried_failed), ("lost", self.retried_lost)] {
            if count > 0 {
                counter!("muster_jobs_retried_total", "cause" => cause).increment(count);
            }
        }
        if self.leases_lost > 0 {
            counter!("muster_lease_lost_total").increment(self.leases_lost);
        }
        for (level, count) in LimitLevel::ALL.into_iter().zip(self.limits_shut) {
            if count > 0 {
                counter!("muster_limit_closed_total", "level" => level.as_str(), "cause" => "rate").increment(count);
            }
        }
        if self.orders_held > 0 {
            counter!("muster_order_held_total").increment(self.orders_held);
        }
        if self.keys_throttled > 0 {
            counter!("muster_limit_closed_total", "level" => "key", "cause" => "throttled")
                .increment(self.keys_throttled);
        }
    }
}

/// Jobs got a worker after these waits.
pub(crate) fn waited(waits: impl ExactSizeIterator<Item = Millis>) {
    if waits.len() == 0 {
        return;
    }
    let histogram = histogram!("muster_wait_seconds");
    for wait in waits {
        histogram.record(wait as f64 / 1e3);
    }
}

pub(crate) fn ran(runs: &[Duration]) {
    if runs.is_empty() {
        return;
    }
    let histogram = histogram!("muster_run_seconds");
    for run in runs {
        histogram.record(run.as_secs_f64());
    }
}

pub(crate) fn acknowledged(acks: &[ReportAck]) {
    let stale = acks.iter().filter(|ack| ack.reply == ReportReply::LeaseLost).count();
    if stale > 0 {
        counter!("muster_stale_reports_total").increment(stale as u64);
    }
}

pub(crate) fn sessions(count: usize) {
    gauge!("muster_worker_sessions").set(count as f64);
}

pub(crate) fn depths(live: LiveCounts, unroutable: u64) {
    let states = [
        ("scheduled", live.scheduled),
        ("blocked", live.blocked),
        ("available", live.available),
        ("running", live.running),
        ("retrying", live.retrying),
    ];
    for (state, count) in states {
        gauge!("muster_queue_depth", "state" => state).set(count as f64);
    }
    gauge!("muster_unroutable").set(unroutable as f64);
}

pub(crate) fn restarted(actor: &'static str) {
    counter!("muster_actor_restarts_total", "actor" => actor).increment(1);
}

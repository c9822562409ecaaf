//! Kinds, and jobs that no worker accepts, for people and for scripts.

use muster_client::{KindInfo, UnroutableJobs};
use serde_json::{Value, json};

use crate::json::millis;
use crate::{explain, human, table};

pub(crate) const KINDS: [&str; 7] = ["KIND", "STATE", "AVAILABLE", "RUNNING", "MEAN RUN", "WORKERS", "NOTE"];

pub(crate) fn row(kind: &KindInfo) -> Vec<String> {
    vec![
        kind.name.clone(),
        if kind.paused { "paused" } else { "open" }.to_owned(),
        human::count(kind.available),
        human::count(kind.running),
        kind.mean_run.map_or_else(|| "-".to_owned(), human::duration),
        human::count(kind.workers),
        human::shorten(&kind.note, 60),
    ]
}

pub(crate) fn json(kind: &KindInfo) -> Value {
    json!({
        "name": kind.name,
        "paused": kind.paused,
        "note": kind.note,
        "available": kind.available,
        "running": kind.running,
        "mean_run_ms": kind.mean_run.map(millis),
        "workers": kind.workers,
    })
}

pub(crate) const UNROUTABLE: [&str; 8] = [
    "QUEUE",
    "KIND",
    "VERSION",
    "LABELS",
    "SLOTS",
    "JOBS",
    "OLDEST WAIT",
    "NO WORKER HAS",
];

pub(crate) fn unroutable_row(group: &UnroutableJobs) -> Vec<String> {
    vec![
        group.queue.clone(),
        group.kind.clone(),
        group.schema_version.to_string(),
        table::pairs(&group.required_labels),
        group.slots.to_string(),
        human::count(group.jobs),
        human::duration(group.oldest_wait),
        explain::lacking(&group.workers).to_owned(),
    ]
}

pub(crate) fn unroutable_json(group: &UnroutableJobs) -> Value {
    json!({
        "queue": group.queue,
        "kind": group.kind,
        "schema_version": group.schema_version,
        "required_labels": group.required_labels,
        "slots": group.slots,
        "jobs": group.jobs,
        "oldest_wait_ms": millis(group.oldest_wait),
        "workers": explain::workers_json(&group.workers),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use muster_client::WorkerMatch;

    use super::*;

    #[test]
    fn a_kind_in_a_list() {
        let kind = KindInfo {
            name: "send-email".into(),
            paused: true,
            note: "it breaks".into(),
            available: 1_200,
            running: 3,
            mean_run: Some(Duration::from_millis(250)),
            workers: 4,
        };
        assert_eq!(
            row(&kind).join(" | "),
            "send-email | paused | 1,200 | 3 | 250ms | 4 | it breaks"
        );
        assert_eq!(KINDS.len(), row(&kind).len());
        assert_eq!(json(&kind)["mean_run_ms"], 250);
    }

    #[test]
    fn jobs_that_no_worker_accepts() {
        let group = UnroutableJobs {
            queue: "media".into(),
            kind: "video".into(),
            schema_version: 2,
            required_labels: BTreeMap::from([("gpu".to_owned(), "a100".to_owned())]),
            jobs: 3,
            oldest_wait: Duration::from_secs(90),
            workers: WorkerMatch {
                open: 2,
                tenant: 2,
                queue: 1,
                ..WorkerMatch::default()
            },
            slots: 4,
        };
        assert_eq!(
            unroutable_row(&group).join(" | "),
            "media | video | 2 | gpu=a100 | 4 | 3 | 1m30s | kind"
        );
        assert_eq!(UNROUTABLE.len(), unroutable_row(&group).len());
        assert_eq!(unroutable_json(&group)["workers"]["queue"], 1);
    }
}

//! Results for people: rows of the tables, and the page about one job.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use muster_client::{
    ClusterStatus, JobInfo, JobsMemory, JoinTokenInfo, MemberLevel, MembershipChange, OrderingPolicy, QueueInfo, Stale,
    UpgradeInfo, WorkerInfo,
};

use crate::human;
use crate::json;

/// Longest error text in a list.
const ERROR_CHARS: usize = 60;

pub(crate) const JOBS: [&str; 8] = [
    "ID",
    "QUEUE",
    "KIND",
    "STATE",
    "ATTEMPTS",
    "ENQUEUED",
    "NEXT/ENDED",
    "ERROR",
];

pub(crate) fn job(job: &JobInfo, now: SystemTime) -> Vec<String> {
    let at = if job.state.is_terminal() {
        job.ended_at
    } else {
        job.available_at
    };
    vec![
        job.id.clone(),
        job.queue.clone(),
        job.kind.clone(),
        job.state.to_string(),
        format!("{}/{}", job.attempts, job.max_attempts),
        human::relative(job.enqueued_at, now),
        human::relative(at, now),
        job.failure
            .as_ref()
            .map(|failure| human::shorten(&failure.to_string(), ERROR_CHARS))
            .unwrap_or_default(),
    ]
}

/// All about one job, a line per fact.
pub(crate) fn job_page(job: &JobInfo, now: SystemTime) -> String {
    let instant = |at: Option<SystemTime>| {
        let text = json::rfc3339(at?)?;
        Some(format!("{text} ({})", human::relative(at, now)))
    };
    let ran = match (job.started_at, job.ended_at) {
        (Some(from), Some(to)) => to.duration_since(from).ok().map(human::duration),
        _ => None,
    };
    let payload = (!job.payload.is_empty()).then(|| {
        let of = if job.content_type.is_empty() {
            String::new()
        } else {
            format!(" of {}", job.content_type)
        };
        format!("{}{of}: {}", human::size(job.payload.len() as u64), blob(&job.payload))
    });
    let metadata = pairs(&job.metadata);
    let labels = pairs(&job.required_labels);
    let preferred = pairs(&job.preferred_labels);
    let lines = [
        ("id", Some(job.id.clone())),
        ("tenant", Some(job.tenant.clone())),
        ("queue", Some(job.queue.clone())),
        ("kind", Some(format!("{} (version {})", job.kind, job.schema_version))),
        ("priority", Some(job.priority.to_string())),
        ("state", Some(job.state.to_string())),
        ("attempts", Some(format!("{} of {}", job.attempts, job.max_attempts))),
        (
            "crashes",
            (job.crashes > 0).then(|| format!("{} of {}", job.crashes, job.max_crashes)),
        ),
        ("enqueued", instant(job.enqueued_at)),
        ("available", instant(job.available_at)),
        ("started", instant(job.started_at)),
        ("ended", instant(job.ended_at)),
        ("last run", ran),
        ("error", job.failure.as_ref().map(ToString::to_string)),
        ("key", job.idempotency_key.clone()),
        ("limit keys", limit_keys(job)),
        ("cost", (job.cost > 1).then(|| job.cost.to_string())),
        ("slots", (job.slots > 1).then(|| job.slots.to_string())),
        ("order", order(job)),
        ("labels", (!labels.is_empty()).then_some(labels)),
        ("preferred", (!preferred.is_empty()).then_some(preferred)),
        ("redriven from", job.redriven_from.clone()),
        ("metadata", (!metadata.is_empty()).then_some(metadata)),
        ("payload", payload),
        ("result", (!job.result.is_empty()).then(|| blob(&job.result))),
    ];
    let mut page = String::new();
    for (name, value) in lines.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let _ = writeln!(page, "{name:<14}{value}");
    }
    page.truncate(page.trim_end().len());
    page
}

/// `gpu=a100, zone=1`.
pub(crate) fn pairs(pairs: &BTreeMap<String, String>) -> String {
    let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(", ")
}

fn limit_keys(job: &JobInfo) -> Option<String> {
    let keys = job.limit_keys.iter().map(|(key, cost)| match cost {
        0 | 1 => key.clone(),
        cost => format!("{cost}*{key}"),
    });
    let keys = keys.collect::<Vec<_>>().join(", ");
    (!keys.is_empty()).then_some(keys)
}

fn order(job: &JobInfo) -> Option<String> {
    let strict = match job.ordering_policy {
        Some(OrderingPolicy::Strict) => ", strict",
        _ => "",
    };
    let key = job.ordering_key.as_ref()?;
    Some(format!("{key} at {}{strict}", job.sequence))
}

fn blob(data: &[u8]) -> String {
    human::shorten(&json::bytes(data).to_string(), 400)
}

/// A change of a job, for `job watch`.
pub(crate) fn change(job: &JobInfo, now: SystemTime) -> String {
    let mut line = format!("{}  {:<9}", json::rfc3339(now).unwrap_or_default(), job.state.as_str());
    let _ = write!(line, "  attempts {}/{}", job.attempts, job.max_attempts);
    if !job.state.is_terminal() && job.available_at.is_some_and(|at| at > now) {
        let _ = write!(line, "  next {}", human::relative(job.available_at, now));
    }
    if let Some(failure) = &job.failure {
        let _ = write!(line, "  {}", human::shorten(&failure.to_string(), ERROR_CHARS));
    }
    line
}

pub(crate) const QUEUES: [&str; 10] = [
    "QUEUE",
    "STATE",
    "WEIGHT",
    "SCHEDULED",
    "BLOCKED",
    "AVAILABLE",
    "RUNNING",
    "RETRYING",
    "OLDEST WAIT",
    "NOTE",
];

pub(crate) fn queue(queue: &QueueInfo) -> Vec<String> {
    let mut notes = Vec::new();
    if !queue.note.is_empty() {
        notes.push(queue.note.clone());
    }
    if queue.unroutable > 0 {
        notes.push(format!(
            "{} without a worker that accepts them",
            human::count(queue.unroutable)
        ));
    }
    vec![
        queue.name.clone(),
        if queue.paused { "paused" } else { "open" }.to_owned(),
        queue.weight.map_or_else(|| "-".to_owned(), |weight| weight.to_string()),
        human::count(queue.scheduled),
        human::count(queue.blocked),
        human::count(queue.available),
        human::count(queue.running),
        human::count(queue.retrying),
        queue.oldest_wait.map_or_else(|| "-".to_owned(), human::duration),
        notes.join("; "),
    ]
}

pub(crate) const WORKERS: [&str; 9] = [
    "WORKER",
    "NODE",
    "TENANTS",
    "QUEUES",
    "KINDS",
    "RUNNING",
    "FREE",
    "STATE",
    "CONNECTED",
];

pub(crate) fn worker(worker: &WorkerInfo, now: SystemTime) -> Vec<String> {
    let list = |names: &[String]| {
        if names.is_empty() {
            "all".to_owned()
        } else {
            names.join(",")
        }
    };
    vec![
        worker.name.clone(),
        worker.node_id.to_string(),
        list(&worker.tenants),
        list(&worker.queues),
        human::shorten(&list(&worker.kinds), 40),
        worker.running.to_string(),
        free_slots(worker),
        if worker.quiet { "quiet" } else { "open" }.to_owned(),
        human::relative(worker.opened_at, now),
    ]
}

fn free_slots(worker: &WorkerInfo) -> String {
    let free = format!("{} of {}", worker.credits, worker.slots);
    match worker.gathers {
        0 => free,
        slots => format!("{free}, gathers {slots}"),
    }
}

/// How old a stale answer may be.
pub(crate) fn stale<T>(stale: &Stale<T>) -> String {
    let age = stale.age.map_or_else(
        || "of unknown age".to_owned(),
        |age| format!("at most {} old", human::duration(age)),
    );
    let index = human::count(stale.applied_index);
    format!("as node {} knew it, {age}: log index {index}", stale.node_id)
}

pub(crate) const TOKENS: [&str; 4] = ["NODE", "EXPIRES", "AS", "REPLACES"];

pub(crate) fn token(token: &JoinTokenInfo, now: SystemTime) -> Vec<String> {
    vec![
        token.node_id.to_string(),
        human::relative(token.expires_at, now),
        if token.learner { "learner" } else { "voter" }.to_owned(),
        token
            .replaces
            .map_or_else(|| "-".to_owned(), |node| format!("node {node}")),
    ]
}

pub(crate) const MEMBERS: [&str; 8] = ["NODE", "ROLE", "REACHABLE", "LOG", "WORKERS", "API", "PEER", "NOTE"];

pub(crate) fn members(status: &ClusterStatus) -> Vec<Vec<String>> {
    let row = |member: &muster_client::MemberInfo| {
        let matched = member
            .matched_index
            .or((member.node_id == status.node_id).then_some(status.last_log_index));
        vec![
            member.node_id.to_string(),
            member.role.to_owned(),
            match member.reachable {
                Some(true) => "yes",
                Some(false) => "no",
                None if member.node_id == status.node_id => "yes",
                None => "?",
            }
            .to_owned(),
            matched.map_or_else(|| "?".to_owned(), human::count),
            human::count(member.worker_sessions.into()),
            member.api_address.clone(),
            member.peer_address.clone(),
            match (member.drained, member.drain_note.as_str()) {
                (false, _) => String::new(),
                (true, "") => "drained".to_owned(),
                (true, note) => format!("drained: {}", human::shorten(note, 40)),
            },
        ]
    };
    status.members.iter().map(row).collect()
}

pub(crate) const LEVELS: [&str; 4] = ["NODE", "VERSION", "UNDERSTANDS", "IN FORCE"];

pub(crate) fn levels(info: &UpgradeInfo) -> Vec<Vec<String>> {
    let row = |member: &MemberLevel| {
        let (version, level) = member.understands.as_ref().map_or_else(
            || ("?".to_owned(), "not heard of lately".to_owned()),
            |(version, level)| (version.clone(), format!("levels up to {level}")),
        );
        vec![member.node_id.to_string(), version, level, info.level.to_string()]
    };
    info.members.iter().map(row).collect()
}

/// The lines above the members of `cluster status`.
pub(crate) fn status(status: &ClusterStatus) -> String {
    let leader = status
        .leader_id
        .map_or_else(|| "none known".to_owned(), |id| format!("node {id}"));
    let mut lines = vec![
        ("cluster", status.cluster_id.clone()),
        ("leader", format!("{leader} in term {}", status.term)),
        (
            "answered by",
            format!("node {}, version {}", status.node_id, status.version),
        ),
        (
            "log",
            format!(
                "last {}, committed {}, applied {}",
                human::count(status.last_log_index),
                human::count(status.committed_index),
                human::count(status.applied_index)
            ),
        ),
        (
            "live jobs",
            format!(
                "{} scheduled, {} blocked, {} available, {} running, {} retrying",
                human::count(status.scheduled),
                human::count(status.blocked),
                human::count(status.available),
                human::count(status.running),
                human::count(status.retrying)
            ),
        ),
        ("durability", status.durability.clone()),
        ("disk", disk(status)),
        ("memory", memory(&status.memory)),
    ];
    if status.storage.refilling {
        lines.push((
            "data",
            "was damaged, is being got anew from the other nodes; this node does not vote".to_owned(),
        ));
    }
    if let Some(change) = &status.change {
        lines.push(("change", under_way(change, status.joint)));
    } else if status.joint {
        lines.push((
            "change",
            "the membership is half-way; the next leader completes it".to_owned(),
        ));
    }
    if let Some(change) = &status.last_change {
        let reason = if change.reason.is_empty() {
            String::new()
        } else {
            format!(" ({})", change.reason)
        };
        lines.push(("last change", format!("{}: {}{reason}", change.change, change.outcome)));
    }
    lines.push(("next node", status.next_node_id.to_string()));
    let mut text = String::new();
    for (name, value) in lines {
        let _ = writeln!(text, "{name:<12}{value}");
    }
    text
}

fn disk(status: &ClusterStatus) -> String {
    let storage = &status.storage;
    format!(
        "{} free of node {}, {} in reserve{}",
        human::size(storage.disk_free_bytes),
        status.node_id,
        human::size(storage.disk_reserve_bytes),
        match storage.room {
            "low" => ": NEARLY FULL",
            "out" => ": FULL, it accepts no entries",
            _ => "",
        }
    )
}

/// What live jobs take of memory.
fn memory(memory: &JobsMemory) -> String {
    let JobsMemory {
        used_bytes,
        limit_bytes,
    } = *memory;
    if limit_bytes == 0 {
        return format!("{} of live jobs, not bounded", human::size(used_bytes));
    }
    let part = u128::from(used_bytes) * 100 / u128::from(limit_bytes);
    format!(
        "{} of {} for live jobs, {part}%{}",
        human::size(used_bytes),
        human::size(limit_bytes),
        match part {
            100.. => ": FULL, new jobs are refused",
            80.. => ": NEARLY FULL, the greediest tenants are refused",
            _ => "",
        }
    )
}

fn under_way(change: &MembershipChange, joint: bool) -> String {
    let mut text = format!("{}: {}", change.change, change.outcome);
    if !change.stage.is_empty() {
        let _ = write!(text, ", {}", change.stage);
    }
    if joint {
        text.push_str(", half-way");
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use muster_client::{JobFailure, JobState, MemberInfo, Priority};

    use super::*;

    pub(crate) fn at(s: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(s)
    }

    pub(crate) fn dead_job() -> JobInfo {
        JobInfo {
            id: "0190a5d2-0000-7000-8000-000000000001".into(),
            tenant: "docs".into(),
            queue: "mail".into(),
            kind: "send-email".into(),
            schema_version: 1,
            payload: br#"{"to":"ada"}"#.to_vec().into(),
            content_type: "application/json".into(),
            priority: Priority::Normal,
            state: JobState::Dead,
            enqueued_at: Some(at(100)),
            available_at: Some(at(100)),
            started_at: Some(at(160)),
            ended_at: Some(at(165)),
            attempts: 3,
            max_attempts: 3,
            crashes: 0,
            max_crashes: 3,
            failure: Some(JobFailure {
                class: "Timeout".into(),
                message: "no answer".into(),
            }),
            result: Vec::new().into(),
            redriven_from: None,
            idempotency_key: Some("order-17".into()),
            metadata: BTreeMap::new(),
            changed_index: 42,
            limit_keys: BTreeMap::from([("api".to_owned(), 1), ("disk".to_owned(), 3)]),
            cost: 1,
            ordering_key: Some("account:7".into()),
            ordering_policy: Some(OrderingPolicy::Strict),
            sequence: 77,
            required_labels: BTreeMap::from([("gpu".to_owned(), "a100".to_owned())]),
            preferred_labels: BTreeMap::from([("zone".to_owned(), "eu".to_owned())]),
            slots: 4,
        }
    }

    #[test]
    fn a_job_in_a_list() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(225);
        assert_eq!(
            job(&dead_job(), now).join(" | "),
            "0190a5d2-0000-7000-8000-000000000001 | mail | send-email | dead | 3/3 | 2m5s ago | 1m ago | Timeout: no answer"
        );
        assert_eq!(JOBS.len(), job(&dead_job(), now).len());
    }

    #[test]
    fn memory_that_runs_out_is_said() {
        let say = |used_bytes, limit_bytes| {
            memory(&JobsMemory {
                used_bytes,
                limit_bytes,
            })
        };
        assert_eq!(say(512, 0), "512 B of live jobs, not bounded");
        assert_eq!(say(1 << 30, 4 << 30), "1 GiB of 4 GiB for live jobs, 25%");
        assert!(say(82, 100).ends_with("82%: NEARLY FULL, the greediest tenants are refused"));
        assert!(say(100, 100).ends_with("100%: FULL, new jobs are refused"));
    }

    #[test]
    fn a_job_on_its_page() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(225);
        let expected = "\
id            0190a5d2-0000-7000-8000-000000000001
tenant        docs
queue         mail
kind          send-email (version 1)
priority      normal
state         dead
attempts      3 of 3
enqueued      1970-01-01T00:01:40.000Z (2m5s ago)
available     1970-01-01T00:01:40.000Z (2m5s ago)
started       1970-01-01T00:02:40.000Z (1m5s ago)
ended         1970-01-01T00:02:45.000Z (1m ago)
last run      5s
error         Timeout: no answer
key           order-17
limit keys    api, 3*disk
slots         4
order         account:7 at 77, strict
labels        gpu=a100
preferred     zone=eu
payload       12 B of application/json: {\"to\":\"ada\"}";
        assert_eq!(job_page(&dead_job(), now), expected);
    }

    #[test]
    fn a_change_while_watching() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(162);
        let mut info = dead_job();
        info.state = JobState::Retrying;
        info.available_at = Some(at(166));
        assert_eq!(
            change(&info, now),
            "1970-01-01T00:02:42.000Z  retrying   attempts 3/3  next in 4s  Timeout: no answer"
        );
    }

    #[test]
    fn a_change_under_way_is_told() {
        let status_with = |stage: &str, joint| ClusterStatus {
            change: Some(MembershipChange {
                change: "add node 4".into(),
                outcome: "under way",
                stage: stage.into(),
                ..MembershipChange::default()
            }),
            joint,
            ..ClusterStatus::default()
        };
        let text = status(&status_with(
            "waiting for node 4 to catch up, 120 entries are missing",
            false,
        ));
        assert!(
            text.contains(
                "change      add node 4: under way, waiting for node 4 to catch up, 120 entries are missing\n"
            ),
            "{text}"
        );
        assert!(status(&status_with("", true)).contains("add node 4: under way, half-way\n"));
    }

    #[test]
    fn members_as_the_leader_sees_them() {
        let member = |node_id, role, matched_index, reachable| MemberInfo {
            node_id,
            role,
            matched_index,
            reachable,
            api_address: format!("127.0.0.1:700{node_id}"),
            peer_address: format!("127.0.0.1:710{node_id}"),
            worker_sessions: 3,
            drained: node_id == 2,
            drain_note: if node_id == 2 {
                "new disk".to_owned()
            } else {
                String::new()
            },
        };
        let status = ClusterStatus {
            node_id: 1,
            last_log_index: 1_500,
            members: vec![
                member(1, "leader", None, None),
                member(2, "follower", Some(1_499), Some(false)),
            ],
            ..ClusterStatus::default()
        };
        let rows = members(&status);
        assert_eq!(rows[0].join(" "), "1 leader yes 1,500 3 127.0.0.1:7001 127.0.0.1:7101 ");
        assert_eq!(
            rows[1].join(" "),
            "2 follower no 1,499 3 127.0.0.1:7002 127.0.0.1:7102 drained: new disk"
        );
        assert_eq!(MEMBERS.len(), rows[0].len());
    }
}

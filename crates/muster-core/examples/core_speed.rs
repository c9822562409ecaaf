//! Speed and memory of the core alone, on one thread: what it costs to accept a job, and to end one and start the next, in
//! batches of 1,000, at several depths of backlog and numbers of tenants and limit keys.
//!
//! `cargo run --release -p muster-core --example core_speed [-- <queued> <tenants> <limit keys>]`

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_core::*;

const BATCH: usize = 1_000;
const PAYLOAD: usize = 256;

struct Load {
    core: Core,
    index: u64,
    now: u64,
    next: u128,
    tenants: Vec<Name>,
    /// Limit keys; none when jobs have none. All have a limit, which is too high to hold anything back.
    keys: Vec<Name>,
    running: Vec<(JobId, LeaseId)>,
    credits: u64,
}

impl Load {
    fn new(tenants: usize, keys: usize) -> Self {
        let names: Vec<Name> = (0..tenants).map(|i| format!("tenant-{i}").into()).collect();
        let mut load = Self {
            core: Core::new(),
            index: 0,
            now: 1_700_000_000_000,
            next: 1 << 100,
            tenants: names,
            keys: (0..keys).map(|i| format!("key-{i}").into()).collect(),
            running: Vec::new(),
            credits: 0,
        };
        for chunk in load.tenants.clone().chunks(BATCH) {
            let set = |name: &Name| Command::SetTenant {
                name: name.clone(),
                settings: TenantSettings::default(),
                create_only: true,
            };
            load.apply(chunk.iter().map(set).collect());
        }
        load.apply(vec![Command::SetLimit(Box::new(LimitRule {
            selector: LimitSelector {
                level: LimitLevel::Key,
                tenants: "*".into(),
                names: "key-*".into(),
            },
            rate: None,
            concurrency: 1_000_000,
            note: "".into(),
        }))]);
        let class = WorkerClass {
            tenants: Vec::new(),
            queues: Vec::new(),
            kinds: vec![KindVersions {
                kind: "mail".into(),
                min_version: 1,
                max_version: 1,
            }],
            labels: Vec::new(),
            slots: 10_000,
        };
        let open = (0..8_u128).map(|i| {
            Command::OpenSession(Box::new(SessionSpec {
                session: SessionId(i),
                node: 1,
                worker: "worker".into(),
                class: class.clone(),
                ttl: 10_000,
                proposed_after: load.index,
            }))
        });
        load.apply(open.collect());
        load
    }

    /// As decoded from a log entry: every job has its own copies of everything.
    fn jobs(&mut self) -> Vec<Command> {
        (0..BATCH)
            .map(|_| {
                self.next += 0x9_e377_9b97_f4a7_c15f;
                let number = (self.next >> 3) as usize;
                let tenant = &self.tenants[number % self.tenants.len()];
                let key = (!self.keys.is_empty()).then(|| LimitKey {
                    key: Arc::from(&*self.keys[number % self.keys.len()]),
                    cost: 1,
                });
                Command::Enqueue(Box::new(JobSpec {
                    id: JobId(self.next),
                    tenant: Arc::from(&**tenant),
                    queue: Arc::from("default"),
                    kind: Arc::from("mail"),
                    schema_version: 1,
                    payload: Payload {
                        data: Bytes::from(vec![7_u8; PAYLOAD]),
                        content_type: Arc::from("application/json"),
                        encoding: Encoding::Identity,
                    },
                    priority: Priority::Normal,
                    available_at: 0,
                    idempotency_key: None,
                    options: JobOptions {
                        limits: JobLimits {
                            keys: key.into_iter().collect(),
                            ..JobLimits::default()
                        },
                        ..JobOptions::default()
                    },
                    ordering: None,
                    metadata: Vec::new(),
                    seed: 1,
                    origin: Origin::Api,
                    history_searched: self.index,
                }))
            })
            .collect()
    }

    fn reports(&mut self) -> Vec<Command> {
        let running = std::mem::take(&mut self.running);
        self.credits += BATCH as u64;
        let share = running.len().div_ceil(8).max(1);
        let mut reports: Vec<Command> = running
            .chunks(share)
            .zip(0_u128..)
            .map(|(chunk, session)| Command::Report {
                session: SessionId(session),
                results: chunk
                    .iter()
                    .map(|(job, lease)| AttemptReport {
                        job: *job,
                        lease: *lease,
                        outcome: AttemptOutcome::Succeeded { result: Bytes::new() },
                    })
                    .collect(),
                credit_total: self.credits.div_ceil(8),
            })
            .collect();
        for session in reports.len() as u128..8 {
            let credit_total = self.credits.div_ceil(8);
            reports.push(Command::Report {
                session: SessionId(session),
                results: Vec::new(),
                credit_total,
            });
        }
        reports
    }

    fn apply(&mut self, commands: Vec<Command>) {
        self.index += 1;
        self.now += 1;
        let applied = self.core.apply(
            self.index,
            Batch {
                stamped_at: self.now,
                commands,
            },
        );
        for event in applied.events {
            if let Event::Assigned(assignment) = event {
                self.running.push((assignment.spec.id, assignment.lease));
            }
        }
    }
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Processor time this thread has used, so that other load on the machine is left out.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(
        text.split_whitespace()
            .next()
            .and_then(|ns| ns.parse().ok())
            .unwrap_or(0),
    )
}

fn measure(backlog: usize, tenants: usize, keys: usize) {
    let mut load = Load::new(tenants, keys);
    let before = resident();
    for round in 0..backlog / BATCH {
        let jobs = load.jobs();
        load.apply(jobs);
        if round % 50 == 0 {
            load.core.take_changes();
        }
    }
    load.core.take_changes();
    let per_job = resident().saturating_sub(before) / backlog.max(1) as u64;
    let rounds = 500;
    let (mut accepting, mut running) = (Duration::ZERO, Duration::ZERO);
    for round in 0..rounds + 50 {
        // Building the commands stands for decoding them, which is not the core's work.
        let jobs = load.jobs();
        let reports = load.reports();
        let from = thread_time();
        load.apply(jobs);
        let accepted = thread_time();
        load.apply(reports);
        let ended = thread_time();
        if round >= 50 {
            accepting += accepted.saturating_sub(from);
            running += ended.saturating_sub(accepted);
        }
        if round % 50 == 0 {
            load.core.take_changes();
        }
    }
    let jobs = f64::from(rounds) * BATCH as f64;
    println!(
        "{backlog:>10} {tenants:>8} {keys:>8} {:>10.0} {:>10.0} {:>12.0} {per_job:>10}",
        accepting.as_nanos() as f64 / jobs,
        running.as_nanos() as f64 / jobs,
        jobs / (accepting + running).as_secs_f64(),
    );
}

fn main() {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    if let [backlog, tenants, keys] = given[..] {
        measure(backlog, tenants, keys);
        return;
    }
    println!(
        "{:>10} {:>8} {:>8} {:>10} {:>10} {:>12} {:>10}",
        "queued", "tenants", "keys", "ns/accept", "ns/run", "lives/s", "bytes/job"
    );
    for row in [
        ["1000", "1", "0"],
        ["10000", "1", "0"],
        ["100000", "1", "0"],
        ["1000000", "1", "0"],
        ["10000000", "1", "0"],
        ["100000", "1", "1000"],
        ["100000", "1", "100000"],
        ["100000", "100", "0"],
        ["100000", "10000", "0"],
        ["100000", "100000", "0"],
        ["1000000", "100000", "0"],
    ] {
        // In a process of its own: memory that another row gave back would be counted as free.
        let status = std::env::current_exe().and_then(|this| std::process::Command::new(this).args(row).status());
        assert!(
            status.as_ref().is_ok_and(ExitStatus::success),
            "measuring {row:?}: {status:?}"
        );
    }
}

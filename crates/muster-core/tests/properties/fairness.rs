//! Shares of worker time between tenants.

use std::collections::BTreeMap;

use muster_core::{
    AttemptOutcome, AttemptReport, Batch, Command, Core, Event, JobId, JobOptions, JobSpec, KindVersions, LeaseId,
    Name, Origin, Payload, Priority, Reply, SessionId, SessionSpec, TenantSettings, WorkerClass,
};

const SESSION: SessionId = SessionId(1);
const KIND: &str = "work";

/// A core with one session; each tenant keeps it busy.
struct Bench {
    core: Core,
    now: u64,
    jobs: u128,
    credits: u64,
    /// Running, oldest first.
    running: Vec<(JobId, LeaseId, Name)>,
    /// Starts by tenant.
    starts: BTreeMap<Name, u64>,
}

impl Bench {
    fn new(tenants: &[(&str, u32)]) -> Self {
        let mut bench = Self {
            core: Core::new(),
            now: 1_000_000,
            jobs: 0,
            credits: 0,
            running: Vec::new(),
            starts: BTreeMap::new(),
        };
        let mut commands: Vec<_> = tenants
            .iter()
            .map(|(name, weight)| Command::SetTenant {
                name: (*name).into(),
                settings: TenantSettings {
                    weight: *weight,
                    ..TenantSettings::default()
                },
                create_only: true,
            })
            .collect();
        commands.push(Command::OpenSession(Box::new(SessionSpec {
            session: SESSION,
            node: 1,
            worker: "worker".into(),
            class: WorkerClass {
                tenants: vec![],
                queues: vec![],
                kinds: vec![KindVersions {
                    kind: KIND.into(),
                    min_version: 1,
                    max_version: 1,
                }],
                labels: vec![],
                slots: 16,
            },
            ttl: 10_000,
            proposed_after: 0,
        })));
        bench.apply(commands);
        bench
    }

    fn apply(&mut self, commands: Vec<Command>) {
        let index = self.core.meta().applied + 1;
        let applied = self.core.apply(
            index,
            Batch {
                stamped_at: self.now,
                commands,
            },
        );
        assert!(
            !applied.replies.iter().any(|reply| matches!(reply, Reply::Refused(_))),
            "{:?}",
            applied.replies
        );
        for event in applied.events {
            if let Event::Assigned(given) = event {
                *self.starts.entry(given.spec.tenant.clone()).or_default() += 1;
                self.running
                    .push((given.spec.id, given.lease, given.spec.tenant.clone()));
            }
        }
    }

    fn enqueue(&mut self, tenant: &str, count: usize) {
        let jobs = (0..count).map(|_| {
            self.jobs += 1;
            JobSpec {
                id: JobId(self.jobs),
                tenant: tenant.into(),
                queue: "default".into(),
                kind: KIND.into(),
                schema_version: 1,
                payload: Payload::default(),
                priority: Priority::Normal,
                available_at: 0,
                idempotency_key: None,
                options: JobOptions::default(),
                ordering: None,
                metadata: vec![],
                seed: 0,
                origin: Origin::Api,
                history_searched: self.core.meta().applied,
            }
        });
        let jobs = jobs.collect();
        self.apply(vec![Command::EnqueueMany {
            jobs,
            all_or_nothing: true,
        }]);
    }

    fn credit(&mut self, more: u64) {
        self.credits += more;
        self.apply(vec![Command::Report {
            session: SESSION,
            results: vec![],
            credit_total: self.credits,
        }]);
    }

    /// All that runs has run for `length` ms and succeeds; as many start anew.
    fn turn(&mut self, length: u64) {
        self.now += length;
        let results: Vec<_> = std::mem::take(&mut self.running)
            .into_iter()
            .map(|(job, lease, _)| AttemptReport {
                job,
                lease,
                outcome: AttemptOutcome::Succeeded {
                    result: bytes::Bytes::new(),
                },
            })
            .collect();
        self.credits += results.len() as u64;
        self.apply(vec![Command::Report {
            session: SESSION,
            results,
            credit_total: self.credits,
        }]);
    }

    fn started(&self, tenant: &str) -> u64 {
        self.starts.get(tenant).copied().unwrap_or_default()
    }
}

#[test]
fn two_saturating_tenants_share_by_weight_within_one_job() {
    let mut bench = Bench::new(&[("three", 300), ("one", 100)]);
    bench.enqueue("three", 2_000);
    bench.enqueue("one", 2_000);
    bench.credit(1);
    for _ in 0..400 {
        bench.turn(50);
        let (three, one) = (bench.started("three"), bench.started("one"));
        // Shares 3:1 of all starts, within one job either way.
        let off = (4 * three).abs_diff(3 * (three + one));
        assert!(off <= 4, "{three} and {one} starts");
    }
}

#[test]
fn many_slots_share_by_weight_as_well() {
    let mut bench = Bench::new(&[("three", 300), ("one", 100)]);
    bench.enqueue("one", 4_000);
    bench.enqueue("three", 4_000);
    bench.credit(16);
    for _ in 0..100 {
        bench.turn(50);
    }
    let (three, one) = (bench.started("three"), bench.started("one"));
    let off = (4 * three).abs_diff(3 * (three + one));
    assert!(off <= 4 * 16, "{three} and {one} starts");
}

#[test]
fn an_idle_tenant_hoards_no_credit() {
    let mut bench = Bench::new(&[("busy", 100), ("idle", 100)]);
    bench.enqueue("busy", 2_000);
    bench.credit(1);
    for _ in 0..500 {
        bench.turn(50);
    }
    bench.enqueue("idle", 500);
    let (busy, idle) = (bench.started("busy"), bench.started("idle"));
    for _ in 0..100 {
        bench.turn(50);
    }
    let (busy, idle) = (bench.started("busy") - busy, bench.started("idle") - idle);
    assert!(
        busy.abs_diff(idle) <= 2,
        "after its rest the idle tenant got {idle} of {}",
        busy + idle
    );
}

#[test]
fn long_jobs_are_charged_what_they_cost() {
    // One tenant's jobs run four times as long as the other's: with equal weights it starts a quarter as many.
    let mut bench = Bench::new(&[("long", 100), ("short", 100)]);
    bench.enqueue("long", 1_000);
    bench.enqueue("short", 2_000);
    bench.credit(1);
    for _ in 0..500 {
        let long = bench.running.iter().any(|(_, _, tenant)| &**tenant == "long");
        bench.turn(if long { 200 } else { 50 });
    }
    let (long, short) = (bench.started("long"), bench.started("short"));
    assert!(
        short.abs_diff(4 * long) <= short / 10,
        "{long} long and {short} short starts"
    );
}

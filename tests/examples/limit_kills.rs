//! Whether limits are exact while leaders die: `cargo run --release -p muster-tests --example limit_kills -- --kills 200`.
//!
//! Three nodes, three workers, two tenants that want more than every limit gives; the leader is killed again and again.
//! Then every window of what the nodes recorded of their log is judged, by the log's own time, which is the time the
//! limits are about. Ends with status 1 if there is any excess.

#![allow(clippy::expect_used, reason = "a measurement that cannot go on ends")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use muster_client::{Client, Context, Enqueue, JobError, Limit, LimitLevel, LimitSelector, NewTenant, RateLimit};
use muster_client::{RawJob, RawPayload, Worker};
use muster_sim::history::{Applied, LimitLevel as Level, RateLimit as Rate};
use muster_tests::excess::{Limiter, Starts, excess, most_in_a_period, recorded_log};
use muster_tests::{Cluster, RECORD_APPLIED, Working, eventually};

const NODES: [u64; 3] = [1, 2, 3];
const LONG: Duration = Duration::from_mins(1);
/// Jobs of one sort that are queued at least, so that its limits are always wanted.
const BACKLOG: u64 = 80;
/// Starts under a leader before it may be killed.
const UNDER_EACH: u64 = 10;
/// The kill comes at a time of its own between two starts, at most so late.
const LATER_MS: u64 = 400;

#[derive(Parser)]
struct Args {
    /// How many leaders to kill.
    #[arg(long, default_value_t = 200)]
    kills: u32,
}

/// A rule, and what it is judged by.
struct Rule {
    level: LimitLevel,
    tenants: &'static str,
    names: &'static str,
    /// Tokens, milliseconds in which they come, tokens at once.
    rate: Option<(u32, u64, u32)>,
    concurrency: u32,
}

const fn rated(
    level: LimitLevel,
    tenants: &'static str,
    names: &'static str,
    count: u32,
    period: u64,
    burst: u32,
) -> Rule {
    Rule {
        level,
        tenants,
        names,
        rate: Some((count, period, burst)),
        concurrency: 0,
    }
}

const fn at_once(level: LimitLevel, tenants: &'static str, names: &'static str, concurrency: u32) -> Rule {
    Rule {
        level,
        tenants,
        names,
        rate: None,
        concurrency,
    }
}

const RULES: [Rule; 8] = [
    rated(LimitLevel::Cluster, "*", "*", 170, 1_000, 40),
    rated(LimitLevel::Tenant, "limited", "*", 70, 1_000, 20),
    rated(LimitLevel::Kind, "limited", "report", 60, 5_000, 20),
    rated(LimitLevel::Key, "limited", "api", 40, 1_000, 12),
    rated(LimitLevel::Key, "limited", "even", 10, 1_000, 1),
    rated(LimitLevel::Key, "limited", "bucket:*", 3, 1_000, 9),
    at_once(LimitLevel::Queue, "limited", "mail", 5),
    at_once(LimitLevel::Key, "limited", "account:*", 2),
];

/// A sort of job: its tenant, kind and queue, and the options of each.
struct Sort {
    tenant: &'static str,
    kind: &'static str,
    queue: &'static str,
    options: fn(u64, Enqueue) -> Enqueue,
}

const SORTS: [Sort; 7] = [
    Sort {
        tenant: "limited",
        kind: "call",
        queue: "api",
        options: |number, options| options.limit_key_costing("api", 1 + number as u32 % 3),
    },
    Sort {
        tenant: "limited",
        kind: "call",
        queue: "both",
        options: |number, options| {
            let options = options.limit_key("api");
            options.limit_key(format!("bucket:{}", number % 3))
        },
    },
    Sort {
        tenant: "limited",
        kind: "call",
        queue: "even",
        options: |_, options| options.limit_key("even"),
    },
    Sort {
        tenant: "limited",
        kind: "report",
        queue: "reports",
        options: |_, options| options,
    },
    Sort {
        tenant: "limited",
        kind: "call",
        queue: "mail",
        options: |number, options| options.limit_key(format!("account:{}", number % 4)),
    },
    Sort {
        tenant: "limited",
        kind: "call",
        queue: "plain",
        options: |_, options| options,
    },
    Sort {
        tenant: "other",
        kind: "call",
        queue: "any",
        options: |_, options| options,
    },
];

/// Shared by producers, workers and the hand that kills.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    starts: AtomicU64,
    /// By sort, in the order of [`SORTS`].
    waiting: [AtomicU64; SORTS.len()],
}

async fn set_up(client: &Client) {
    for tenant in ["limited", "other"] {
        client.create_tenant(NewTenant::new(tenant)).await.expect("a tenant");
    }
    for rule in &RULES {
        let mut limit = Limit::new(LimitSelector::new(rule.level, rule.names).of_tenants(rule.tenants));
        limit = limit.concurrency(rule.concurrency);
        limit.rate = rule.rate.map(|(count, period, burst)| RateLimit {
            count,
            period: Duration::from_millis(period),
            burst,
        });
        client.set_limit(&limit).await.expect("a rule");
    }
}

/// Keeps jobs of one sort queued.
async fn produce(client: Client, sort: usize, shared: Arc<Shared>) -> u64 {
    let Sort {
        tenant,
        kind,
        queue,
        options,
    } = SORTS[sort];
    let client = client.with_tenant(tenant).expect("a good name");
    let mut number = 0;
    while !shared.over.load(Ordering::Relaxed) {
        if shared.waiting[sort].load(Ordering::Relaxed) >= BACKLOG {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        let jobs: Vec<_> = (number..number + BACKLOG / 4)
            .map(|number| {
                let options = options(number, Enqueue::new().queue(queue).max_crashes(100));
                (RawJob::new(kind, sort.to_string().into_bytes()), options)
            })
            .collect();
        number += BACKLOG / 4;
        let accepted = client.enqueue_many_raw(jobs).await;
        let accepted = accepted.iter().filter(|result| result.is_ok()).count();
        shared.waiting[sort].fetch_add(accepted as u64, Ordering::Relaxed);
    }
    number
}

fn work(client: &Client, number: usize, shared: &Arc<Shared>) -> Working {
    let mut builder = Worker::builder(client)
        .name(format!("worker-{number}"))
        .tenant("*")
        .concurrency(40)
        .session_ttl(Duration::from_secs(1))
        .drain(Duration::from_secs(5));
    for kind in ["call", "report"] {
        let shared = Arc::clone(shared);
        builder = builder.raw_handler(kind, move |payload: RawPayload, context: Context| {
            let shared = Arc::clone(&shared);
            async move {
                shared.starts.fetch_add(1, Ordering::Relaxed);
                let sort = std::str::from_utf8(&payload.data)
                    .ok()
                    .and_then(|text| text.parse().ok());
                if let Some(waiting) = sort.and_then(|sort: usize| shared.waiting.get(sort)) {
                    // A job that starts again after its worker lost the cluster counts twice; the producer adds one more then.
                    let _ = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
                }
                // From 5 to 85 ms, by the fence.
                let time = 5 + (context.fence() >> 24).wrapping_mul(37) % 80;
                tokio::time::sleep(Duration::from_millis(time)).await;
                Ok::<_, JobError>(Bytes::new())
            }
        });
    }
    Working::run(builder.build().expect("good settings"))
}

/// A leadership: its term and its node. A later one is greater; a term can have more than one, one after the other.
type Lead = (u64, u64);

/// The leadership of a node by its own word.
async fn lead_of(cluster: &Cluster, id: u64) -> Option<Lead> {
    let status = cluster.status(id).await?;
    (status.leader_id == Some(id)).then_some((status.term, id))
}

/// Waits for a later leadership than this; nodes may go on naming one that is gone.
async fn next_lead(cluster: &Cluster, after: Lead) -> Lead {
    eventually("a new leader", LONG, || async {
        for id in NODES {
            if let Some(lead) = lead_of(cluster, id).await.filter(|lead| *lead > after) {
                return Some(lead);
            }
        }
        None
    })
    .await
}

/// Kills leaders, each under load.
async fn kill(cluster: &mut Cluster, kills: u32, shared: &Shared) {
    let begin = Instant::now();
    let mut lead = (0, 0);
    let mut killed = 0;
    while killed < kills {
        let next = next_lead(cluster, lead).await;
        let before = shared.starts.load(Ordering::Relaxed);
        eventually("jobs start under the new leader", LONG, || async {
            (shared.starts.load(Ordering::Relaxed) >= before + UNDER_EACH).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..LATER_MS))).await;
        // Another one may have taken over meanwhile.
        if lead_of(cluster, next.1).await != Some(next) {
            continue;
        }
        lead = next;
        cluster.kill(lead.1);
        cluster.start_node(lead.1);
        killed += 1;
        if killed % 20 == 0 {
            eprintln!(
                "{killed} of {kills} leaders killed after {:.0} s",
                begin.elapsed().as_secs_f64()
            );
        }
    }
}

/// Prints the table and returns the sum of all excess.
fn judge(log: &[Applied], kills: u32) -> u64 {
    let starts = Starts::of(log);
    let everything: Limiter = (Level::Cluster, "".into(), "".into());
    // The first entries of a log have no time.
    let (Some(first), Some(last)) = (log.iter().find(|entry| entry.now > 0), log.last()) else {
        return 0;
    };
    let mut terms: Vec<u64> = log.iter().map(|entry| entry.term).collect();
    terms.dedup();
    println!(
        "{kills} leaders killed, {} terms with entries, {} entries, {} starts",
        terms.len(),
        log.len(),
        starts.rated(&everything).len()
    );
    println!(
        "the log's time went on by {:.1} s, the clock by {:.1} s\n",
        last.now.saturating_sub(first.now) as f64 / 1e3,
        last.at.saturating_sub(first.at) as f64 / 1e6
    );
    println!(
        "{:<34} {:>8} {:>8} {:>10} {:>8} {:>7} {:>15}",
        "limit", "starts", "tokens", "most seen", "allowed", "excess", "if one less"
    );
    let mut all = 0;
    for rule in &RULES {
        let level = match rule.level {
            LimitLevel::Cluster => Level::Cluster,
            LimitLevel::Tenant => Level::Tenant,
            LimitLevel::Queue => Level::Queue,
            LimitLevel::Kind => Level::Kind,
            _ => Level::Key,
        };
        let limiters = starts.limiters(level, rule.names.trim_end_matches('*'));
        let limiters = limiters
            .iter()
            .filter(|(level, tenant, _)| *level == Level::Cluster || **tenant == *rule.tenants);
        let mut row = Row::default();
        for limiter in limiters.filter(|(_, _, name)| is_named(rule, name)) {
            row.add(rule, &starts, limiter);
        }
        row.print(rule);
        all += row.excess;
    }
    all
}

/// Cluster and tenants have no names.
fn is_named(rule: &Rule, name: &str) -> bool {
    match rule.names {
        "*" => name.is_empty(),
        exact if !exact.ends_with('*') => name == exact,
        _ => true,
    }
}

#[derive(Default)]
struct Row {
    names: u64,
    starts: u64,
    tokens: u64,
    most: u64,
    excess: u64,
    /// Excess that the same starts would have if the burst, or the concurrency, were one less: the limit was used to
    /// the end, and the judge sees it.
    tighter: u64,
}

impl Row {
    fn add(&mut self, rule: &Rule, starts: &Starts, limiter: &Limiter) {
        let rated = starts.rated(limiter);
        self.names += 1;
        self.starts += rated.len() as u64;
        self.tokens += rated.iter().map(|(_, tokens)| tokens).sum::<u64>();
        if let Some((count, period, burst)) = rule.rate {
            let rate = Rate { count, period, burst };
            self.most = self.most.max(most_in_a_period(rate, rated));
            self.excess += excess(rate, rated);
            let burst = burst - 1;
            self.tighter += excess(Rate { burst, ..rate }, rated);
        } else {
            let most = u64::from(starts.most_at_once(limiter));
            self.most = self.most.max(most);
            self.excess += most.saturating_sub(u64::from(rule.concurrency));
            self.tighter += most.saturating_sub(u64::from(rule.concurrency) - 1);
        }
    }

    fn print(&self, rule: &Rule) {
        let (limit, allowed) = match rule.rate {
            Some((count, period, burst)) => (
                format!("{count} in {} s, burst {burst}", period / 1_000),
                u64::from(count + burst),
            ),
            None => (format!("{} at once", rule.concurrency), u64::from(rule.concurrency)),
        };
        let name = match self.names {
            0 | 1 => format!("{} {}", rule.level, rule.names.trim_end_matches('*')),
            names => format!("{} {} ({names})", rule.level, rule.names),
        };
        println!(
            "{:<34} {:>8} {:>8} {:>10} {:>8} {:>7} {:>15}",
            format!("{}: {limit}", name.trim_end()),
            self.starts,
            self.tokens,
            self.most,
            allowed,
            self.excess,
            self.tighter
        );
    }
}

async fn run(args: &Args) -> u64 {
    let mut cluster = Cluster::prepare("");
    let applied = cluster.path().join("applied");
    for id in NODES {
        cluster.set_environment(id, RECORD_APPLIED, &applied.display().to_string());
    }
    cluster.start_all();
    cluster.leader().await;
    let client = cluster.client().await;
    set_up(&client).await;
    let shared = Arc::new(Shared::default());
    let mut producers = Vec::new();
    for sort in 0..SORTS.len() {
        producers.push(tokio::spawn(produce(client.clone(), sort, Arc::clone(&shared))));
    }
    let mut workers = Vec::new();
    for id in NODES {
        let own = cluster.client_at(id).await;
        workers.push(work(&own, id as usize, &shared));
    }
    kill(&mut cluster, args.kills, &shared).await;
    shared.over.store(true, Ordering::Relaxed);
    for producer in producers {
        producer.await.expect("a producer");
    }
    for worker in workers {
        worker.stop().await;
    }
    cluster.agree().await;
    cluster.kill_all();
    let log = recorded_log(&applied, &NODES).expect("one log, the same on all nodes");
    judge(&log, args.kills)
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let excess = runtime.block_on(run(&args));
    println!("\nmost seen, allowed: tokens in any window as long as the period; jobs at once.");
    println!(
        "excess: tokens over burst + count x length / period in the fullest of all windows; jobs at once too many."
    );
    println!(
        "if one less: the excess that the same starts would have under a burst, or a number at once, of one less."
    );
    println!("total excess: {excess}");
    ExitCode::from(u8::from(excess > 0))
}

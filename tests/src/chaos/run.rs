//! A run from its start to its report.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use muster_sim::history::{Demands, Header, OperationKind, Record, Recorder};
use muster_sim::judge_file;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::chaos::applied::AppliedLogs;
use crate::chaos::end::{self, DRAIN};
use crate::chaos::failpoints;
use crate::chaos::faults::{Clock, Disk, Fault, Injector, Log};
use crate::chaos::load;
use crate::chaos::net::Net;
use crate::chaos::observer::Observer;
use crate::chaos::options::Options;
use crate::chaos::report::{FaultCount, Report};
use crate::chaos::work::Workers;
use crate::chaos::world::{Addresses, Calls, Complaints, Resource, World};
use crate::{Cluster, NodePorts, eventually, free_ports};

/// Clocks of nodes and deliveries to workers may be so far from the recording clock: a frozen node delivers what it
/// had in its hands when it is thawed.
const SLACK: Duration = Duration::from_secs(25);
/// From one line about the progress to the next.
const PROGRESS: Duration = Duration::from_secs(5);
/// A cluster of five on a busy machine.
const START: Duration = Duration::from_mins(1);
/// Workers that do not go when a node is drained are made to soon.
const TABLES: &str = "\n[server]\nsession_drain = \"4s\"\n";
/// A fault comes at least so often.
const FAULT_EVERY: Duration = Duration::from_secs(4);

/// Runs a cluster under load and faults, and judges what was seen.
pub async fn run(options: &Options) -> Report {
    let running = Running::begin(options).await;
    running.injector.run(&options.faults, options.time).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    running.end().await
}

/// A cluster under load, until it is ended and judged.
pub(super) struct Running {
    options: Options,
    place: Place,
    history: PathBuf,
    world: Arc<World>,
    pub(super) injector: Arc<Injector>,
    applied: AppliedLogs,
    clients: Vec<JoinHandle<()>>,
    progress: JoinHandle<()>,
    began: Instant,
}

impl Running {
    pub(super) async fn begin(options: &Options) -> Self {
        let place = Place::new(options);
        let history = place.path.join("history.jsonl");
        let (world, injector, applied) = start(options, &place.path, &history).await;
        let clients = load::start(&world, options.rate);
        world.calls.begin();
        Self {
            options: options.clone(),
            place,
            history,
            clients,
            progress: tokio::spawn(progress(Arc::clone(&injector), options.clone())),
            world,
            injector,
            applied,
            began: Instant::now(),
        }
    }

    /// Heals everything, waits until all work is done, and has the history judged.
    pub(super) async fn end(self) -> Report {
        let Self {
            options,
            place,
            history,
            world,
            injector,
            applied,
            clients,
            progress,
            began,
        } = self;
        let time = began.elapsed();
        // A call may be under way until its deadline, and a stopped queue is resumed even now.
        injector.heal().await;
        let healed = Instant::now();
        let resting = tokio::spawn({
            let injector = Arc::clone(&injector);
            async move { injector.rest().await }
        });
        world.recorder.record(&Record::Healed {
            at: world.recorder.now(),
        });
        world.over.send_replace(true);
        for client in clients {
            if client.await.is_err() {
                world.complaints.add("a client ended in a panic".into());
            }
        }
        if resting.await.is_err() {
            world.complaints.add("the wait for rest ended in a panic".into());
        }
        progress.abort();
        let gap = world.calls.gap();
        end::drain(&world).await;
        let drained_after = healed.elapsed();
        injector.workers.stop().await;
        let ids = injector.net.ids();
        end::scan(&world, &injector.observer, &ids).await;
        injector.end();
        if options.progress {
            eprintln!("reading what the nodes recorded");
        }
        let last = injector.next_id.load(Ordering::Relaxed) - 1;
        let recorded = applied.merge(&world, last, &ids);
        if let Err(fault) = world.recorder.finish() {
            world.complaints.add(format!("writing the history: {fault}"));
        }
        if options.progress {
            eprintln!("judging");
        }
        let tally = judge_file(&history, |_| {}).expect("a history that this process wrote");
        let counts = injector
            .log
            .counts()
            .into_iter()
            .map(|(fault, [injected, took_effect])| {
                let count = FaultCount { injected, took_effect };
                (fault, count)
            });
        let mut report = Report {
            seed: options.seed,
            time,
            faults: counts.collect(),
            calls: world.calls.by_kind(),
            gap,
            drained_after,
            leaders: injector.observer.leaders(),
            compared: injector.observer.compared(),
            recorded,
            tally,
            complaints: world.complaints.all(),
            kept: None,
        };
        applied.remove();
        report.kept = place.end(report.is_good());
        report
    }
}

/// Where a run writes.
struct Place {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Place {
    fn new(options: &Options) -> Self {
        if let Some(keep) = &options.keep {
            let path = keep.join(format!("run-{}", options.seed));
            assert!(!path.exists(), "{} is there already", path.display());
            std::fs::create_dir_all(&path).expect("a directory that can be made");
            let path = path.canonicalize().expect("just made");
            return Self { path, temporary: None };
        }
        let temporary = tempfile::Builder::new()
            .prefix("muster-chaos-")
            .tempdir()
            .expect("a temporary directory");
        Self {
            path: temporary.path().to_owned(),
            temporary: Some(temporary),
        }
    }

    /// The directory, if it stays.
    fn end(self, good: bool) -> Option<PathBuf> {
        match self.temporary {
            Some(dir) if good => {
                drop(dir);
                None
            }
            Some(dir) => Some(dir.keep()),
            None => Some(self.path),
        }
    }
}

async fn start(options: &Options, path: &Path, history: &Path) -> (Arc<World>, Arc<Injector>, AppliedLogs) {
    let nodes = NodePorts::choose(options.nodes);
    let peers: Vec<_> = nodes.iter().map(|node| (node.id, node.peer)).collect();
    let [port] = free_ports(1)[..] else {
        unreachable!("one port was asked for")
    };
    let net = Net::start(port, &peers).await.expect("ports for proxies");
    let needed = options.faults.iter().any(|fault| fault.needs_disks());
    let disks = nodes
        .iter()
        .filter(|_| needed)
        .map(|node| Disk::make(path, node.id).expect("a disk"));
    let disks = disks.collect();
    let mut tables = TABLES.to_owned();
    if options.failpoints {
        tables.push_str(&failpoints::tables(path));
    }
    let mut cluster = Cluster::prepare_in(path, &nodes, &tables, |own| net.addresses(own));
    if options.failpoints {
        cluster.use_failpoints().expect("a build with failpoints");
    }
    let moves = options.faults.contains(&Fault::ClockJump);
    let ids = cluster.ids();
    let clocks = ids.into_iter().filter(|_| moves);
    let clocks = clocks
        .map(|id| Clock::make(&mut cluster, id).expect("libfaketime"))
        .collect();
    let applied = AppliedLogs::of(&cluster);
    for node in &nodes {
        AppliedLogs::ask(&mut cluster, node.id);
    }
    cluster.start_all();
    let recorder = Recorder::create(history, &header(options)).expect("a history file");
    let world = Arc::new(World {
        recorder,
        seed: options.seed,
        addresses: Addresses::new(nodes.iter().map(|node| (node.id, cluster.address(node.id)))),
        resource: Resource::default(),
        calls: Calls::default(),
        complaints: Complaints::default(),
        over: watch::Sender::new(false),
    });
    let observer = Observer::new(&world.recorder, &world.complaints);
    for node in &nodes {
        observer.watch(node.id, cluster.address(node.id));
    }
    eventually("a leader", START, || async { observer.leader() }).await;
    eventually("the tenants", START, || async { load::create(&world).await.ok() }).await;
    let injector = Arc::new(Injector {
        workers: Workers::start(&world),
        world: Arc::clone(&world),
        cluster: Arc::new(Mutex::new(cluster)),
        disks,
        clocks,
        net,
        observer,
        log: Log::default(),
        exceptions: Mutex::default(),
        data: tokio::sync::Mutex::default(),
        next_id: AtomicU64::new(nodes.len() as u64 + 1),
    });
    (world, injector, applied)
}

fn header(options: &Options) -> Header {
    let faults: Vec<&str> = options.faults.iter().map(|fault| fault.name()).collect();
    let program = if options.failpoints {
        "muster-failpoint-campaign"
    } else {
        "muster-chaos"
    };
    let source = format!(
        "{program} --minutes {:.2} --nodes {} --seed {} --faults {}",
        options.time.as_secs_f64() / 60.0,
        options.nodes,
        options.seed,
        faults.join(",")
    );
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // In a run too short for all faults those that come must take effect; in a longer one all must come.
    let cards: usize = options.faults.iter().map(|fault| fault.weight()).sum();
    let long = options.time >= FAULT_EVERY * 2 * cards as u32;
    let kinds = options.faults.iter().map(|fault| fault.kind());
    let mut kinds: Vec<_> = if long { kinds.collect() } else { Vec::new() };
    kinds.sort_unstable();
    kinds.dedup();
    let seconds = options.time.as_secs();
    Header {
        epoch_ms: since.as_millis() as u64,
        slack_us: SLACK.as_micros() as u64,
        demands: Demands {
            operations: [
                (OperationKind::Enqueue, 10 * seconds),
                (OperationKind::Get, seconds),
                (OperationKind::Watch, seconds / 10),
                (OperationKind::Wait, seconds / 20),
                (OperationKind::SetKindPaused, seconds / 60),
                (OperationKind::SetPriority, seconds / 20),
            ]
            .into(),
            faults: kinds,
            drained_within_us: Some((DRAIN + Duration::from_mins(2)).as_micros() as u64),
        },
        ..Header::new(source)
    }
}

/// Looks after the nodes, and says how it goes.
async fn progress(injector: Arc<Injector>, options: Options) {
    let began = Instant::now();
    let mut said = began;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        injector.look_after();
        if options.progress && said.elapsed() >= PROGRESS {
            said = Instant::now();
            say(&injector, &options, began.elapsed());
        }
    }
}

fn say(injector: &Injector, options: &Options, passed: Duration) {
    let faults = injector.log.counts();
    let took_effect: u64 = faults.values().map(|[_, took_effect]| took_effect).sum();
    let calls = injector.world.calls.by_kind();
    let sum = |outcome: usize| calls.values().map(|counts| counts[outcome]).sum::<u64>();
    let line = format!(
        "{:>4.0} of {:.0} s: {took_effect} faults, {} calls done, {} not done, {} unknown, {} leaders, leader {:?}",
        passed.as_secs_f64(),
        options.time.as_secs_f64(),
        sum(0),
        sum(1),
        sum(2),
        injector.observer.leaders(),
        injector.observer.leader()
    );
    let mut out = std::io::stderr();
    let _ = if out.is_terminal() {
        write!(out, "\r\x1b[K{line}")
    } else {
        writeln!(out, "{line}")
    };
    let _ = out.flush();
}

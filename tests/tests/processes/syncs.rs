//! Every sync fails once: the node ends within a second, acknowledges nothing more, and comes back with all it acknowledged.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_client::{Client, Enqueue, JobId, RawJob};
use muster_tests::{Cluster, NodePorts, Syncs, eventually, sync_shim};
use rand::RngCore;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(40);
/// Small, so that everything there is to sync is synced soon: flushes, purges, snapshots.
const TABLES: &str = "\n[store]\nflush_interval = \"300ms\"\n[raft]\nlog_keep_bytes = \"1MiB\"\n[server.checkpoint]\npause_max = \"100ms\"\n";

/// One node that is a cluster, with the shim before its C library.
struct Bench {
    cluster: Cluster,
    log: PathBuf,
    armed: PathBuf,
    _dir: TempDir,
}

impl Bench {
    fn new() -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("muster-test-").tempdir().unwrap();
        let Some(shim) = sync_shim(dir.path()) else {
            eprintln!("skipped: needs cc, a C compiler");
            return None;
        };
        let mut cluster = Cluster::prepare_in(dir.path(), &NodePorts::choose(1), TABLES, |_| Vec::new());
        let (log, armed) = (dir.path().join("syncs"), dir.path().join("armed"));
        cluster.set_environment(1, "LD_PRELOAD", shim.to_str().unwrap());
        cluster.set_environment(1, "SYNC_LOG", log.to_str().unwrap());
        cluster.set_environment(1, "SYNC_ARMED", armed.to_str().unwrap());
        Some(Self {
            cluster,
            log,
            armed,
            _dir: dir,
        })
    }

    fn start(&mut self, fail: &str) {
        let _old = std::fs::remove_file(&self.log);
        self.cluster.set_environment(1, "SYNC_FAIL", fail);
        self.cluster.start_node(1);
    }

    fn arm(&self) {
        std::fs::write(&self.armed, "").unwrap();
    }

    fn disarm(&self) {
        let _gone = std::fs::remove_file(&self.armed);
    }

    /// Waits for the end of the node, and checks how and when it came.
    async fn ends(&mut self, what: &str) {
        let status = eventually("the node ends", LONG, || {
            let ended = self.cluster.ended(1);
            async move { ended }
        })
        .await;
        let ended = now();
        let (kind, failed) = Syncs::read(&self.log).failed.expect("a sync failed");
        let took = ended.saturating_sub(failed);
        println!(
            "{what}: {kind} failed, the node ended with {:?} after {took} ms",
            status.code()
        );
        assert!(
            matches!(status.code(), Some(4 | 5)),
            "{what}: {status:?}\n{}",
            self.cluster.log(1)
        );
        assert!(took < 1_000, "{what}: {took} ms");
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// What callers were told: ids, and when each call began that was acknowledged.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(JobId, u64)>>>);

/// Enqueues until the node is gone.
fn load(client: &Client) -> (Told, tokio::task::JoinHandle<()>) {
    let told = Told::default();
    let (kept, client) = (told.clone(), client.clone());
    let task = tokio::spawn(async move {
        loop {
            let began = now();
            // Noise, so that the log grows by as much.
            let mut payload = vec![0; 100_000];
            rand::rng().fill_bytes(&mut payload);
            let job = RawJob::new("echo", payload);
            match client
                .enqueue_raw(job, Enqueue::new().deadline(Duration::from_secs(1)))
                .await
            {
                Ok(enqueued) => kept.0.lock().unwrap().push((enqueued.id, began)),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    (told, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_sync_fails_once_under_load() {
    let Some(mut bench) = Bench::new() else { return };
    // What there is to sync while a node runs.
    bench.start("");
    bench.cluster.leader().await;
    let client = bench.cluster.client().await;
    let begun = Syncs::read(&bench.log).kinds.len();
    let (told, loading) = load(&client);
    eventually("flushes and a purge", LONG, || async {
        let kinds = Syncs::read(&bench.log).kinds;
        let kinds: BTreeSet<_> = kinds[begun..].iter().cloned().collect();
        let all = [
            "log:table",
            "log:write-ahead-file",
            "log:manifest",
            "state:table",
            "state:manifest",
            "top:mark-a",
            "top:mark-b",
        ];
        (all.iter().all(|kind| kinds.contains(*kind)) && bench.cluster.log(1).contains("the log is purged"))
            .then_some(())
    })
    .await;
    loading.abort();
    let kinds: BTreeSet<_> = Syncs::read(&bench.log).kinds[begun..].iter().cloned().collect();
    bench.cluster.kill(1);
    println!("synced while running: {kinds:?}");
    let mut acknowledged: Vec<JobId> = told.0.lock().unwrap().iter().map(|(id, _)| *id).collect();

    for kind in &kinds {
        bench.disarm();
        bench.start(kind);
        bench.cluster.leader().await;
        let client = bench.cluster.client().await;
        let (told, loading) = load(&client);
        bench.arm();
        bench.ends(kind).await;
        loading.abort();
        let (_, failed) = Syncs::read(&bench.log).failed.unwrap();
        let told = told.0.lock().unwrap().clone();
        if kind.starts_with("log:write") || kind.starts_with("top:mark") {
            let late: Vec<_> = told.iter().filter(|(_, began)| *began > failed).collect();
            assert!(late.is_empty(), "{kind}: acknowledged after the failure: {late:?}");
        }
        acknowledged.extend(told.iter().map(|(id, _)| *id));
    }
    bench.start("");
    bench.cluster.leader().await;
    let client = bench.cluster.client().await;
    println!("{} acknowledged", acknowledged.len());
    for id in acknowledged {
        client.get(id).await.expect("an acknowledged job is there");
    }
}

/// Fails the N-th sync of a start, for the N of `pick`.
async fn failing_starts(pick: impl Fn(usize) -> bool) {
    let Some(mut bench) = Bench::new() else { return };
    bench.arm();
    bench.start("");
    bench.cluster.leader().await;
    let client = bench.cluster.client().await;
    let fresh = Syncs::read(&bench.log).kinds.len();
    let mut ids = Vec::new();
    for _ in 0..20 {
        let job = RawJob::new("echo", vec![7_u8; 8_000]);
        ids.push(client.enqueue_raw(job, Enqueue::new()).await.unwrap().id);
    }
    bench.cluster.kill(1);
    bench.start("");
    bench.cluster.leader().await;
    let again = Syncs::read(&bench.log).kinds.len();
    bench.cluster.kill(1);
    println!("{fresh} syncs in the start of a new node, {again} in that of an old one");
    for number in (1..=again).filter(|number| pick(*number)) {
        bench.start(&format!("#{number}"));
        bench.ends(&format!("sync {number} of a start")).await;
    }
    bench.start("");
    bench.cluster.leader().await;
    let client = bench.cluster.client().await;
    for id in ids {
        client.get(id).await.expect("an acknowledged job is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_in_the_start_ends_it() {
    let offset = rand::random_range(0..4);
    failing_starts(|number| number % 4 == offset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes long"]
async fn all_syncs_of_a_start_fail_in_turn() {
    failing_starts(|_| true).await;
}

/// Syncs of a refill, by snapshot and log: a node with damaged data is started again and again, and each time another of its
/// syncs fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refill_goes_on_after_any_failed_sync() {
    let dir = tempfile::Builder::new().prefix("muster-test-").tempdir().unwrap();
    let Some(shim) = sync_shim(dir.path()) else {
        eprintln!("skipped: needs cc, a C compiler");
        return;
    };
    let mut cluster = Cluster::start_with(TABLES).await;
    let client = cluster.client().await;
    let (told, loading) = load(&client);
    let victim = cluster.follower().await;
    // What the victim needs is not in the others' logs any more.
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != victim).collect();
    eventually("purges", LONG, || async {
        let purged = |id: &u64| cluster.log(*id).contains("the log is purged");
        others.iter().all(purged).then_some(())
    })
    .await;
    loading.abort();
    cluster.kill(victim);
    let log = dir.path().join("syncs");
    cluster.set_environment(victim, "LD_PRELOAD", shim.to_str().unwrap());
    cluster.set_environment(victim, "SYNC_LOG", log.to_str().unwrap());
    let armed = dir.path().join("armed");
    cluster.set_environment(victim, "SYNC_ARMED", armed.to_str().unwrap());
    let (mut failed, mut kinds) = (0, BTreeSet::new());
    for number in (rand::random_range(1..6)..).step_by(5) {
        if cluster.data(victim).join("log").is_dir() {
            muster_tests::damage::break_log(&cluster.data(victim));
        }
        let _old = std::fs::remove_file(&log);
        std::fs::write(&armed, "").unwrap();
        cluster.set_environment(victim, "SYNC_FAIL", &format!("#{number}"));
        let completed = cluster.log(victim).matches("the data is complete again").count();
        cluster.start_node(victim);
        let outcome = eventually("the node ends or is whole", LONG, || {
            let ended = cluster.ended(victim);
            let whole = cluster.log(victim).matches("the data is complete again").count() > completed;
            async move {
                match ended {
                    Some(status) => Some(Some(status)),
                    None => whole.then_some(None),
                }
            }
        })
        .await;
        let Some(status) = outcome else {
            std::fs::remove_file(&armed).unwrap();
            if Syncs::read(&log).failed.is_none() {
                break;
            }
            // It failed while the damaged data was looked at, which is damaged anyway.
            cluster.kill(victim);
            continue;
        };
        let (kind, _) = Syncs::read(&log).failed.expect("a sync failed");
        assert!(
            matches!(status.code(), Some(4 | 5)),
            "{number}: {status:?}\n{}",
            cluster.log(victim)
        );
        failed += 1;
        kinds.insert(kind);
    }
    println!("{failed} failed syncs of a refill, of these kinds: {kinds:?}");
    assert!(kinds.iter().any(|kind| kind.starts_with("state:")), "{kinds:?}");
    cluster.agree().await;
    let told = told.0.lock().unwrap().clone();
    assert!(failed > 5 && !told.is_empty(), "{failed} {}", told.len());
    for (id, _) in told {
        client.get(id).await.expect("an acknowledged job is there");
    }
}

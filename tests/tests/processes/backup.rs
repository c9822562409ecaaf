//! Backups of real clusters: made under load, through kills, restored into other clusters.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use muster_client::{Client, Enqueue, JobState, ListJobs, RawJob};
use muster_tests::{Cluster, RawWorker, eventually, muster};
use tokio::process::{Child, Command};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(40);

/// `[backup]` with a new key, both below the cluster's directory unless `url` says otherwise.
async fn table(dir: &Path, url: &str, more: &str) -> String {
    let key = dir.join("backup.key");
    if !key.exists() {
        let made = muster(&["backup", "keygen", &text(&key)], &[]).await;
        assert_eq!(made.code, Some(0), "{}", made.stderr);
    }
    format!(
        "\n[backup]\nurl = \"{url}\"\nsign_key = \"{}\"\ninterval = \"0s\"\narchive_interval = \"200ms\"\n{more}",
        key.display()
    )
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A directory of its own and a cluster whose backups go below it, or to `url`.
async fn cluster(url: Option<&str>, more: &str) -> (tempfile::TempDir, String, Cluster) {
    let dir = tempfile::Builder::new().prefix("muster-backup-").tempdir().unwrap();
    let url = url.map_or_else(|| text(&dir.path().join("backups")), str::to_owned);
    let table = table(dir.path(), &url, more).await;
    (dir, table.clone(), Cluster::prepare(&table))
}

/// A worker that takes one job and keeps it.
async fn hold(address: &str) -> RawWorker {
    let worker = RawWorker::open(address, "default", "held", 600 * SECOND).await;
    worker.credit(1).await;
    worker
}

fn job(kind: &str) -> RawJob {
    RawJob::new(kind, &b"payload"[..])
}

/// Producers that note what was acknowledged, until they are stopped.
struct Load {
    over: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    callers: Vec<tokio::task::JoinHandle<BTreeSet<String>>>,
}

impl Load {
    fn start(client: &Client, callers: usize) -> Self {
        let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let caller = |_| {
            let (client, over, count) = (client.clone(), over.clone(), count.clone());
            tokio::spawn(async move {
                let mut ids = BTreeSet::new();
                while !over.load(Ordering::Relaxed) {
                    let enqueued = client.enqueue_raw(job("load"), Enqueue::new()).await;
                    ids.insert(enqueued.expect("done within 30 s").id.to_string());
                    count.fetch_add(1, Ordering::Relaxed);
                }
                ids
            })
        };
        let callers = (0..callers).map(caller).collect();
        Self { over, count, callers }
    }

    async fn more(&self, jobs: usize) {
        let until = self.count.load(Ordering::Relaxed) + jobs;
        eventually("the load goes on", LONG, || async {
            (self.count.load(Ordering::Relaxed) >= until).then_some(())
        })
        .await;
    }

    async fn stop(self) -> BTreeSet<String> {
        self.over.store(true, Ordering::Relaxed);
        let mut ids = BTreeSet::new();
        for caller in self.callers {
            ids.extend(caller.await.unwrap());
        }
        ids
    }
}

async fn states(client: &Client) -> Vec<(String, JobState)> {
    let mut found = Vec::new();
    let mut filter = ListJobs {
        page_size: 1_000,
        ..ListJobs::default()
    };
    loop {
        let page = client.list(&filter).await.unwrap();
        found.extend(page.jobs.into_iter().map(|job| (job.id, job.state)));
        match page.next {
            Some(next) => filter.page = Some(next),
            None => return found,
        }
    }
}

/// Position and state hash at which all nodes agree.
async fn settled(cluster: &Cluster) -> (u64, u64) {
    let ids = cluster.ids();
    eventually("all nodes at one index", LONG, || async {
        let mut seen = BTreeSet::new();
        for id in &ids {
            let status = cluster.status(*id).await?;
            seen.insert((status.applied_index, status.state_hash));
        }
        (seen.len() == 1).then(|| seen.pop_first()).flatten()
    })
    .await
}

async fn archived(client: &Client, index: u64) {
    eventually("the log is archived", LONG, || async {
        let status = client.backup_status().await.ok()?;
        status
            .archive
            .filter(|archive| archive.active && archive.archived_index >= index)
    })
    .await;
}

/// `muster backup create` in a process of its own.
fn create(cluster: &Cluster, id: u64) -> Child {
    Command::new(muster_tests::binary())
        .args(["backup", "create", "-o", "json", "--address", &cluster.address(id)])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn created(making: Child) -> serde_json::Value {
    let output = tokio::time::timeout(LONG, making.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn hash(value: &serde_json::Value) -> u64 {
    u64::from_str_radix(value["state_hash"].as_str().unwrap(), 16).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_restored_to_exactly_what_it_was() {
    let (dir, table, mut old) = cluster(None, "").await;
    old.start_all();
    old.leader().await;
    let client = old.client().await;
    let load = Load::start(&client, 8);
    load.more(500).await;
    let at = old.leader().await;
    let first = created(create(&old, at)).await;
    load.more(500).await;
    // The leader archives: it dies, and another goes on where the archive ends.
    old.kill(at);
    load.more(500).await;
    old.start_node(at);
    let leader = old.leader().await;
    // Now it dies while it makes a backup.
    let making = create(&old, leader);
    eventually("the backup has begun", LONG, || async {
        let running = old.log(leader).contains("backup made") || running(dir.path());
        running.then_some(())
    })
    .await;
    old.kill(leader);
    let interrupted = making.wait_with_output().await.unwrap();
    old.start_node(leader);
    load.more(500).await;
    // One job is running at the point to which it is restored.
    let held = client.enqueue_raw(job("held"), Enqueue::new()).await.unwrap();
    let mut worker = hold(&old.address(old.leader().await)).await;
    let lease = worker.job(LONG).await;
    assert_eq!(lease.id, held.id.to_string());
    let mut ids = load.stop().await;
    ids.insert(held.id.to_string());
    worker.fall_silent();
    let (index, state_hash) = settled(&old).await;
    archived(&client, index).await;

    let file = text(old.config_file(1));
    let list = muster(&["backup", "list", "-o", "json", "--config", &file], &[])
        .await
        .json();
    let whole = list[0]["backups"].as_array().unwrap().len();
    let expected = 1 + usize::from(interrupted.status.success());
    assert_eq!(whole, expected, "a backup that was interrupted is not there: {list}");
    let id = first["id"].as_str().unwrap();
    let verified = muster(&["backup", "verify", id, "-o", "json", "--config", &file], &[])
        .await
        .json();
    assert!(verified["reaches_index"].as_u64().unwrap() >= index, "{verified}");

    let mut new = old.prepare_beside("new", &table);
    let file = text(new.config_file(1));
    let index_text = index.to_string();
    let restore = [
        "backup",
        "restore",
        "-o",
        "json",
        "--all-nodes",
        "--config",
        &file,
        "--at",
        &index_text,
    ];
    let restored = muster(&restore, &[]).await.json();
    assert_eq!(
        (restored["log_index"].as_u64(), hash(&restored)),
        (Some(index), state_hash),
        "{restored}"
    );
    let again = muster(&restore, &[]).await;
    assert!(
        again.code == Some(1) && again.stderr.contains("is not empty"),
        "{again:?}"
    );
    old.kill_all();
    drop(client);

    new.start_all();
    new.leader().await;
    let client = new.client().await;
    let found = states(&client).await;
    let seen: BTreeSet<_> = found.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(seen, ids, "all that was acknowledged, and nothing else");
    let again = client.get(held.id).await.unwrap();
    assert_eq!(
        (again.state, again.attempts, again.crashes),
        (JobState::Available, 0, 0)
    );
    let mut worker = hold(&new.address(1)).await;
    let renewed = worker.job(LONG).await;
    assert!(
        renewed.id == lease.id && renewed.fence > lease.fence,
        "{} after {}",
        renewed.fence,
        lease.fence
    );
    client.enqueue_raw(job("more"), Enqueue::new()).await.unwrap();
    new.agree().await;
    // Its own archive lies apart from that of the cluster it was made of.
    let status = client.cluster_status().await.unwrap();
    archived(&client, status.applied_index).await;
    let list = muster(&["backup", "list", "-o", "json", "--config", &file], &[])
        .await
        .json();
    let clusters: BTreeSet<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|cluster| cluster["cluster"].to_string())
        .collect();
    assert_eq!(clusters.len(), 2);
    assert!(clusters.contains(&format!("\"{}\"", status.cluster_id)));
    // Nodes of the old cluster do not take part in the new one.
    let exit = new
        .run_to_exit(
            &new.config().replacen("data = \"node-1\"", "data = \"../node-1\"", 1),
            1,
        )
        .await;
    assert!(matches!(exit.code, Some(3 | 4)), "{exit:?}");
}

/// Somebody is at work in the repository.
fn running(dir: &Path) -> bool {
    let Ok(clusters) = std::fs::read_dir(dir.join("backups")) else {
        return false;
    };
    let mut clusters = clusters.filter_map(Result::ok);
    clusters.any(|cluster| {
        let running = std::fs::read_dir(cluster.path().join("running"));
        running.is_ok_and(|mut entries| entries.next().is_some())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_takes_its_backup_with_it() {
    let (dir, _, mut cluster) = cluster(None, "bandwidth = \"64KiB\"\narchive = false\n").await;
    cluster.start_all();
    let leader = cluster.leader().await;
    let client = cluster.client().await;
    for at in 0..16_u64 {
        let mut noise = at + 1;
        let next = || {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise as u8
        };
        let payload: Vec<u8> = std::iter::repeat_with(next).take(512 << 10).collect();
        client
            .enqueue_raw(RawJob::new("large", payload), Enqueue::new())
            .await
            .unwrap();
    }
    let mut making = create(&cluster, leader);
    eventually("the backup has begun", LONG, || async {
        running(dir.path()).then_some(())
    })
    .await;
    making.kill().await.unwrap();
    eventually("the backup is given up", LONG, || async {
        (!running(dir.path())).then_some(())
    })
    .await;
    let file = text(cluster.config_file(1));
    let list = muster(&["backup", "list", "-o", "json", "--config", &file], &[])
        .await
        .json();
    let found = list
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|cluster| cluster["backups"].as_array().unwrap());
    assert_eq!(found.count(), 0, "{list}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_set_up_is_said() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let address = cluster.address(leader);
    let refused = muster(&["backup", "create", "-o", "json", "--address", &address], &[]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let error: serde_json::Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!(error["error"]["reason"], "BACKUPS_NOT_CONFIGURED");
    let status = muster(&["backup", "status", "-o", "json", "--address", &address], &[])
        .await
        .json();
    assert!(status["location"].is_null());
    let file = text(cluster.config_file(1));
    let nowhere = muster(&["backup", "list", "--config", &file], &[]).await;
    assert!(
        nowhere.code == Some(2) && nowhere.stderr.contains("--url"),
        "{nowhere:?}"
    );
    let place = text(&cluster.path().join("nothing"));
    let empty = ["backup", "verify", "--url", &place, "--any-signer"];
    let missing = muster(&empty, &[]).await;
    assert!(
        missing.code == Some(2) && missing.stderr.contains("no such directory"),
        "{missing:?}"
    );
    std::fs::create_dir(&place).unwrap();
    let nobody = muster(&["backup", "verify", "--config", &file, "--url", &place], &[]).await;
    assert!(
        nobody.code == Some(2) && nobody.stderr.contains("--verify-key"),
        "{nobody:?}"
    );
    let empty = muster(&empty, &[]).await;
    assert!(
        empty.code == Some(3) && empty.stderr.contains("any cluster"),
        "{empty:?}"
    );
    let elsewhere = "\n[backup]\nurl = \"ftp://x/y\"\nunsigned = true\n";
    let elsewhere = format!("{}{elsewhere}", cluster.config());
    let exit = cluster.run_to_exit(&elsewhere, 1).await;
    assert!(matches!(exit.code, Some(2 | 3)), "{exit:?}");
}

/// A server that speaks S3, from the Python package `moto`.
struct Moto {
    child: Child,
    endpoint: String,
}

impl Moto {
    /// `None`: it is not installed.
    async fn start(dir: &Path) -> Option<Self> {
        let port = muster_tests::free_ports(1)[0].to_string();
        let log = std::fs::File::create(dir.join("moto.log")).unwrap();
        let child = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &port])
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        let Ok(child) = child else { return None };
        let endpoint = format!("http://127.0.0.1:{port}");
        eventually("the S3 server listens", LONG, || async {
            tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.ok()
        })
        .await;
        Some(Self { child, endpoint })
    }

    fn environment(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("AWS_ENDPOINT", &self.endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ]
    }

    /// A bucket is made by a PUT of its name.
    async fn bucket(&self, name: &str) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let host = self.endpoint.trim_start_matches("http://");
        let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
        let request = format!(
            "PUT /{name} HTTP/1.1\r\nHost: {host}\r\nAuthorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_store_that_speaks_s3_will_do() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(mut moto) = Moto::start(scratch.path()).await else {
        eprintln!("SKIPPED: moto_server is not installed (pip install 'moto[server]'); no backup was made to S3");
        return;
    };
    moto.bucket("backups").await;
    let (_dir, table, mut old) = cluster(Some("s3://backups/some/prefix"), "").await;
    let environment = moto.environment();
    for id in old.ids() {
        for (name, value) in &environment {
            old.set_environment(id, name, value);
        }
    }
    old.start_all();
    let leader = old.leader().await;
    let client = old.client().await;
    let load = Load::start(&client, 4);
    load.more(200).await;
    let backup = created(create(&old, leader)).await;
    load.more(200).await;
    let ids = load.stop().await;
    let (index, state_hash) = settled(&old).await;
    archived(&client, index).await;
    // More than one part, so that uploads in parts are tried as well.
    let file = text(old.config_file(1));
    let verified = muster(&["backup", "verify", "-o", "json", "--config", &file], &environment)
        .await
        .json();
    assert_eq!(verified["id"], backup["id"]);
    let mut new = old.prepare_beside("new", &table);
    for id in new.ids() {
        for (name, value) in &environment {
            new.set_environment(id, name, value);
        }
    }
    let file = text(new.config_file(1));
    let restore = ["backup", "restore", "-o", "json", "--all-nodes", "--config", &file];
    let restored = muster(&restore, &environment).await.json();
    assert!(restored["log_index"].as_u64() >= Some(index), "{restored}");
    if restored["log_index"].as_u64() == Some(index) {
        assert_eq!(hash(&restored), state_hash);
    }
    old.kill_all();
    drop(client);
    new.start_all();
    new.leader().await;
    let client = new.client().await;
    let found: BTreeSet<_> = states(&client).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(found, ids);
    let keep_none = ["backup", "prune", "-o", "json", "--config", &file, "--from-cluster"];
    let from = restored["from_cluster"].as_str().unwrap();
    let pruned = muster(
        &[&keep_none[..], &[from, "--keep", "1", "--keep-for", "0s"]].concat(),
        &environment,
    )
    .await
    .json();
    assert_eq!(pruned["kept"].as_array().unwrap().len(), 1);
    // Without credentials the node says so and serves all the same.
    moto.child.kill().await.unwrap();
    client.enqueue_raw(job("more"), Enqueue::new()).await.unwrap();
    eventually("the failure is told", LONG, || async {
        let status = client.backup_status().await.ok()?;
        status.archive.and_then(|archive| archive.error)
    })
    .await;
    client.enqueue_raw(job("more"), Enqueue::new()).await.unwrap();
}

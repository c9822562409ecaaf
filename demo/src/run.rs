//! The course of the demo.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use muster_client::{Client, ClusterStatus, JobState, ListJobs};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::cluster::Cluster;
use crate::load::{Load, Results};
use crate::record::{Events, Record};
use crate::report::Report;
use crate::tenants::{self, DOCS, LIBRARY, PULSES};
use crate::verify::{self, Verdict};
use crate::work::Workers;
use crate::{corpus, measure};

/// The leader is killed when so many percent of the files are indexed.
const KILL_AT_PERCENT: u64 = 30;
/// The killed node stays away for so long.
const AWAY: Duration = Duration::from_secs(3);
/// For the restarted node to catch up.
const CATCH_UP: Duration = Duration::from_secs(20);
/// A share may differ from its weight by so many percentage points.
const SHARE_TOLERANCE: f64 = 10.0;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the demo; false when something was not as it must be.
pub async fn run(args: Args) -> Result<bool> {
    let begun = Instant::now();
    let stage = |text: String| println!("[{:5.1} s] {text}", begun.elapsed().as_secs_f64());

    let root = args.directory.clone().unwrap_or_else(corpus::default_root);
    let groups = corpus::collect(&root, args.files as usize)?;
    let files: u64 = groups.iter().map(|group| group.files.len() as u64).sum();
    let merges = groups.len() as u64;
    stage(format!(
        "{files} text files in {merges} groups under {}",
        root.display()
    ));

    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut cluster = Cluster::start(&binary(&args)?, &args.config, &parent)?;
    let client = Client::builder().addresses(cluster.addresses()).connect_lazy()?;
    let leader = cluster.leader(&client).await?;
    let pids: Vec<_> = cluster
        .pids()
        .iter()
        .map(|(id, pid)| format!("node {id} = process {pid}"))
        .collect();
    stage(format!("three nodes run ({}), node {leader} leads", pids.join(", ")));

    let ended = drive(&args, &mut cluster, &client, groups, stage).await;
    let nodes_fine = cluster.check();
    let ended = match (ended, nodes_fine) {
        (Err(error), Err(node)) => Err(error.context(node)),
        (Ok(_), Err(node)) => Err(node),
        (ended, Ok(())) => ended,
    };
    let good = matches!(&ended, Ok(report) if report.is_good());
    if (args.keep || !good)
        && let Some(kept) = cluster.keep()
    {
        println!("data and logs of the nodes: {}", kept.display());
    }
    let report = ended?;
    println!("\n{report}");
    println!(
        "{}",
        if good {
            "Everything is as it must be."
        } else {
            "Something is NOT as it must be."
        }
    );
    Ok(good)
}

async fn drive(
    args: &Args,
    cluster: &mut Cluster,
    client: &Client,
    groups: Vec<corpus::Group>,
    stage: impl Fn(String) + Copy,
) -> Result<Report> {
    tenants::create(client, args.limit).await?;
    let begun = Instant::now();
    let files: u64 = groups.iter().map(|group| group.files.len() as u64).sum();
    let merges = groups.len() as u64;
    let record = Record::new(begun);
    let results = Arc::new(AtomicU64::new(0));
    let deadline = begun + Duration::from_secs(args.max_time);
    let load = |tenant: &str| -> Result<Load> {
        let (record, results) = (record.clone(), Arc::clone(&results));
        Ok(Load {
            client: client.with_tenant(tenant)?,
            record,
            deadline,
            results,
        })
    };
    stage(format!(
        "tenants {LIBRARY} (weight {}) and {DOCS} (weight {}, at most {} starts/s, {} at once) enqueue their files",
        tenants::LIBRARY_WEIGHT,
        tenants::DOCS_WEIGHT,
        args.limit,
        tenants::BURST,
    ));

    let (library_groups, docs_groups) = tenants::deal(groups);
    let (library, docs, pulse) = (load(LIBRARY)?, load(DOCS)?, load(PULSES)?);
    let stop_pulses = CancellationToken::new();
    let pulses = {
        let stop = stop_pulses.clone();
        tokio::spawn(async move { pulse.pulses(stop).await })
    };
    let library = tokio::spawn(async move { library.index(library_groups).await });
    let docs = tokio::spawn(async move { docs.index(docs_groups).await });
    let workers = Workers::start(client, &record, args.slots, Duration::from_millis(args.think))?;

    let killing = kill_leader(
        cluster,
        client,
        &record,
        &results,
        files * KILL_AT_PERCENT / 100,
        deadline,
        stage,
    );
    let indexing = async {
        let library = library.await.context("the load of a tenant panicked")??;
        stage(format!("{LIBRARY} has all of its results"));
        let docs = docs.await.context("the load of a tenant panicked")??;
        stage(format!("{DOCS} has all of its results"));
        anyhow::Ok([library, docs])
    };
    let ((), results) = tokio::try_join!(killing, indexing)?;
    stop_pulses.cancel();
    let wrong_pulses = pulses.await.context("the pulses panicked")??;
    workers.stop().await?;
    let took = record.now();

    let events = record.events();
    let counted = count(client, &events).await?;
    let nodes = agree(cluster, client).await?;
    let limited = starts_of_limited(client).await?;
    stage("all is in; doing it all again in one thread".to_owned());
    let again = Instant::now();
    let (verdict, indexed) = tokio::task::spawn_blocking(move || {
        let indexed = results
            .iter()
            .map(|results: &Results| results.files.len() as u64)
            .sum::<u64>();
        let merged = results.iter().map(|results| results.folders.len() as u64).sum::<u64>();
        verify::verify(&results).map(|verdict| (verdict, (indexed, merged)))
    })
    .await
    .context("the comparison panicked")??;
    stage(format!("done again in {:.1} s", again.elapsed().as_secs_f64()));

    let facts = Facts {
        files,
        merges,
        indexed,
        wrong_pulses,
        verdict,
        counted,
        nodes,
        limited,
        took,
    };
    Ok(table(args, &events, &facts))
}

/// Waits until a part of the work is done, kills the leader by SIGKILL, waits for acknowledgements to go on, and starts
/// the node again.
async fn kill_leader(
    cluster: &mut Cluster,
    client: &Client,
    record: &Record,
    results: &AtomicU64,
    at_results: u64,
    deadline: Instant,
    stage: impl Fn(String),
) -> Result<()> {
    until(
        deadline,
        "a part of the work to be done",
        || results.load(Ordering::Relaxed) >= at_results,
        cluster,
    )
    .await?;
    let victim = client
        .cluster_status()
        .await?
        .leader_id
        .context("there is no leader to be killed")?;
    cluster.kill(victim)?;
    let killed = record.now();
    let done = results.load(Ordering::Relaxed);
    stage(format!(
        "node {victim}, the leader, is killed with SIGKILL; {done} results are in"
    ));
    let goes_on = || record.last_acknowledged().is_some_and(|at| at > killed);
    until(deadline, "the cluster to acknowledge again", goes_on, cluster).await?;
    stage(format!(
        "the cluster acknowledges again, {:.2} s after the kill",
        record.now().saturating_sub(killed).as_secs_f64()
    ));
    sleep((killed + AWAY).saturating_sub(record.now())).await;
    cluster.start_node(victim)?;
    stage(format!("node {victim} is started again"));
    Ok(())
}

async fn until(deadline: Instant, what: &str, mut come: impl FnMut() -> bool, cluster: &mut Cluster) -> Result<()> {
    while !come() {
        if Instant::now() >= deadline {
            bail!("the time is over while waiting for {what}");
        }
        cluster.check()?;
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Jobs by the cluster's own count.
#[derive(Debug, Default)]
struct Counted {
    succeeded: u64,
    ended_otherwise: u64,
    live: u64,
    /// Acknowledged jobs that the cluster does not know as succeeded.
    lost: u64,
}

/// Asks the cluster for its counts, and for every single acknowledged job through the list of succeeded ones.
async fn count(client: &Client, events: &Events) -> Result<Counted> {
    let mut counted = Counted::default();
    for tenant in client.tenants().await? {
        let totals = &tenant.totals;
        counted.succeeded += totals.succeeded;
        counted.ended_otherwise += totals.dead + totals.cancelled + totals.expired;
        counted.live += tenant.scheduled + tenant.available + tenant.running + tenant.retrying;
    }
    let mut succeeded = std::collections::HashSet::new();
    for tenant in [LIBRARY, DOCS, PULSES] {
        for job in list(&client.with_tenant(tenant)?).await? {
            succeeded.insert(job.id);
        }
    }
    counted.lost = events
        .acknowledged
        .iter()
        .filter(|job| !succeeded.contains(&job.job.to_string()))
        .count() as u64;
    Ok(counted)
}

/// All succeeded jobs of a tenant.
async fn list(client: &Client) -> Result<Vec<muster_client::JobInfo>> {
    let mut filter = ListJobs {
        states: vec![JobState::Succeeded],
        page_size: 1_000,
        ..ListJobs::default()
    };
    let mut jobs = Vec::new();
    loop {
        let page = client.list(&filter).await.context("listing the succeeded jobs")?;
        jobs.extend(page.jobs);
        match page.next {
            Some(next) => filter.page = Some(next),
            None => return Ok(jobs),
        }
    }
}

/// Most starts of the limited tenant in any second, by the cluster's own clock. Of a job that ran more than once the
/// last start counts.
async fn starts_of_limited(client: &Client) -> Result<usize> {
    let jobs = list(&client.with_tenant(DOCS)?).await?;
    let times: Vec<u64> = jobs
        .iter()
        .filter_map(|job| job.started_at?.duration_since(UNIX_EPOCH).ok())
        .map(|since| since.as_millis() as u64)
        .collect();
    Ok(measure::most_in_a_second(&times))
}

/// Waits until all nodes report the same applied index with the same hash of the state.
async fn agree(cluster: &mut Cluster, client: &Client) -> Result<Option<(u64, u64)>> {
    let deadline = Instant::now() + CATCH_UP;
    let ids: Vec<u64> = cluster.pids().iter().map(|(id, _)| *id).collect();
    loop {
        cluster.check()?;
        let mut seen = BTreeMap::new();
        for id in &ids {
            let Some(address) = cluster.address(*id) else { continue };
            if let Ok(ClusterStatus {
                applied_index,
                state_hash,
                ..
            }) = client.node_status(address).await
            {
                seen.insert(*id, (applied_index, state_hash));
            }
        }
        let mut states: Vec<_> = seen.values().copied().collect();
        states.dedup();
        if seen.len() == ids.len() && states.len() == 1 {
            return Ok(states.pop());
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What is known at the end.
struct Facts {
    files: u64,
    merges: u64,
    indexed: (u64, u64),
    wrong_pulses: u64,
    verdict: Verdict,
    counted: Counted,
    /// Applied index and hash of the state on which all nodes agree.
    nodes: Option<(u64, u64)>,
    /// Most starts in any second.
    limited: usize,
    took: Duration,
}

fn table(args: &Args, events: &Events, facts: &Facts) -> Report {
    let mut report = Report::default();
    let acknowledged = events.acknowledged.len() as u64;
    let pulses = acknowledged - events.acknowledged.iter().filter(|job| job.tenant != PULSES).count() as u64;
    let counted = &facts.counted;

    report.tell(
        "jobs acknowledged",
        acknowledged.to_string(),
        format!("{} files, {} merges, {pulses} pulses", facts.files, facts.merges),
    );
    report.judge(
        "jobs succeeded",
        counted.succeeded.to_string(),
        "by the cluster's count",
        counted.succeeded == acknowledged,
    );
    report.judge(
        "jobs lost",
        counted.lost.to_string(),
        "acknowledged, not succeeded",
        counted.lost == 0,
    );
    let others = counted.live + counted.ended_otherwise;
    report.judge("jobs left over or ended otherwise", others.to_string(), "", others == 0);
    let again = measure::run_again(&events.executions);
    report.tell(
        "jobs run more than once",
        again.to_string(),
        "allowed: delivery is at least once",
    );
    report.tell(
        "enqueues repeated by the demo",
        events.repeats.to_string(),
        "under the same id",
    );

    let (indexed, merged) = facts.indexed;
    let complete = indexed == facts.files && merged == facts.merges;
    report.judge(
        "results",
        (indexed + merged).to_string(),
        "one per file and per group",
        complete,
    );
    let verdict = &facts.verdict;
    let wrong = verdict.wrong_files + verdict.wrong_folders + facts.wrong_pulses;
    let example = verdict
        .example
        .as_ref()
        .map(|path| format!(", e.g. {}", path.display()))
        .unwrap_or_default();
    report.judge(
        "wrong results",
        wrong.to_string(),
        format!("against one thread without a cluster{example}"),
        wrong == 0,
    );

    let shares = measure::shares(events, [LIBRARY, DOCS], i64::from(args.slots));
    let (is, expected) = (shares.first_percent(), tenants::library_percent());
    let text = format!(
        "by weight {expected:.0} : {:.0}, over {:.1} s in which both waited",
        100.0 - expected,
        shares.span.as_secs_f64()
    );
    let value = format!("{is:.1} : {:.1}", 100.0 - is);
    if shares.span < Duration::from_secs(1) {
        report.tell(
            format!("worker time {LIBRARY} : {DOCS}"),
            value,
            format!("{text}; too short to judge"),
        );
    } else {
        report.judge(
            format!("worker time {LIBRARY} : {DOCS}"),
            value,
            text,
            (is - expected).abs() <= SHARE_TOLERANCE,
        );
    }
    let most = args.limit + tenants::BURST;
    let within = facts.limited <= most as usize;
    let text = format!("at most {} + {} at once", args.limit, tenants::BURST);
    report.judge(
        format!("most starts of {DOCS} in any second"),
        facts.limited.to_string(),
        text,
        within,
    );

    let (gap, at) = measure::longest_gap(&events.acknowledged);
    let text = format!(
        "longest time without an acknowledgement, from {:.1} s on",
        at.as_secs_f64()
    );
    report.tell(
        "gap when the leader was killed",
        format!("{:.2} s", gap.as_secs_f64()),
        text,
    );
    let (value, text) = match facts.nodes {
        Some((index, hash)) => ("equal".to_owned(), format!("hash {hash:016x} at log index {index}")),
        None => ("differ".to_owned(), format!("not within {} s", CATCH_UP.as_secs())),
    };
    report.judge("state of the three nodes", value, text, facts.nodes.is_some());
    let rate = acknowledged as f64 / facts.took.as_secs_f64();
    report.tell(
        "time",
        format!("{:.1} s", facts.took.as_secs_f64()),
        format!(
            "{rate:.0} jobs/s with {} slots and {} ms of waiting in each",
            args.slots, args.think
        ),
    );
    report
}

fn binary(args: &Args) -> Result<PathBuf> {
    let binary = match &args.muster {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()
            .context("finding this program's own file")?
            .with_file_name("muster"),
    };
    if !Path::new(&binary).is_file() {
        bail!(
            "there is no {}: build it with cargo build --release -p muster, or name it with --muster",
            binary.display()
        );
    }
    Ok(binary)
}

//! From arguments to a report.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use muster_client::Client;

use crate::args::{BenchArgs, Scenario};
use crate::cluster::Cluster;
use crate::probe;
use crate::process;
use crate::report::Report;
use crate::scenario::{Bench, batch, drain, enqueue, idle, leader_kill, life, neighbour, read, start, upkeep};

/// Measures and prints to standard output.
pub async fn run(args: BenchArgs) -> Result<()> {
    let (json, folder) = (args.json, args.report.clone());
    let report = measure(args).await?;
    if let Some(folder) = folder {
        report.save(&folder)?;
        eprintln!("report: {}", folder.display());
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

/// Measures. The load runs on one thread of its own, so that it leaves the processors to the servers.
pub async fn measure(args: BenchArgs) -> Result<Report> {
    args.validate()?;
    let (done, report) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("bench".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let result = match runtime {
                Ok(runtime) => runtime.block_on(async {
                    tokio::select! {
                        result = on_this_thread(&args) => result,
                        () = muster_client::shutdown_signal() => bail!("interrupted"),
                    }
                }),
                Err(error) => Err(error).context("starting a runtime"),
            };
            // Nobody waits any more when the caller was dropped.
            let _ = done.send(result);
        })
        .context("starting a thread")?;
    report.await.context("the measuring thread ended early")?
}

async fn on_this_thread(args: &BenchArgs) -> Result<Report> {
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let disk_syncs_per_second = probe::syncs_per_second(&dir)?;
    let upkeep = args.scenarios().into_iter().any(Scenario::is_upkeep);
    let mut cluster = if args.spawn {
        eprintln!("starting {} nodes in {}", args.nodes, dir.display());
        Some(Cluster::start(args.server.as_deref(), args.nodes, &dir, upkeep).await?)
    } else {
        None
    };
    let addresses = cluster
        .as_ref()
        .map_or_else(|| args.address.clone(), |cluster| cluster.addresses.clone());
    let pids = cluster.as_ref().map_or_else(|| args.server_pids.clone(), Cluster::pids);
    let client = Client::builder()
        .addresses(&addresses)
        .tenant(&args.tenant)
        .deadline(Duration::from_secs(10));
    let client = client.connect().await.context("connecting to the cluster")?;
    let status = client
        .cluster_status()
        .await
        .context("asking for the cluster's status")?;

    let mut bench = Bench::new(client, addresses, pids, args);
    let load_begin = process::load_average();
    let (mut figures, mut operations, mut plots) = (Vec::new(), Vec::new(), Vec::new());
    for scenario in args.scenarios() {
        match scenario {
            Scenario::Enqueue => {
                for callers in &args.callers {
                    figures.push(enqueue::run(&mut bench, *callers).await?);
                }
            }
            Scenario::Batch => figures.push(batch::run(&mut bench).await?),
            Scenario::Drain => figures.push(drain::run(&mut bench).await?),
            Scenario::Life => figures.push(life::run(&mut bench).await?),
            Scenario::Read => {
                for callers in &args.callers {
                    for stale in [false, true] {
                        figures.push(read::run(&mut bench, *callers, stale).await?);
                    }
                }
            }
            Scenario::Start => {
                for rate in &args.rate {
                    figures.push(start::run(&mut bench, *rate).await?);
                }
            }
            Scenario::Neighbour => figures.extend(neighbour::run(&mut bench).await?),
            Scenario::LeaderKill => {
                let (measured, plot) = leader_kill::run(&mut bench, cluster.as_mut()).await?;
                operations.extend(measured);
                plots.push(plot);
            }
            Scenario::Idle => operations.extend(idle::run(&mut bench).await?),
            Scenario::Restart => operations.extend(upkeep::restart::run(&mut bench, cluster.as_mut()).await?),
            Scenario::Snapshot => operations.extend(upkeep::snapshot::run(&mut bench, cluster.as_mut()).await?),
            Scenario::Backup => operations.extend(upkeep::backup::run(&mut bench, cluster.as_mut()).await?),
        }
    }
    Ok(Report {
        version: status.version,
        nodes: status.members.len(),
        durability: status.durability,
        disk_syncs_per_second,
        disk_probe_dir: dir.display().to_string(),
        payload_bytes: args.payload_bytes,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        load_average: [load_begin, process::load_average()],
        queued_jobs: upkeep.then_some(args.jobs),
        figures,
        operations,
        plots,
    })
}

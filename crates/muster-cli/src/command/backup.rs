//! `muster backup …`

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args, Subcommand};
use muster_backup::{At, Catalog, Listed, Manifest, Pruned, RestoreRequest, Restored, Retention, SigningKey, Verified};
use muster_client::{BackupInfo, BackupStatus};
use serde_json::{Value, json};

use super::Run;
use super::local::{Bar, ConfigFile, Source, cluster_id, failed};
use crate::args::Format;
use crate::failure::Failure;
use crate::{exit, human, json as scripts, parse};

/// What to do with backups.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a backup now, on a node of the running cluster
    Create,
    /// How backups and the archive of the log stand, as the leader knows it
    Status,
    /// Backups and archived log in a place; needs no cluster
    List(Source),
    /// Read a backup back as a restore would, and the archived log after it; needs no cluster
    Verify(VerifyArgs),
    /// Make the data directories of a new cluster out of a backup and the archived log, on the machines of its nodes
    Restore(RestoreArgs),
    /// Remove old backups, and what none of the others needs
    Prune(PruneArgs),
    /// Make a key that signs backups, and print the key that verifies them
    Keygen {
        /// The file to write; the public key goes to FILE.pub
        file: PathBuf,
    },
}

/// `muster backup verify`
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Name of the backup [default: the newest]
    backup: Option<String>,
    #[command(flatten)]
    source: Source,
    /// Directory with room for the backup while it is read [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

/// `muster backup restore`
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("where").required(true).args(["node", "all_nodes"]))]
pub struct RestoreArgs {
    #[command(flatten)]
    source: Source,
    /// Node of the configuration whose data directory is on this machine; repeat it for several
    #[arg(long, value_name = "ID")]
    node: Vec<u64>,
    /// The directories of all nodes are on this machine
    #[arg(long)]
    all_nodes: bool,
    /// The backup to begin with, by name [default: the newest that fits]; alone, it is restored as it is
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
    /// Restore to an instant (RFC 3339) or a log index [default: all that is there]
    #[arg(long, value_name = "INSTANT|INDEX", value_parser = at)]
    at: Option<At>,
    /// On the second machine and later: the id that the first one printed
    #[arg(long, value_name = "ID", value_parser = cluster_id, requires_all = ["begin_index", "at"])]
    cluster_id: Option<u128>,
    /// On the second machine and later: the index that the first one printed
    #[arg(long, value_name = "INDEX", requires = "cluster_id")]
    begin_index: Option<u64>,
}

/// `muster backup prune`
#[derive(Args, Debug)]
pub struct PruneArgs {
    #[command(flatten)]
    source: Source,
    /// Keep the newest so many [default: keep of [backup], else 24]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Keep younger ones as well [default: keep_for of [backup], else 7d]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    keep_for: Option<Duration>,
    /// Say what would be removed
    #[arg(long)]
    dry_run: bool,
}

fn at(text: &str) -> Result<At, String> {
    if let Ok(index) = text.parse() {
        return Ok(At::Index(index));
    }
    let instant = text.parse().map(At::Instant);
    instant
        .map_err(|error| format!("{text:?} is neither a log index nor an instant like 2026-01-31T08:00:00Z: {error}"))
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create => create(run).await,
        Verb::Status => status(run).await,
        Verb::List(source) => list(run, &source).await,
        Verb::Verify(args) => verify(run, &args).await,
        Verb::Restore(args) => restore(run, &args).await,
        Verb::Prune(args) => prune(run, &args).await,
        Verb::Keygen { file } => keygen(run, &file),
    }
}

async fn create(run: &Run) -> Result<(), Failure> {
    let bar = Bar::new(run.output.format);
    let made = run
        .client
        .create_backup(|progress| bar.show(&progress.step, progress.done, progress.total));
    let made = made.await.map_err(|error| Failure::new("make a backup", error));
    drop(bar);
    let backup = made.map_err(|failure| failure.if_unknown("see `muster backup list` before you repeat it"))?;
    run.output.text(created_json(&backup), &created_text(&backup));
    Ok(())
}

fn created_json(backup: &BackupInfo) -> Value {
    json!({
        "id": backup.id,
        "log_index": backup.log_index,
        "state_hash": format!("{:016x}", backup.state_hash),
        "files": backup.files,
        "bytes": backup.bytes,
        "new_files": backup.new_files,
        "new_bytes": backup.new_bytes,
        "live_jobs": backup.live_jobs,
        "took_ms": backup.took.as_millis() as u64,
        "signed_by": backup.signed_by,
    })
}

fn created_text(backup: &BackupInfo) -> String {
    format!(
        "backup {}\n  contains  {} live jobs, up to log index {}\n  size      {} in {} files, of which {} in {} files were sent\n  took      {}\n  signed by {}",
        backup.id,
        human::count(backup.live_jobs),
        human::count(backup.log_index),
        human::size(backup.bytes),
        backup.files,
        human::size(backup.new_bytes),
        backup.new_files,
        human::duration(backup.took),
        backup.signed_by.as_deref().unwrap_or("nobody"),
    )
}

async fn status(run: &Run) -> Result<(), Failure> {
    let status = run.client.backup_status().await;
    let status = status.map_err(|error| Failure::new("ask for the status of backups", error))?;
    run.output.text(status_json(&status), &status_text(&status));
    Ok(())
}

fn status_json(status: &BackupStatus) -> Value {
    let millis = |length: Option<Duration>| length.map(|length| length.as_millis() as u64);
    json!({
        "node_id": status.node_id,
        "location": status.location,
        "signed_by": status.signed_by,
        "running": status.running,
        "last_id": status.last_id,
        "last_finished": status.last_finished.and_then(scripts::rfc3339),
        "last_log_index": status.last_log_index,
        "last_bytes": status.last_bytes,
        "last_new_bytes": status.last_new_bytes,
        "last_took_ms": millis(status.last_took),
        "error": status.error,
        "interval_ms": millis(status.interval),
        "archive": status.archive.as_ref().map(|archive| json!({
            "active": archive.active,
            "archived_index": archive.archived_index,
            "lag_entries": archive.lag_entries,
            "lag_ms": millis(Some(archive.lag)),
            "last_sent": archive.last_sent.and_then(scripts::rfc3339),
            "gaps": archive.gaps,
            "error": archive.error,
        })),
    })
}

fn status_text(status: &BackupStatus) -> String {
    let Some(location) = &status.location else {
        return format!("node {}: no backups; cluster.toml has no [backup] url", status.node_id);
    };
    let now = SystemTime::now();
    let last = status.last_id.as_ref().map_or_else(
        || "none".to_owned(),
        |id| format!("{id}, {}", human::relative(status.last_finished, now)),
    );
    let next = match (status.running, status.interval) {
        (true, _) => "one is being made".to_owned(),
        (false, Some(interval)) => format!("every {}", human::duration(interval)),
        (false, None) => "when asked for".to_owned(),
    };
    let archive = match &status.archive {
        None => "off".to_owned(),
        Some(archive) if archive.active => format!(
            "up to log index {}, {} entries behind, last sent {}, {} gaps",
            human::count(archive.archived_index),
            human::count(archive.lag_entries),
            human::relative(archive.last_sent, now),
            archive.gaps
        ),
        Some(archive) => format!(
            "by another node; known up to log index {}",
            human::count(archive.archived_index)
        ),
    };
    let errors = [
        &status.error,
        &status.archive.as_ref().and_then(|archive| archive.error.clone()),
    ];
    let errors: Vec<_> = errors
        .into_iter()
        .flatten()
        .map(|error| format!("\nerror     {error}"))
        .collect();
    let errors = errors.concat();
    format!(
        "answered by node {}\nlocation  {location}\nsigned by {}\nbackups   {next}\nlast      {last}\narchive   {archive}{errors}",
        status.node_id,
        status.signed_by.as_deref().unwrap_or("nobody"),
    )
}

const LIST: [&str; 8] = [
    "BACKUP",
    "MADE",
    "NODE",
    "LOG INDEX",
    "STATE AS OF",
    "LIVE JOBS",
    "SIZE",
    "SIGNED BY",
];

async fn list(run: &Run, source: &Source) -> Result<(), Failure> {
    let action = "list backups";
    let (location, trust) = source.open(action)?;
    let wrong = |error| failed(action, &error);
    let mut clusters = location.clusters().await.map_err(wrong)?;
    if let Some(only) = source.from_cluster {
        clusters.retain(|cluster| *cluster == only);
    }
    let (mut values, mut bad) = (Vec::new(), 0);
    if clusters.is_empty() {
        run.output.remark(&format!("there are no backups in {location}"));
    }
    for cluster in clusters {
        let catalog = Catalog::load(&location.repository(cluster), &trust)
            .await
            .map_err(wrong)?;
        bad += catalog.backups.iter().filter(|listed| listed.manifest.is_err()).count();
        values.push(catalog_json(cluster, &catalog));
        if run.output.format == Format::Table {
            run.output
                .text(Value::Null, &format!("cluster {cluster:032x} in {location}"));
            let rows = catalog.backups.iter().map(listed_row).collect();
            run.output.rows(Value::Null, &LIST, rows);
            run.output.text(Value::Null, &archive_text(&catalog));
        }
    }
    if run.output.format == Format::Json {
        run.output.text(Value::Array(values), "");
    }
    if bad > 0 {
        return Err(Failure::local(
            action,
            format!("{bad} of the backups cannot be used, see above"),
            exit::FAILED,
        ));
    }
    Ok(())
}

fn listed_row(listed: &Listed) -> Vec<String> {
    match &listed.manifest {
        Ok((manifest, signed_by)) => vec![
            listed.id.clone(),
            format!("{:.0}", manifest.created),
            manifest.node.to_string(),
            human::count(manifest.position.index),
            instant(manifest.replicated_time_ms),
            human::count(live(manifest)),
            human::size(manifest.bytes),
            signed_by.map_or_else(|| "nobody".to_owned(), |key| key.to_string()[..12].to_owned()),
        ],
        Err(error) => {
            let mut row = vec![listed.id.clone()];
            row.extend(std::iter::repeat_n("-".to_owned(), LIST.len() - 2));
            row.push(error.to_string());
            row
        }
    }
}

fn live(manifest: &Manifest) -> u64 {
    let jobs = &manifest.jobs;
    jobs.scheduled + jobs.available + jobs.running + jobs.retrying
}

fn instant(ms: u64) -> String {
    scripts::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).unwrap_or_default()
}

fn archive_text(catalog: &Catalog) -> String {
    let (Some(first), Some(last)) = (catalog.segments.first(), catalog.archive_end()) else {
        return "no archived log\n".to_owned();
    };
    let bytes = catalog.segments.iter().map(|segment| segment.bytes).sum();
    format!(
        "archived log: entries {} to {} in {} objects, {}\n",
        human::count(first.first),
        human::count(last),
        human::count(catalog.segments.len() as u64),
        human::size(bytes),
    )
}

fn catalog_json(cluster: u128, catalog: &Catalog) -> Value {
    let backup = |listed: &Listed| match &listed.manifest {
        Ok((manifest, signed_by)) => json!({
            "id": listed.id,
            "created": manifest.created.to_string(),
            "node": manifest.node,
            "log_index": manifest.position.index,
            "term": manifest.position.term,
            "state_as_of": instant(manifest.replicated_time_ms),
            "state_hash": format!("{:016x}", manifest.state_hash),
            "jobs": manifest.jobs,
            "files": manifest.files.len(),
            "bytes": manifest.bytes,
            "version": manifest.version,
            "signed_by": signed_by,
            "error": Value::Null,
        }),
        Err(error) => json!({ "id": listed.id, "error": error.to_string() }),
    };
    json!({
        "cluster": format!("{cluster:032x}"),
        "backups": catalog.backups.iter().map(backup).collect::<Vec<_>>(),
        "archive": {
            "first_index": catalog.segments.first().map(|segment| segment.first),
            "last_index": catalog.archive_end(),
            "objects": catalog.segments.len(),
            "bytes": catalog.segments.iter().map(|segment| segment.bytes).sum::<u64>(),
        },
    })
}

async fn verify(run: &Run, args: &VerifyArgs) -> Result<(), Failure> {
    let action = args.backup.as_ref().map_or_else(
        || "verify the newest backup".to_owned(),
        |id| format!("verify backup {id}"),
    );
    let (location, trust) = args.source.open(&action)?;
    let wrong = |error| failed(&action, &error);
    let repository = location.find(args.source.from_cluster).await.map_err(wrong)?;
    let bar = Bar::new(run.output.format);
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let verified = muster_backup::verify(&repository, args.backup.as_deref(), &trust, &scratch, &bar.sink()).await;
    drop(bar);
    let verified = verified.map_err(wrong)?;
    run.output.text(verified_json(&verified), &verified_text(&verified));
    Ok(())
}

fn verified_json(verified: &Verified) -> Value {
    json!({
        "id": verified.manifest.id,
        "log_index": verified.manifest.position.index,
        "state_hash": format!("{:016x}", verified.manifest.state_hash),
        "files": verified.manifest.files.len(),
        "bytes": verified.manifest.bytes,
        "rows": verified.rows,
        "ended_jobs": verified.ended,
        "signed_by": verified.signed_by,
        "archive_objects": verified.segments,
        "archive_entries": verified.entries,
        "reaches_index": verified.reaches,
        "later_backups_met": verified.met,
    })
}

fn verified_text(verified: &Verified) -> String {
    let manifest = &verified.manifest;
    format!(
        "backup {} is whole\n  files     {} in {} files, each with the hash it was sent with\n  state     {} rows and {} ended jobs read; state hash {:016x} at log index {}\n  archive   {} entries in {} objects follow without a gap, up to log index {}; {} later backups met\n  signed by {}",
        manifest.id,
        human::size(manifest.bytes),
        manifest.files.len(),
        human::count(verified.rows),
        human::count(verified.ended),
        manifest.state_hash,
        human::count(manifest.position.index),
        human::count(verified.entries),
        human::count(verified.segments),
        human::count(verified.reaches),
        verified.met,
        verified
            .signed_by
            .map_or_else(|| "nobody".to_owned(), |key| key.to_string()),
    )
}

async fn restore(run: &Run, args: &RestoreArgs) -> Result<(), Failure> {
    let action = "restore";
    let config = args.source.config.load(action)?;
    let (location, trust) = args.source.open(action)?;
    let nodes: Vec<u64> = if args.all_nodes {
        config.nodes.iter().map(|node| node.id).collect()
    } else {
        args.node.clone()
    };
    let request = RestoreRequest {
        location,
        from_cluster: args.source.from_cluster,
        backup: args.backup.clone(),
        at: args.at,
        trust,
        nodes: muster_server::restore_nodes(&config, &nodes).map_err(|error| Failure::usage(action, error))?,
        members: muster_server::members(&config),
        cluster: args.cluster_id,
        begin_index: args.begin_index,
    };
    let bar = Bar::new(run.output.format);
    let restored = muster_backup::restore(&request, &bar.sink()).await;
    drop(bar);
    let restored = restored.map_err(|error| failed(action, &error))?;
    let rest: Vec<u64> = config
        .nodes
        .iter()
        .map(|node| node.id)
        .filter(|id| !nodes.contains(id))
        .collect();
    let text = restored_text(&restored, &args.source.config, &rest);
    run.output.text(restored_json(&restored), &text);
    Ok(())
}

fn restored_json(restored: &Restored) -> Value {
    json!({
        "from_cluster": format!("{:032x}", restored.from_cluster),
        "backup": restored.backup.id,
        "replayed_entries": restored.replayed,
        "log_index": restored.position.index,
        "term": restored.position.term,
        "state_as_of": instant(restored.replicated_time_ms),
        "state_hash": format!("{:016x}", restored.state_hash),
        "jobs": restored.jobs,
        "archive_end": restored.archive_end,
        "missing": restored.missing(),
        "cluster": format!("{:032x}", restored.cluster),
        "begin_index": restored.begin_index,
        "nodes": restored.nodes.iter().map(|node| json!({
            "node": node.node,
            "data": node.data.display().to_string(),
        })).collect::<Vec<_>>(),
    })
}

fn restored_text(restored: &Restored, config: &ConfigFile, rest: &[u64]) -> String {
    use std::fmt::Write;
    let jobs = &restored.jobs;
    let mut text = format!(
        "restored from backup {} of cluster {:032x} and {} entries of archived log\n  state     as of {}, log index {}, hash {:016x}\n  live jobs {} scheduled, {} available, {} running (they run again), {} retrying\n  missing   {}\n  cluster   {:032x}, new; it begins at log index {}\n",
        restored.backup.id,
        restored.from_cluster,
        human::count(restored.replayed),
        instant(restored.replicated_time_ms),
        human::count(restored.position.index),
        restored.state_hash,
        human::count(jobs.scheduled),
        human::count(jobs.available),
        human::count(jobs.running),
        human::count(jobs.retrying),
        restored.missing(),
        restored.cluster,
        restored.begin_index,
    );
    let file = config.config.display();
    for node in &restored.nodes {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  node {}    {}", node.node, node.data.display());
    }
    if !rest.is_empty() {
        text.push_str("next, on the machines of the other nodes, with the same --url and keys:\n");
        for node in rest {
            let _ = writeln!(
                text,
                "  muster backup restore --config {file} --node {node} --from-cluster {:032x} --at {} --cluster-id {:032x} --begin-index {}",
                restored.from_cluster, restored.position.index, restored.cluster, restored.begin_index
            );
        }
    }
    text.push_str("then start the nodes:\n");
    let nodes = restored.nodes.iter().map(|node| node.node).chain(rest.iter().copied());
    for node in nodes {
        let _ = writeln!(text, "  muster server --config {file} --node {node}");
    }
    text.trim_end().to_owned()
}

async fn prune(run: &Run, args: &PruneArgs) -> Result<(), Failure> {
    let action = "remove old backups";
    let (location, trust) = args.source.open(action)?;
    let wrong = |error| failed(action, &error);
    let configured = args
        .source
        .config
        .config
        .exists()
        .then(|| args.source.config.load(action))
        .transpose()?;
    let default = configured.map_or_else(
        || muster_backup::BackupOptions::default().retention(),
        |config| config.backup.retention(),
    );
    let retention = Retention {
        keep: args.keep.map_or(default.keep, |keep| keep as usize),
        keep_for: args.keep_for.unwrap_or(default.keep_for),
    };
    let repository = location.find(args.source.from_cluster).await.map_err(wrong)?;
    let pruned = muster_backup::prune(&repository, retention, &trust, args.dry_run)
        .await
        .map_err(wrong)?;
    run.output
        .text(pruned_json(&pruned, args.dry_run), &pruned_text(&pruned, args.dry_run));
    Ok(())
}

fn pruned_json(pruned: &Pruned, dry_run: bool) -> Value {
    json!({
        "dry_run": dry_run,
        "removed": pruned.backups,
        "kept": pruned.kept,
        "files": pruned.files,
        "archive_objects": pruned.segments,
        "bytes": pruned.bytes,
    })
}

fn pruned_text(pruned: &Pruned, dry_run: bool) -> String {
    format!(
        "{} {} backups, {} files and {} objects of archived log, {}; {} backups are kept{}",
        if dry_run { "would remove" } else { "removed" },
        pruned.backups.len(),
        human::count(pruned.files),
        human::count(pruned.segments),
        human::size(pruned.bytes),
        pruned.kept.len(),
        pruned
            .backups
            .iter()
            .map(|id| format!("\n  {id}"))
            .collect::<Vec<_>>()
            .concat(),
    )
}

fn keygen(run: &Run, file: &Path) -> Result<(), Failure> {
    let action = format!("make the key {}", file.display());
    let key = SigningKey::create(file).map_err(|error| failed(&action, &error))?;
    let public = key.verify_key().to_string();
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    let beside = PathBuf::from(name);
    std::fs::write(&beside, format!("{public}\n"))
        .map_err(|error| Failure::local(&action, format!("{}: {error}", beside.display()), exit::FAILED))?;
    let text = format!(
        "{} signs backups: give it to the nodes ([backup] sign_key) and to nobody else\n{} verifies them: keep a copy where the cluster's disasters do not reach\n{public}",
        file.display(),
        beside.display()
    );
    let value = json!({ "sign_key": file.display().to_string(), "verify_key_file": beside.display().to_string(), "verify_key": public });
    run.output.text(value, &text);
    Ok(())
}

//! `muster backup …`

mod text;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use muster_backup::{At, Catalog, RestoreRequest, Retention, SigningKey};
use serde_json::{Value, json};

use self::text::{
    LIST, archive_text, catalog_json, created_json, created_text, listed_row, pruned_json, pruned_text, restored_json,
    restored_text, status_json, status_text, verified_json, verified_text,
};
use super::Run;
use super::local::{Bar, Source, cluster_id, failed};
use crate::args::Format;
use crate::failure::Failure;
use crate::{exit, parse};

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

async fn status(run: &Run) -> Result<(), Failure> {
    let status = run.client.backup_status().await;
    let status = status.map_err(|error| Failure::new("ask for the status of backups", error))?;
    run.output.text(status_json(&status), &status_text(&status));
    Ok(())
}

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

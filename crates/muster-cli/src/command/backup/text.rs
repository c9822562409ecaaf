//! What the backup commands print: for people, and for scripts.

use std::time::{Duration, SystemTime};

use muster_backup::{Catalog, Listed, Manifest, Pruned, Restored, Verified};
use muster_client::{BackupInfo, BackupStatus};
use serde_json::{Value, json};

use super::super::local::ConfigFile;
use crate::{human, json as scripts};

pub(super) const LIST: [&str; 8] = [
    "BACKUP",
    "MADE",
    "NODE",
    "LOG INDEX",
    "STATE AS OF",
    "LIVE JOBS",
    "SIZE",
    "SIGNED BY",
];

pub(super) fn created_json(backup: &BackupInfo) -> Value {
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

pub(super) fn created_text(backup: &BackupInfo) -> String {
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

pub(super) fn status_json(status: &BackupStatus) -> Value {
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

pub(super) fn status_text(status: &BackupStatus) -> String {
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

pub(super) fn listed_row(listed: &Listed) -> Vec<String> {
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

pub(super) fn archive_text(catalog: &Catalog) -> String {
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

pub(super) fn catalog_json(cluster: u128, catalog: &Catalog) -> Value {
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

pub(super) fn verified_json(verified: &Verified) -> Value {
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

pub(super) fn verified_text(verified: &Verified) -> String {
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

pub(super) fn restored_json(restored: &Restored) -> Value {
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

pub(super) fn restored_text(restored: &Restored, config: &ConfigFile, rest: &[u64]) -> String {
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

pub(super) fn pruned_json(pruned: &Pruned, dry_run: bool) -> Value {
    json!({
        "dry_run": dry_run,
        "removed": pruned.backups,
        "kept": pruned.kept,
        "files": pruned.files,
        "archive_objects": pruned.segments,
        "bytes": pruned.bytes,
    })
}

pub(super) fn pruned_text(pruned: &Pruned, dry_run: bool) -> String {
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

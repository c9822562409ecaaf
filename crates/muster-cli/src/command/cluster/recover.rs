//! `muster cluster recover`

use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args};
use muster_server::{Inspected, RecoverError, RecoverRequest, Recovered};
use muster_store::LogPosition;
use serde_json::{Value, json};

use super::super::Run;
use super::super::local::ConfigFile;
use crate::failure::Failure;
use crate::{exit, human, json as scripts};

/// A cluster of one node out of what is left. The node must be stopped; its data directory is kept as it is under another
/// name.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true).args(["lost", "inspect"]))]
pub struct RecoverArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// The survivor, on this machine
    #[arg(long, env = "MUSTER_NODE", value_name = "ID")]
    node: u64,
    /// The nodes whose disks are gone for good, all of them
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    lost: Vec<u64>,
    /// The end of the log of another survivor that does not run, as --inspect prints it there
    #[arg(long, value_name = "ID=TERM.NODE.INDEX", value_parser = survivor)]
    survivor: Vec<(u64, LogPosition)>,
    /// Say what this node has; change nothing
    #[arg(long, conflicts_with_all = ["lost", "survivor", "dry_run"])]
    inspect: bool,
    /// Check everything and say what would happen; change nothing
    #[arg(long)]
    dry_run: bool,
}

fn survivor(text: &str) -> Result<(u64, LogPosition), String> {
    let wrong = || format!("{text:?} is not like 4=12.2.345678: node, then term, node and index of the last entry");
    let (id, position) = text.split_once('=').ok_or_else(wrong)?;
    let parts: Vec<u64> = position
        .split('.')
        .map(|part| part.parse().map_err(|_| wrong()))
        .collect::<Result<_, _>>()?;
    let [term, node, index] = parts[..] else {
        return Err(wrong());
    };
    Ok((id.parse().map_err(|_| wrong())?, LogPosition { term, node, index }))
}

pub(super) async fn run(run: &Run, args: &RecoverArgs) -> Result<(), Failure> {
    let action = if args.inspect {
        format!("inspect node {}", args.node)
    } else {
        format!("recover the cluster from node {}", args.node)
    };
    let config = args.config.load(&action)?;
    let failed = |error: RecoverError| {
        let code = match error {
            RecoverError::Config(_) => exit::USAGE,
            RecoverError::Data { .. } | RecoverError::Refused(_) => exit::FAILED,
        };
        Failure::local(&action, error.to_string(), code)
    };
    if args.inspect {
        let found = muster_server::inspect(&config, args.node).await.map_err(failed)?;
        run.output.text(inspected_json(&found), &inspected_text(&found));
        return Ok(());
    }
    let request = RecoverRequest {
        config: &config,
        node: args.node,
        lost: args.lost.clone(),
        others: args.survivor.clone(),
        dry_run: args.dry_run,
    };
    let recovered = muster_server::recover(&request).await.map_err(failed)?;
    let text = recovered_text(&recovered, args);
    run.output.text(recovered_json(&recovered), &text);
    Ok(())
}

fn instant(ms: u64) -> String {
    scripts::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).unwrap_or_default()
}

fn position(LogPosition { term, node, index }: LogPosition) -> String {
    format!("{term}.{node}.{index}")
}

fn inspected_json(found: &Inspected) -> Value {
    json!({
        "node": found.node,
        "cluster": format!("{:032x}", found.cluster),
        "log_end": position(found.log_end),
        "log_index": found.log_end.index,
        "committed_index": found.committed.index,
        "state_as_of": instant(found.time_ms),
        "state_hash": format!("{:016x}", found.state_hash),
        "live_jobs": found.live.total(),
        "voters": found.voters,
    })
}

fn inspected_text(found: &Inspected) -> String {
    format!(
        "node {} of cluster {:032x}\n  voters    {:?}\n  log end   {}\n  committed at least up to log index {}\n  state     as of {}, {} live jobs, hash {:016x}",
        found.node,
        found.cluster,
        found.voters,
        position(found.log_end),
        human::count(found.committed.index),
        instant(found.time_ms),
        human::count(found.live.total()),
        found.state_hash,
    )
}

fn recovered_json(recovered: &Recovered) -> Value {
    json!({
        "found": inspected_json(&recovered.found),
        "cluster": recovered.cluster.map(|id| format!("{id:032x}")),
        "begin_index": recovered.begin_index,
        "kept": recovered.kept.as_ref().map(|dir| dir.display().to_string()),
        "survivors": recovered.survivors,
        "possibly_lost": possibly_lost(recovered),
    })
}

fn possibly_lost(recovered: &Recovered) -> String {
    let found = &recovered.found;
    format!(
        "entries above {}, if the lost nodes acknowledged any without this one: at most what was acknowledged after {}",
        found.log_end.index,
        instant(found.time_ms)
    )
}

fn recovered_text(recovered: &Recovered, args: &RecoverArgs) -> String {
    use std::fmt::Write;
    let found = &recovered.found;
    let mut text = inspected_text(found);
    let uncertain = found.log_end.index.saturating_sub(found.committed.index);
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n  kept      all of its log; of the last {} entries it is not known here whether they were committed\n  may be lost: {}",
        human::count(uncertain),
        possibly_lost(recovered)
    );
    let Some(cluster) = recovered.cluster else {
        text.push_str("\nnothing was changed (--dry-run)");
        return text;
    };
    let _ = write!(
        text,
        "\nnode {} is now the only voter of cluster {cluster:032x}, which begins at log index {}",
        found.node, recovered.begin_index
    );
    if let Some(kept) = &recovered.kept {
        let _ = write!(text, "\nits old directory is kept in {}", kept.display());
    }
    let file = args.config.config.display();
    let _ = write!(
        text,
        "\nnext:\n  1. take the nodes that are lost out of {file}\n  2. muster server --config {file} --node {}\n  3. muster cluster status, and add new nodes under ids that were never used",
        found.node
    );
    if !recovered.survivors.is_empty() {
        let _ = write!(
            text,
            "\n  4. stop nodes {:?}, move their data directories away, and add their machines as new nodes",
            recovered.survivors
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survivors_are_written_as_inspect_prints_them() {
        let end = LogPosition {
            term: 12,
            node: 2,
            index: 345,
        };
        assert_eq!(survivor(&format!("4={}", position(end))), Ok((4, end)));
        for wrong in ["4", "4=1.2", "x=1.2.3", "4=1.2.3.4", "4=1.-2.3"] {
            assert!(survivor(wrong).is_err(), "{wrong:?}");
        }
    }
}

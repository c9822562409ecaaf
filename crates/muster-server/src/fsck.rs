//! `muster fsck`: reads everything in the data directory of a stopped node and says what is wrong.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use muster_store::{Finding, Inspection, LogPosition, Part, Progress, inspect};
use serde_json::{Value, json};

use crate::args::OutputFormat;

/// A shorter inspection shows no bar.
const SHOW_AFTER: Duration = Duration::from_millis(700);

/// `muster fsck`.
#[derive(Args, Clone, Debug)]
pub struct FsckArgs {
    /// Data directory of a node that does not run
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// A table for people, or JSON for scripts
    #[arg(long, short = 'o', value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: OutputFormat,
}

/// Looks, prints, and returns the exit code: 0 whole, 1 something is damaged or lost, 4 the directory cannot be looked at.
pub fn fsck(args: &FsckArgs) -> u8 {
    let mut bar = Bar::new();
    let inspected = inspect(&args.data, &mut |progress| bar.show(progress));
    bar.end();
    let found = match inspected {
        Ok(found) => found,
        Err(error) => {
            eprintln!("muster fsck: {}: {error}", args.data.display());
            return 4;
        }
    };
    match args.output {
        OutputFormat::Table => print!("{}", table(&found)),
        OutputFormat::Json => println!("{:#}", json(&found)),
    }
    u8::from(!found.is_whole())
}

fn part(part: Part) -> &'static str {
    match part {
        Part::Directory => "directory",
        Part::Log => "log",
        Part::State => "state",
    }
}

fn position(position: Option<LogPosition>) -> String {
    position.map_or_else(|| "nothing".to_owned(), |position| position.to_string())
}

fn table(found: &Inspection) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let owner = found.identity.map_or_else(
        || "of no node yet".to_owned(),
        |identity| format!("node {} of cluster {:032x}", identity.node, identity.cluster),
    );
    let (log, state) = (&found.log, &found.state);
    let lines = [
        ("directory", owner),
        (
            "log",
            format!(
                "{} entries with {} commands, {} bytes, up to {}; purged up to {}",
                log.entries,
                log.commands,
                log.bytes,
                position(log.last),
                position(log.purged)
            ),
        ),
        (
            "state",
            format!("{} rows, up to {}", state.rows, position(found.applied)),
        ),
        (
            "history",
            format!(
                "{} ended jobs, {} by id, {} by key",
                state.ended_jobs, state.ids, state.keys
            ),
        ),
    ];
    // Writing to a text cannot fail.
    for (name, what) in lines {
        let _ = writeln!(text, "{name:<11}{what}");
    }
    for finding in &found.findings {
        let kind = if finding.damage { "DAMAGE" } else { "note" };
        let _ = writeln!(text, "{kind:<11}{}: {}", part(finding.part), finding.text);
    }
    if found.more > 0 {
        let _ = writeln!(text, "DAMAGE     {} more of it", found.more);
    }
    let verdict = if found.is_whole() {
        "All that was read is whole."
    } else if found
        .findings
        .iter()
        .any(|finding| finding.damage && finding.text.contains("it is not known how this node voted"))
    {
        "The votes of this node are lost: it must be replaced (docs/operations.md, Damaged data)."
    } else {
        "The next start of this node refills it from the others (docs/operations.md, Damaged data)."
    };
    let _ = writeln!(text, "{verdict}");
    text
}

fn json(found: &Inspection) -> Value {
    let at = |position: Option<LogPosition>| {
        position.map(|at| json!({"term": at.term, "leader": at.node, "index": at.index}))
    };
    let finding =
        |finding: &Finding| json!({"part": part(finding.part), "damage": finding.damage, "text": finding.text});
    json!({
        "whole": found.is_whole(),
        "node": found.identity.map(|identity| identity.node),
        "cluster_id": found.identity.map(|identity| format!("{:032x}", identity.cluster)),
        "log": {
            "purged": at(found.log.purged),
            "first": at(found.log.first),
            "last": at(found.log.last),
            "entries": found.log.entries,
            "commands": found.log.commands,
            "bytes": found.log.bytes,
        },
        "state": {
            "applied": at(found.applied),
            "rows": found.state.rows,
            "ended_jobs": found.state.ended_jobs,
            "ids": found.state.ids,
            "keys": found.state.keys,
        },
        "findings": found.findings.iter().map(finding).collect::<Vec<_>>(),
        "more": found.more,
    })
}

/// Two bars, one after the other, on standard error if that is a terminal.
struct Bar {
    begun: Instant,
    drawn: Option<ProgressBar>,
    log: bool,
}

impl Bar {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            drawn: None,
            log: true,
        }
    }

    fn show(&mut self, progress: Progress) {
        if self.begun.elapsed() < SHOW_AFTER {
            return;
        }
        let (log, done, of) = match progress {
            Progress::Log { bytes, of } => (true, bytes, of),
            Progress::State { records, of } => (false, records, of),
        };
        if self.drawn.is_none() || self.log != log {
            self.end();
            let template = if log {
                "log    {bar:40} {bytes}/{total_bytes} {bytes_per_sec}"
            } else {
                "state  {bar:40} {human_pos}/{human_len} records, {per_sec}"
            };
            // The templates are right, or the default serves.
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            self.drawn = Some(ProgressBar::new(of).with_style(style));
            self.log = log;
        }
        if let Some(bar) = &self.drawn {
            bar.set_length(of.max(done));
            bar.set_position(done);
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.drawn.take() {
            bar.finish_and_clear();
        }
    }
}

//! `muster log dump`: prints entries of a stopped node's log.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use muster_core::Command;
use muster_store::codec::decode_batch;
use muster_store::{EntryKind, LogEntry, dump_log};
use serde::Serialize;
use serde_json::json;
use serde_json::ser::Formatter;

use crate::args::OutputFormat;

/// `muster log dump`.
#[derive(Args, Clone, Debug)]
pub struct DumpArgs {
    /// Data directory of a node that does not run
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// First index
    #[arg(long, default_value_t = 0, value_name = "INDEX")]
    pub from: u64,
    /// Last index
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true, value_name = "INDEX")]
    pub to: u64,
    /// One line an entry for people, or one JSON object a line with all commands for scripts
    #[arg(long, short = 'o', value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: OutputFormat,
}

/// Prints, and returns the exit code: 0 done, 1 an entry cannot be read, 4 the directory cannot be looked at.
pub fn dump(args: &DumpArgs) -> u8 {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut failed = None;
    let mut seen = 0_u64;
    if args.output == OutputFormat::Table {
        // A reader that went away is met again with the first entry.
        let _ = writeln!(
            out,
            "{:>10} {:>6} {:>6} {:>10}  CONTENT",
            "INDEX", "TERM", "LEADER", "BYTES"
        );
    }
    let dumped = dump_log(&args.data, args.from, args.to, &mut |entry| {
        seen += 1;
        let written = match args.output {
            OutputFormat::Table => writeln!(out, "{}", line(&entry)),
            OutputFormat::Json => writeln!(out, "{}", object(&entry)),
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    let flushed = out.flush();
    match failed.or(flushed.err()) {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("muster log dump: writing the output: {error}");
            return 1;
        }
        _ => {}
    }
    match dumped {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("muster log dump: {}: {error}", args.data.display());
            if seen > 0 || error.is_damage() { 1 } else { 4 }
        }
    }
}

fn line(entry: &LogEntry) -> String {
    let at = entry.position;
    let content = match entry.kind {
        EntryKind::Blank => "blank: a leader's first entry".to_owned(),
        EntryKind::Membership => "membership".to_owned(),
        EntryKind::Commands => match decode_batch(&entry.data) {
            Ok(batch) => {
                let counts = counts(&batch.commands);
                let counts = counts.iter().map(|(name, count)| format!("{name} {count}"));
                format!(
                    "stamped {}: {}",
                    stamp(batch.stamped_at),
                    counts.collect::<Vec<_>>().join(", ")
                )
            }
            Err(error) => format!("UNREADABLE: {error}"),
        },
    };
    format!(
        "{:>10} {:>6} {:>6} {:>10}  {content}",
        at.index,
        at.term,
        at.node,
        entry.data.len()
    )
}

/// One JSON object, on one line.
fn object(entry: &LogEntry) -> String {
    let at = entry.position;
    let mut object = json!({"index": at.index, "term": at.term, "leader": at.node, "bytes": entry.data.len()});
    let mut commands = None;
    match entry.kind {
        EntryKind::Blank => object["kind"] = "blank".into(),
        EntryKind::Membership => object["kind"] = "membership".into(),
        EntryKind::Commands => {
            object["kind"] = "commands".into();
            match decode_batch(&entry.data)
                .map_err(|error| error.to_string())
                .and_then(|batch| {
                    let text = in_json(&batch.commands)?;
                    Ok((batch.stamped_at, text))
                }) {
                Ok((stamped_at, text)) => {
                    object["stamped_at"] = stamp(stamped_at).into();
                    commands = Some(text);
                }
                Err(error) => object["error"] = error.into(),
            }
        }
    }
    let mut text = object.to_string();
    if let Some(commands) = commands {
        text.truncate(text.len() - 1);
        text.push_str(",\"commands\":");
        text.push_str(&commands);
        text.push('}');
    }
    text
}

/// Ids and bytes as hexadecimal text: numbers of 128 bits lose digits in most readers, and lists of bytes please nobody.
struct Hex;

impl Formatter for Hex {
    fn write_u128<W: ?Sized + Write>(&mut self, writer: &mut W, value: u128) -> std::io::Result<()> {
        write!(writer, "\"{value:032x}\"")
    }

    fn write_byte_array<W: ?Sized + Write>(&mut self, writer: &mut W, value: &[u8]) -> std::io::Result<()> {
        writer.write_all(b"\"")?;
        for byte in value {
            write!(writer, "{byte:02x}")?;
        }
        writer.write_all(b"\"")
    }
}

fn in_json(commands: &[Command]) -> Result<String, String> {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Hex);
    commands.serialize(&mut serializer).map_err(|error| error.to_string())?;
    String::from_utf8(out).map_err(|error| error.to_string())
}

fn counts(commands: &[Command]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for command in commands {
        let text = format!("{command:?}");
        let name = text.split([' ', '(', '{']).next().unwrap_or_default();
        *counts.entry(name.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Milliseconds since the Unix epoch as RFC 3339.
fn stamp(at: u64) -> String {
    let stamp = i64::try_from(at)
        .ok()
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    stamp.map_or_else(|| at.to_string(), |stamp| stamp.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use muster_core::{Batch, JobId};
    use muster_store::LogPosition;
    use muster_store::codec::encode_batch;

    use super::*;

    #[test]
    fn an_entry_is_a_line_for_people_and_an_object_for_scripts() {
        let batch = Batch {
            stamped_at: 1_700_000_000_000,
            commands: vec![
                Command::Tick,
                Command::Cancel {
                    tenant: "default".into(),
                    job: JobId(0xabc),
                },
                Command::Tick,
            ],
        };
        let entry = |kind, data| LogEntry {
            position: LogPosition {
                term: 3,
                node: 2,
                index: 17,
            },
            kind,
            data,
        };
        let commands = entry(EntryKind::Commands, encode_batch(&batch).unwrap());
        let text = line(&commands);
        assert!(
            text.contains("17") && text.ends_with("stamped 2023-11-14T22:13:20Z: Cancel 1, Tick 2"),
            "{text}"
        );
        let value: serde_json::Value = serde_json::from_str(&object(&commands)).unwrap();
        assert_eq!(value["index"], 17);
        assert_eq!(value["commands"][1]["Cancel"]["job"], format!("{:032x}", 0xabc));
        let broken = entry(EntryKind::Commands, Bytes::from_static(b"\x01\x00nonsense"));
        assert!(line(&broken).contains("UNREADABLE"), "{}", line(&broken));
        let value: serde_json::Value = serde_json::from_str(&object(&broken)).unwrap();
        assert!(value["error"].is_string());
        assert!(line(&entry(EntryKind::Blank, Bytes::new())).contains("blank"));
    }
}

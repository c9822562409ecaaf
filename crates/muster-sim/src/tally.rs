//! Verdicts on a file, for people and for programs.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::Serialize;

use crate::check::{Verdict, judge};
use crate::facts::Facts;
use crate::history::{Header, Malformed, Reader};

/// All verdicts on one history.
#[derive(Debug, Serialize)]
pub struct Tally {
    /// Program that wrote it.
    pub source: String,
    /// Records read.
    pub records: u64,
    /// Calls of clients.
    pub calls: u64,
    /// One per checker.
    pub verdicts: Vec<Verdict>,
}

impl Tally {
    /// Judges a history.
    pub fn of(facts: &Facts) -> Self {
        Self {
            source: facts.header.source.clone(),
            records: facts.records,
            calls: facts.calls.len() as u64,
            verdicts: judge(facts),
        }
    }

    /// Violations in total.
    pub fn violations(&self) -> u64 {
        self.verdicts.iter().map(|verdict| verdict.total).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} records, {} calls", self.source, self.records, self.calls)?;
        for verdict in &self.verdicts {
            let judged = match verdict.not_judged {
                Some(why) => format!("not judged: {why}"),
                None if verdict.judged == 0 => "nothing to judge".to_owned(),
                None => format!("{} judged", verdict.judged),
            };
            let found = match verdict.total {
                0 => String::new(),
                total => format!("{total} VIOLATIONS"),
            };
            writeln!(f, "{:4} {:42} {:30} {found}", verdict.id, verdict.title, judged)?;
            if let Some(note) = &verdict.note {
                writeln!(f, "       {note}")?;
            }
            for violation in &verdict.violations {
                writeln!(f, "       {} (lines {:?})", violation.text, violation.lines)?;
            }
        }
        Ok(())
    }
}

/// Reads and judges a file. `change` may alter what the header demands.
pub fn judge_file(path: &Path, change: impl FnOnce(&mut Header)) -> Result<Tally, Malformed> {
    let unreadable = |fault: std::io::Error| Malformed {
        line: 0,
        reason: fault.to_string(),
    };
    let file = BufReader::with_capacity(1 << 20, File::open(path).map_err(unreadable)?);
    let mut reader = Reader::new(file)?;
    change(&mut reader.header);
    let mut facts = Facts::new(reader.header.clone());
    for record in reader {
        let (line, record) = record?;
        facts.see(line, record);
    }
    Ok(Tally::of(&facts))
}

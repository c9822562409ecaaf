//! What was run and what it found, as records that programs append to a file of the repository, one line a campaign;
//! and the page that is made of them. `docs/testing.md` says who writes what.

mod bugs;
mod campaign;
mod page;
mod sums;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use crate::evidence::bugs::{Bug, Bugs};
pub use crate::evidence::campaign::*;

/// What is wrong with the records.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// A file cannot be read or written.
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record is not what it should be.
    #[error("{file}, line {line}: {reason}")]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Counted from 1; 0 = the file as a whole.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Name of the file of campaigns.
const CAMPAIGNS: &str = "campaigns.jsonl";
/// Name of the file of bugs, written by hand.
const BUGS: &str = "bugs.toml";

/// Everything that was run and found.
pub struct Evidence {
    campaigns: Vec<Campaign>,
    bugs: Bugs,
}

impl Evidence {
    /// Reads a directory of records.
    pub fn read(dir: &Path) -> Result<Self, EvidenceError> {
        let (file, text) = text(dir.join(CAMPAIGNS))?;
        let mut campaigns = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let campaign = serde_json::from_str(line).map_err(|fault| EvidenceError::Malformed {
                file: file.clone(),
                line: number + 1,
                reason: fault.to_string(),
            })?;
            campaigns.push(campaign);
        }
        let (file, text) = self::text(dir.join(BUGS))?;
        let bugs = toml::from_str(&text).map_err(|fault| EvidenceError::Malformed {
            file,
            line: 0,
            reason: fault.to_string(),
        })?;
        Ok(Self { campaigns, bugs })
    }

    /// The page, Markdown.
    pub fn page(&self) -> String {
        page::page(self)
    }
}

fn text(file: PathBuf) -> Result<(PathBuf, String), EvidenceError> {
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok((file, text)),
        Err(source) => Err(EvidenceError::File { file, source }),
    }
}

/// Appends a campaign to a file of campaigns, which is made if it is not there.
pub fn append(file: &Path, campaign: &Campaign) -> io::Result<()> {
    let mut line = serde_json::to_vec(campaign)?;
    line.push(b'\n');
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)?
        .write_all(&line)
}

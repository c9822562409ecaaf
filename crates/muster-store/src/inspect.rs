//! Looking at the data directory of a stopped node without changing it.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use muster_core::Core;

use crate::identity::{self, Ownership};
use crate::log::inspect::LogSummary;
use crate::log::mark::{Mark, MarkFiles, Refill};
use crate::state::{StateCounts, StateStore, generation};
use crate::{Error, Identity, LogEntry, LogPosition, Result, alarm, files, log, refill};

/// Faults that are described; more are counted.
const FAULTS_MAX: usize = 100;

/// Part of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Mark, identity, pointer, notes.
    Directory,
    /// The Raft log and the vote.
    Log,
    /// Rows of the state, history and its indexes.
    State,
}

/// What was found about a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub part: Part,
    /// Data is damaged or lost; else it is only worth knowing.
    pub damage: bool,
    /// What.
    pub text: String,
}

/// How far the inspection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes of the log were read, of about so many.
    Log {
        /// Read.
        bytes: u64,
        /// About.
        of: u64,
    },
    /// So many records of the state were read, of about so many.
    State {
        /// Read.
        records: u64,
        /// About.
        of: u64,
    },
}

/// What a data directory holds, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// Whose it is.
    pub identity: Option<Identity>,
    /// The log.
    pub log: LogSummary,
    /// Position of the last entry that the state contains.
    pub applied: Option<LogPosition>,
    /// The state's records.
    pub state: StateCounts,
    /// What was found, at most a hundred.
    pub findings: Vec<Finding>,
    /// Faults beyond those.
    pub more: u64,
}

impl Inspection {
    /// True when nothing is damaged or lost.
    pub fn is_whole(&self) -> bool {
        self.more == 0 && self.findings.iter().all(|finding| !finding.damage)
    }

    fn note(&mut self, part: Part, text: impl Into<String>) {
        self.findings.push(Finding {
            part,
            damage: false,
            text: text.into(),
        });
    }

    fn fault(&mut self, part: Part, text: impl ToString) {
        if self.findings.len() >= FAULTS_MAX {
            self.more += 1;
            return;
        }
        self.findings.push(Finding {
            part,
            damage: true,
            text: text.to_string(),
        });
    }
}

/// Reads everything in the data directory of a stopped node and says what is wrong. Changes nothing in it.
///
/// Refused: a directory that is none, is in use, or is newer than this program.
pub fn inspect(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Inspection> {
    let _lock = hold(dir)?;
    let scratch = Scratch::new()?;
    let mut found = Inspection::default();
    let mark = directory(dir, &mut found)?;
    if mark.refill == Refill::Emptying {
        found.note(
            Part::Directory,
            "damaged data is being put aside; the next start goes on with it, so log and state are not looked at",
        );
        return Ok(found);
    }
    let mut bytes = 0;
    let of = size(&dir.join(log::DIR));
    let mut faults = Vec::new();
    found.log = log::inspect::inspect(
        &dir.join(log::DIR),
        &scratch.0,
        &mark,
        &mut collect(&mut faults),
        &mut |read| {
            bytes += read;
            progress(Progress::Log { bytes, of });
        },
    );
    faults.drain(..).for_each(|fault| found.fault(Part::Log, fault));
    state(dir, &scratch.0, &mut found, progress);
    joined(&mut found);
    Ok(found)
}

/// Keeps faults up to a bound that is never reached by chance.
fn collect(faults: &mut Vec<Error>) -> impl FnMut(Error) -> ControlFlow<()> {
    |error| {
        faults.push(error);
        if faults.len() < 100 * FAULTS_MAX {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}

/// Marks, identity and notes.
fn directory(dir: &Path, found: &mut Inspection) -> Result<Mark> {
    let mark = match MarkFiles::look(dir) {
        Ok(mark) => mark,
        Err(error @ Error::MarkLost { .. }) => {
            found.fault(Part::Directory, error);
            None
        }
        Err(error) => return Err(error),
    };
    for name in MarkFiles::damaged_copies(dir)? {
        found.fault(
            Part::Directory,
            format!("{name} is damaged; the other copy serves, and the next start writes both anew"),
        );
    }
    match identity::owner(dir, mark.as_ref()) {
        Ok(Ownership { identity, repaired }) => {
            found.identity = identity;
            if repaired {
                found.fault(
                    Part::Directory,
                    "the identity file is damaged or lost; the next start writes it anew from the mark",
                );
            }
        }
        Err(error @ Error::MarkLost { .. }) => found.fault(Part::Directory, error),
        Err(error) => return Err(error),
    }
    if let Some(reason) = alarm::noted(dir)? {
        found.note(Part::Directory, format!("the next start refills the node: {reason}"));
    }
    if let Some(reason) = alarm::diverged(dir)? {
        found.fault(Part::Directory, reason);
    }
    if refill::aside_exists(dir) {
        found.note(
            Part::Directory,
            "damaged data was put aside in damaged/, and goes when the refill is complete",
        );
    }
    let mark = mark.unwrap_or_default();
    if mark.refill == Refill::Filling {
        found.note(
            Part::Directory,
            "the node is being refilled, and does not vote until that is done",
        );
    }
    Ok(mark)
}

fn state(dir: &Path, scratch: &Path, found: &mut Inspection, progress: &mut dyn FnMut(Progress)) {
    let number = match generation::current(dir) {
        Ok(Some(number)) => number,
        Ok(None) => return found.fault(Part::Directory, format!("{} is missing", generation::POINTER)),
        Err(error) => return found.fault(Part::Directory, error),
    };
    for path in generation::all(dir).unwrap_or_default() {
        if path != dir.join(generation::name(number)) {
            let text = format!(
                "{} was left by an interrupted install, and goes with the next start",
                path.display()
            );
            found.note(Part::Directory, text);
        }
    }
    let mut faults = Vec::new();
    let inspected = StateStore::inspect(
        &dir.join(generation::name(number)),
        scratch,
        &mut collect(&mut faults),
        &mut |records, of| progress(Progress::State { records, of }),
    );
    faults.drain(..).for_each(|fault| found.fault(Part::State, fault));
    match inspected {
        Ok((counts, loaded)) => {
            (found.state, found.applied) = (counts, loaded.applied);
            if found.findings.iter().any(|finding| finding.part == Part::State) || loaded.applied.is_none() {
                return;
            }
            match Core::restore(loaded.rows) {
                Ok(core) => {
                    if let Err(broken) = core.check_invariants() {
                        found.fault(Part::State, format!("the rows contradict each other: {broken}"));
                    }
                }
                Err(error) => found.fault(Part::State, format!("the rows do not make a state: {error}")),
            }
        }
        Err(error) => found.fault(Part::State, error),
    }
}

/// Log and state must meet.
fn joined(found: &mut Inspection) {
    if let Some(purged) = found.log.purged
        && found.applied.is_none_or(|applied| applied.index < purged.index)
    {
        let error = Error::StateBelowLog {
            applied: found.applied,
            purged,
        };
        found.fault(Part::State, error);
    }
    if let (Some(applied), Some(last)) = (found.applied, found.log.last)
        && applied.index > last.index
    {
        found.note(
            Part::State,
            format!("the state contains {applied}, the log ends at {last}: a crash came after a snapshot"),
        );
    }
}

/// Gives the entries `from..=to` of a stopped node's log to `each`, until it says stop. Changes nothing.
///
/// [`Error::LogBelowMark`] when entries of this range had been synced and are not there.
pub fn dump_log(dir: &Path, from: u64, to: u64, each: &mut dyn FnMut(LogEntry) -> ControlFlow<()>) -> Result<()> {
    let _lock = hold(dir)?;
    let scratch = Scratch::new()?;
    let mut last = None;
    let mut stopped = false;
    let purged = log::inspect::dump(&dir.join(log::DIR), &scratch.0, from, to, &mut |entry| {
        last = Some(entry.position);
        let flow = each(entry);
        stopped = flow.is_break();
        flow
    })?;
    // Without a mark nobody knows where the log ended.
    let Some(end) = MarkFiles::look(dir).ok().flatten().and_then(|mark| mark.end) else {
        return Ok(());
    };
    let expected = end.position;
    let reached = |at: Option<LogPosition>| at.is_some_and(|at| at.index >= expected.index);
    if stopped || !(from..=to).contains(&expected.index) || reached(last) || reached(purged) {
        return Ok(());
    }
    Err(Error::LogBelowMark { found: last, expected })
}

/// Takes the lock of a directory that is there, so that no node starts on it meanwhile.
fn hold(dir: &Path) -> Result<File> {
    if !dir.join("mark-a").exists() && !dir.join(log::DIR).is_dir() {
        let none = std::io::Error::new(std::io::ErrorKind::NotFound, "it has neither a mark nor a log");
        return Err(Error::io(format!(
            "{} is not the data directory of a node",
            dir.display()
        ))(none));
    }
    files::lock(dir)
}

fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.metadata().map_or(0, |found| found.len()))
        .sum()
}

/// Where RocksDB may write its diary.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!(
            "muster-inspect-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        files::make_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Only a diary; what stays does no harm.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

//! Reading a damaged directory back: found out, harmless, or taken for good.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use muster_core::{JobFilter, JobRow, TenantId};
use muster_store::{Error, LogEntry, Store};

use crate::content::{Content, identity, options};

/// What became of a damaged directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All that is read back is as it was written.
    Harmless,
    /// Found on opening: the node is refilled.
    FoundOnOpen,
    /// Found when it was read: the node ends and is refilled.
    FoundOnRead,
    /// The votes are lost: the node must be replaced.
    Replaced,
    /// Wrong data was taken for good, or the program failed.
    Wrong(String),
}

/// Opens and reads everything.
pub fn judge(dir: &Path, content: &Content) -> Verdict {
    let judged = catch_unwind(AssertUnwindSafe(|| match Store::open(options(dir)) {
        Ok(store) => {
            let verdict = match read(&store, content) {
                Ok(()) => Verdict::Harmless,
                Err(Fault::Found) => Verdict::FoundOnRead,
                Err(Fault::Wrong(text)) => Verdict::Wrong(text),
            };
            // Its errors are those that reading has met already.
            let _closed = store.close();
            verdict
        }
        Err(error) if error.is_damage() => Verdict::FoundOnOpen,
        Err(Error::MarkLost { .. }) => Verdict::Replaced,
        Err(error) => Verdict::Wrong(format!("does not open: {error}")),
    }));
    judged.unwrap_or_else(|_| Verdict::Wrong("a panic".into()))
}

enum Fault {
    Found,
    Wrong(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if error.is_damage() {
            Self::Found
        } else {
            Self::Wrong(error.to_string())
        }
    }
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), Fault> {
    if found == expected {
        return Ok(());
    }
    let mut text = format!("{what}: {found:?} instead of {expected:?}");
    text.truncate(400);
    Err(Fault::Wrong(text))
}

fn read(store: &Store, content: &Content) -> Result<(), Fault> {
    let owner = store.identity().map(|identity| (identity.cluster, identity.node));
    same("identity", &owner, &Some((identity().cluster, identity().node)))?;
    same("vote", &store.log().vote()?, &Some(content.vote.clone()))?;
    read_log(store, &content.entries)?;
    let applied = read_state(store, content)?;
    read_history(store, content, applied)
}

fn read_log(store: &Store, entries: &[LogEntry]) -> Result<(), Fault> {
    let bounds = store.log().bounds();
    same(
        "end of the log",
        &bounds.last,
        &entries.last().map(|entry| entry.position),
    )?;
    let mut next = bounds.purged.map_or(0, |purged| purged.index + 1);
    while next < entries.len() as u64 {
        let part = store.log().read(next, u64::MAX, 64 << 10)?;
        if part.is_empty() {
            return Err(Fault::Wrong(format!("entry {next} is not there")));
        }
        let expected = &entries[next as usize..next as usize + part.len()];
        if part != expected {
            return Err(Fault::Wrong(format!("entries from {next} differ")));
        }
        next += part.len() as u64;
    }
    Ok(())
}

/// The state may be an older one, as long as the log goes on from there.
fn read_state(store: &Store, content: &Content) -> Result<u64, Fault> {
    let loaded = store.state().load()?;
    let applied = loaded.applied.map_or(0, |applied| applied.index);
    let purged = store.log().bounds().purged.map_or(0, |purged| purged.index);
    if applied < purged {
        return Err(Fault::Wrong(format!(
            "state of {applied} below a log that begins after {purged}"
        )));
    }
    match content.states.get(&applied) {
        Some(rows) if *rows == loaded.rows => Ok(applied),
        Some(_) => Err(Fault::Wrong(format!("rows at {applied} differ"))),
        None if loaded.applied.is_none() && loaded.rows.is_empty() => Ok(0),
        None => Err(Fault::Wrong(format!("no state was ever flushed at {applied}"))),
    }
}

fn read_history(store: &Store, content: &Content, applied: u64) -> Result<(), Fault> {
    let ended: Vec<_> = content
        .ended
        .iter()
        .filter(|row| row.changed_index <= applied)
        .collect();
    for row in &ended {
        let found = store.state().history_job(row.spec.id)?;
        same("job in the history", &found.as_deref(), &Some(row.as_ref()))?;
        if let Some(key) = &row.spec.idempotency_key {
            let holder = store.state().history_key(row.tenant, key)?;
            same("holder of a key", &holder, &Some(row.spec.id))?;
        }
    }
    for tenant in 1..=4 {
        let tenant = TenantId(tenant);
        let (listed, more) =
            store
                .state()
                .history_list(tenant, &JobFilter::default(), None, usize::MAX >> 1, usize::MAX >> 1)?;
        let mut expected: Vec<&JobRow> = ended
            .iter()
            .map(|row| &***row)
            .filter(|row| row.tenant == tenant)
            .collect();
        expected.sort_by_key(|row| std::cmp::Reverse((row.changed_index, row.sequence)));
        same("end of the listing", &more.is_none(), &true)?;
        let listed: Vec<&JobRow> = listed.iter().map(|row| &**row).collect();
        if listed != expected {
            return Err(Fault::Wrong(format!("history of tenant {} differs", tenant.0)));
        }
    }
    // Nothing that was never there.
    let unknown = store.state().history_job(muster_core::JobId(3))?;
    same("unknown job", &unknown.is_none(), &true)?;
    Ok(())
}

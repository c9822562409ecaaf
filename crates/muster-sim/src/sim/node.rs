//! A node: a core, the rows it has written, and how much of the log it holds.

use std::collections::HashMap;

use muster_core::{Changes, Core, LogIndex, Row, RowKey};

use crate::facts::Fast;
use crate::sim::defect::{self, Chosen, LogDefect};

/// Entries that a node loses in a crash if it does not sync.
const UNSYNCED: LogIndex = 8;

type Rows = HashMap<RowKey, Row, Fast>;

pub(crate) struct Node {
    /// Its process runs.
    pub(crate) up: bool,
    /// Its process runs and does nothing.
    pub(crate) frozen: bool,
    /// Side of the network; nodes reach each other on the same side.
    pub(crate) side: u8,
    /// Its clock is ahead by this, in milliseconds.
    pub(crate) skew: i64,
    /// Lives of the process so far.
    pub(crate) life: u32,
    /// Entries of the log on its disk.
    pub(crate) held: LogIndex,
    /// Entries that it knows to be committed.
    pub(crate) committed: LogIndex,
    pub(crate) core: Core,
    /// As on its disk.
    rows: Rows,
    /// Applied index at which its process began.
    pub(crate) began_at: LogIndex,
    chosen: Chosen,
}

impl Node {
    pub(crate) fn new(number: usize, chosen: Chosen) -> Self {
        let mut core = Core::new();
        let chosen = chosen.for_node(number);
        defect::arm(&mut core, chosen);
        Self {
            up: true,
            frozen: false,
            side: 0,
            skew: 0,
            life: 1,
            held: 0,
            committed: 0,
            core,
            rows: Rows::default(),
            began_at: 0,
            chosen,
        }
    }

    pub(crate) fn works(&self) -> bool {
        self.up && !self.frozen
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.core.meta().applied
    }

    /// Writes what changed. `compare`: afterwards the rows must be the state.
    pub(crate) fn checkpoint(&mut self, compare: bool) -> Result<(), String> {
        let Changes { put, delete } = self.core.take_changes();
        for row in put {
            self.rows.insert(row.key(), row);
        }
        for key in delete {
            self.rows.remove(&key);
        }
        if !compare {
            return Ok(());
        }
        let state: Rows = self.core.rows().into_iter().map(|row| (row.key(), row)).collect();
        if state == self.rows {
            return Ok(());
        }
        let differs = |a: &Rows, b: &Rows| {
            let row = a.iter().find(|(key, row)| b.get(*key) != Some(*row));
            row.map(|(_, row)| format!("{row:?}"))
        };
        Err(format!(
            "written rows are not the state: state {:?}, written {:?}",
            differs(&state, &self.rows),
            differs(&self.rows, &state)
        ))
    }

    /// The process begins again with what is on its disk.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        let mut core = Core::restore(self.rows.values().cloned()).map_err(|fault| fault.to_string())?;
        defect::arm(&mut core, self.chosen);
        self.core = core;
        self.up = true;
        self.life += 1;
        self.began_at = self.applied();
        self.committed = self.began_at;
        Ok(())
    }

    /// The process ends, and what is not on its disk is lost.
    pub(crate) fn crash(&mut self) {
        self.core = Core::new();
        if self.chosen.has(LogDefect::SyncSkipped) {
            self.held = self.held.saturating_sub(UNSYNCED).max(self.written());
        }
    }

    /// Applied index of the last checkpoint.
    fn written(&self) -> LogIndex {
        match self.rows.get(&RowKey::Meta) {
            Some(Row::Meta(meta)) => meta.applied,
            _ => 0,
        }
    }

    /// Replaces everything by another node's state.
    pub(crate) fn install(&mut self, rows: Vec<Row>) -> Result<(), String> {
        let forgets = self.chosen.has(LogDefect::SnapshotWithoutEnded);
        let rows = rows.into_iter().filter(|row| !forgets || !matches!(row, Row::Ended(_)));
        self.rows = rows.map(|row| (row.key(), row)).collect();
        self.restart()?;
        self.held = self.held.max(self.applied());
        Ok(())
    }
}

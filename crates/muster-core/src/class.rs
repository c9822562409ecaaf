//! Worker classes: for each interned subscription, who waits for it and who is ready to work.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::command::WorkerClass;
use crate::fleet::FleetId;
use crate::hash::FixedState;
use crate::ids::SessionId;
use crate::lane::Turn;

/// Place of a session among the ready ones of its class: most free slots first, then least served, then by id.
pub(crate) type Ready = (Reverse<u64>, u64, SessionId, u32);

/// A class, a number of slots, and a line of a tenant: there stand the lanes of that line which the class serves and whose jobs
/// take that many.
pub(crate) type Place = (u32, u32, u32);

#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) what: Arc<WorkerClass>,
    /// The fleet it belongs to.
    pub(crate) fleet: FleetId,
    /// Open sessions.
    pub(crate) sessions: u32,
    /// By the slots that a job takes, ascending. That for one slot is always there, others while lanes stand on them.
    pub(crate) shelves: Vec<Shelf>,
    /// Sessions with free slots, but for the one that gathers them.
    pub(crate) ready: BTreeSet<Ready>,
    /// A session whose free slots are kept together for a job that takes more than any session has free.
    pub(crate) gather: Option<Gather>,
    /// It is on the list of classes that may have something to assign.
    pub(crate) hot: bool,
}

/// Where a tenant stands among the runnable ones: whether it has all that it is guaranteed, its tag among those of which the same
/// is true, its number.
pub(crate) type Standing = (bool, u64, u32);

/// The shown lanes that a class serves and whose jobs take one number of slots.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) slots: u32,
    /// By tenant and line: its lanes, by turn. Never empty sets.
    pub(crate) heads: HashMap<(u32, u32), BTreeSet<(Turn, u32)>, FixedState>,
    /// Tenants with lanes here and open gates, in the order in which they are served.
    pub(crate) runnable: BTreeSet<Standing>,
}

/// Which session keeps its free slots, for whom, and until how many are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gather {
    pub(crate) session: u32,
    pub(crate) tenant: u32,
    pub(crate) slots: u32,
}

impl Shelf {
    fn new(slots: u32) -> Self {
        Self {
            slots,
            heads: HashMap::default(),
            runnable: BTreeSet::new(),
        }
    }
}

impl Class {
    pub(crate) fn new(what: Arc<WorkerClass>, fleet: FleetId) -> Self {
        Self {
            what,
            fleet,
            sessions: 0,
            shelves: vec![Shelf::new(1)],
            ready: BTreeSet::new(),
            gather: None,
            hot: false,
        }
    }

    /// Whether it serves the tenant at all.
    pub(crate) fn accepts(&self, tenant: &str) -> bool {
        self.what.tenants.is_empty() || self.what.tenants.iter().any(|name| &**name == tenant)
    }

    pub(crate) fn shelf(&self, slots: u32) -> Option<&Shelf> {
        let at = self.shelves.binary_search_by_key(&slots, |shelf| shelf.slots).ok()?;
        Some(&self.shelves[at])
    }

    /// The shelf for this many slots; made if it is not there.
    pub(crate) fn shelf_mut(&mut self, slots: u32) -> &mut Shelf {
        let at = match self.shelves.binary_search_by_key(&slots, |shelf| shelf.slots) {
            Ok(at) => at,
            Err(at) => {
                self.shelves.insert(at, Shelf::new(slots));
                at
            }
        };
        &mut self.shelves[at]
    }

    /// Forgets a shelf on which nothing stands.
    pub(crate) fn drop_shelf_if_empty(&mut self, slots: u32) {
        if slots > 1 {
            self.shelves
                .retain(|shelf| shelf.slots != slots || !shelf.heads.is_empty());
        }
    }

    /// Most slots that one of its sessions has free, but for the one that gathers.
    pub(crate) fn most_free(&self) -> u64 {
        self.ready.first().map_or(0, |(Reverse(free), ..)| *free)
    }

    /// Shelves of jobs that take at most this many slots.
    fn within(&self, slots: u64) -> impl Iterator<Item = &Shelf> {
        self.shelves
            .iter()
            .take_while(move |shelf| u64::from(shelf.slots) <= slots)
    }

    /// Somebody is runnable with jobs that take at most this many slots.
    pub(crate) fn has_runnable(&self, slots: u64) -> bool {
        self.within(slots).any(|shelf| !shelf.runnable.is_empty())
    }

    /// The tenant that is served next, of those with jobs that take at most this many slots.
    pub(crate) fn next_tenant(&self, slots: u64) -> Option<u32> {
        let firsts = self.within(slots).filter_map(|shelf| shelf.runnable.first());
        firsts.min().map(|(.., tenant)| *tenant)
    }
}

//! Worker classes: for each interned subscription, who waits for it and who is ready to work.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::command::WorkerClass;
use crate::fleet::FleetId;
use crate::hash::FixedState;
use crate::ids::SessionId;
use crate::lane::Turn;

/// Place of a session among the ready ones of its class: most free credits first, then least served, then by id.
pub(crate) type Ready = (Reverse<u64>, u64, SessionId, u32);

#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) what: Arc<WorkerClass>,
    /// The fleet it belongs to.
    pub(crate) fleet: FleetId,
    /// Open sessions.
    pub(crate) sessions: u32,
    /// By tenant: its shown lanes that this class serves, by turn. Never empty sets.
    pub(crate) heads: HashMap<u32, BTreeSet<(Turn, u32)>, FixedState>,
    /// Tenants with shown lanes and open gates, by their tags in the fleet.
    pub(crate) runnable: BTreeSet<(u64, u32)>,
    /// Sessions with free credits.
    pub(crate) ready: BTreeSet<Ready>,
    /// It is on the list of classes that may have something to assign.
    pub(crate) hot: bool,
}

impl Class {
    pub(crate) fn new(what: Arc<WorkerClass>, fleet: FleetId) -> Self {
        Self {
            what,
            fleet,
            sessions: 0,
            heads: HashMap::default(),
            runnable: BTreeSet::new(),
            ready: BTreeSet::new(),
            hot: false,
        }
    }

    /// Whether it serves the tenant at all.
    pub(crate) fn accepts(&self, tenant: &str) -> bool {
        self.what.tenants.is_empty() || self.what.tenants.iter().any(|name| &**name == tenant)
    }

    /// Both sides are there.
    pub(crate) fn assignable(&self) -> bool {
        !self.ready.is_empty() && !self.runnable.is_empty()
    }
}

//! The replicated state and its one way of change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::book::Book;
use crate::class::Class;
use crate::cluster::Cluster;
use crate::command::{TenantSettings, WorkerClass};
use crate::dirty::Dirty;
use crate::ended::Ring;
use crate::fleet::{Fleet, FleetId};
use crate::gate::{CLUSTER, Gate, GateKey};
use crate::hash::{Effects, FixedState};
use crate::ids::{JobId, LogIndex, Name, SessionId, TenantId, Timestamp};
use crate::lane::Lane;
use crate::limit::LimitLevel;
use crate::live::Job;
use crate::order::Order;
use crate::query::LiveCounts;
use crate::reply::Event;
use crate::requests::Requests;
use crate::route::Routes;
use crate::row::{FleetKey, MetaRow};
use crate::session::Session;
use crate::slab::Slab;
use crate::tenant::{Queue, Tenant};
use crate::timer::Timers;

/// Name of the tenant that exists from the start and is meant when none is named.
pub const DEFAULT_TENANT: &str = "default";
/// Name of the tenant of Muster's own jobs; it exists from the start.
pub const SYSTEM_TENANT: &str = "_system";

/// Mark of a number in `Core::ids` that counts in the ring of ended jobs.
pub(crate) const ENDED: u32 = 0x8000_0000;

/// The replicated state.
///
/// Everything but `meta`, the rows of tenants, sessions, fleets, rules, gates, held orders, nodes and requests, the jobs and
/// the ring of ended ones is an index that follows from them; `check_invariants` recounts it and `restore` rebuilds it.
#[derive(Debug)]
pub struct Core {
    pub(crate) meta: MetaRow,
    /// By number: the tenant's id less 1.
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) tenant_of: BTreeMap<Name, u32>,
    pub(crate) queues: Slab<Queue>,
    pub(crate) lanes: Slab<Lane>,
    /// First lane by hash of tenant, route and limits.
    pub(crate) lane_of: HashMap<u64, u32, FixedState>,
    pub(crate) routes: Routes,
    pub(crate) classes: Slab<Class>,
    pub(crate) class_of: BTreeMap<Arc<WorkerClass>, u32>,
    pub(crate) fleets: HashMap<FleetId, Fleet, FixedState>,
    pub(crate) fleet_of: BTreeMap<FleetKey, FleetId>,
    /// Fleets without sessions, longest first.
    pub(crate) idle_fleets: BTreeSet<(Timestamp, FleetId)>,
    pub(crate) book: Book,
    /// The cluster's is number 0 and always there.
    pub(crate) gates: Slab<Gate>,
    pub(crate) gate_of: HashMap<GateKey, u32, FixedState>,
    pub(crate) gate_timers: BTreeSet<(Timestamp, GateKey)>,
    /// Gates that may refuse a start, and paused queues. As long as there are none, no gate is looked at.
    pub(crate) limited: u32,
    /// Lanes that are parked at gates.
    pub(crate) parked: u32,
    pub(crate) orders: Slab<Order>,
    /// By queue and key.
    pub(crate) order_of: HashMap<(u32, Name), u32, FixedState>,
    /// Classes that may have something to assign.
    pub(crate) hot: Vec<u32>,
    /// Classes with a session that gathers free slots.
    pub(crate) gathering: Vec<u32>,
    pub(crate) jobs: Slab<Job>,
    /// Live jobs by number, lately ended ones by number in the ring with the mark `ENDED`.
    pub(crate) ids: HashMap<JobId, u32, FixedState>,
    /// Holder of each idempotency key, live or lately ended.
    pub(crate) keys: HashMap<(u32, Name), JobId, FixedState>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) session_of: BTreeMap<SessionId, u32>,
    pub(crate) ended: Ring,
    pub(crate) timers: Timers,
    pub(crate) cluster: Cluster,
    pub(crate) requests: Requests,
    pub(crate) live: LiveCounts,
    /// Bytes of all live jobs, their last failures among them.
    pub(crate) job_bytes: u64,
    pub(crate) dirty: Dirty,
    pub(crate) effects: Effects,
    pub(crate) entry: Entry,
    /// The media type last seen, to share one copy.
    pub(crate) content_type: Name,
    #[cfg(feature = "seeded-bugs")]
    pub(crate) defect: Option<crate::defect::Defect>,
}

/// The entry being applied.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) index: LogIndex,
    /// Jobs accepted in it.
    pub(crate) accepted: u64,
    /// Leases granted in it.
    pub(crate) granted: u32,
    /// Jobs ended in it.
    pub(crate) ended: usize,
    /// Administrative requests done in it.
    pub(crate) requests: u32,
    /// The command being applied is a repeat of one done before.
    pub(crate) repeat: bool,
    /// Positions of such commands.
    pub(crate) repeated: Vec<u32>,
    pub(crate) events: Vec<Event>,
}

impl Default for Core {
    fn default() -> Self {
        Self::new()
    }
}

impl Core {
    /// The state before the first log entry: the tenants `default` and `_system`, nothing else.
    pub fn new() -> Self {
        let mut core = Self::empty();
        core.meta.next_tenant = 1;
        core.meta.next_fleet = 1;
        core.dirty.meta = true;
        for name in [DEFAULT_TENANT, SYSTEM_TENANT] {
            core.add_tenant(name.into(), TenantSettings::default());
        }
        core
    }

    pub(crate) fn empty() -> Self {
        let mut core = Self {
            meta: MetaRow::default(),
            tenants: Vec::new(),
            tenant_of: BTreeMap::new(),
            queues: Slab::default(),
            lanes: Slab::default(),
            lane_of: HashMap::default(),
            routes: Routes::default(),
            classes: Slab::default(),
            class_of: BTreeMap::new(),
            fleets: HashMap::default(),
            fleet_of: BTreeMap::new(),
            idle_fleets: BTreeSet::new(),
            book: Book::default(),
            gates: Slab::default(),
            gate_of: HashMap::default(),
            gate_timers: BTreeSet::new(),
            limited: 0,
            parked: 0,
            orders: Slab::default(),
            order_of: HashMap::default(),
            hot: Vec::new(),
            gathering: Vec::new(),
            jobs: Slab::default(),
            ids: HashMap::default(),
            keys: HashMap::default(),
            sessions: Slab::default(),
            session_of: BTreeMap::new(),
            ended: Ring::default(),
            timers: Timers::default(),
            cluster: Cluster::default(),
            requests: Requests::default(),
            live: LiveCounts::default(),
            job_bytes: 0,
            dirty: Dirty::default(),
            effects: Effects::default(),
            entry: Entry::default(),
            content_type: "".into(),
            #[cfg(feature = "seeded-bugs")]
            defect: None,
        };
        let cluster = core.gate_number(LimitLevel::Cluster, 0, &"".into(), 0);
        core.hold_gate(cluster);
        debug_assert_eq!(cluster, CLUSTER);
        core
    }

    /// Makes a tenant; returns its number.
    pub(crate) fn add_tenant(&mut self, name: Name, settings: TenantSettings) -> u32 {
        let number = self.tenants.len() as u32;
        let id = TenantId(self.meta.next_tenant);
        self.meta.next_tenant += 1;
        self.tenants.push(Tenant::fresh(id, name.clone(), settings));
        self.tenant_of.insert(name, number);
        self.tenant_gate(number);
        self.mark_tenant(number);
        number
    }

    /// Notes that the entry at `index` held no commands.
    pub fn skip(&mut self, index: LogIndex) {
        self.meta.applied = index;
        self.dirty.meta = true;
    }

    /// The earliest replicated time at which a `Tick` would do something.
    pub fn next_due(&self) -> Option<Timestamp> {
        if !self.hot.is_empty() {
            return Some(self.meta.now);
        }
        let gate = self.gate_timers.first().map(|(at, _)| *at);
        self.timers.first().into_iter().chain(gate).min()
    }

    /// Counters: cluster id, applied index, replicated time, state hash, floor of remembered ended jobs.
    pub fn meta(&self) -> &MetaRow {
        &self.meta
    }
}

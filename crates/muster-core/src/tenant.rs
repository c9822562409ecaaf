//! Tenants and queues as kept in memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::class::Place;
use crate::command::TenantSettings;
use crate::ids::{JobId, Millis, Name, TenantId};
use crate::job::JobState;
use crate::query::LiveCounts;
use crate::quota::QuotaUse;
use crate::row::{KindCostRow, QueueRow, ShareRow, TenantRow, Totals};

/// Most kinds of one tenant whose run times are remembered; further ones are charged the least.
pub(crate) const KINDS_MAX: usize = 1024;
/// Most queues of one tenant that have weights.
pub(crate) const WEIGHTED_QUEUES_MAX: usize = 64;
/// Most kinds of one tenant that are paused at a time.
pub(crate) const PAUSED_KINDS_MAX: usize = 1024;
/// Unit of `KindCost::mean`: parts of a millisecond.
pub(crate) const PARTS: u64 = 256;
/// Number of a kind whose run time is not remembered.
pub(crate) const NO_COST: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Tenant {
    /// Without the shares, which stand below.
    pub(crate) row: TenantRow,
    pub(crate) shares: Vec<Share>,
    pub(crate) gate: u32,
    /// Slots that its running jobs take.
    pub(crate) running_slots: u64,
    /// What they were charged in advance.
    pub(crate) charged: Millis,
    /// Live jobs.
    pub(crate) live: LiveCounts,
    /// Their bytes, as `JobSpec::bytes` counts them.
    pub(crate) bytes: u64,
    /// Queues with jobs or settings.
    pub(crate) queues: BTreeMap<Name, u32>,
    /// Live jobs by id, for lists.
    pub(crate) jobs: BTreeMap<JobId, u32>,
    /// Where lanes of this tenant are shown.
    pub(crate) places: Vec<Place>,
    pub(crate) costs: Vec<KindCost>,
    pub(crate) cost_of: BTreeMap<Name, u32>,
    pub(crate) paused_kinds: BTreeSet<Name>,
    /// Numbers of queues with weights, by name.
    pub(crate) weighted: BTreeMap<Name, u32>,
    pub(crate) dirty: bool,
}

/// A tenant's place in the fair sharing of one fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) row: ShareRow,
    /// Pairs of a lane with an available job and a class of the fleet that serves it. 0: the tenant does not compete.
    pub(crate) active: u32,
}

/// Mean run time of one kind.
#[derive(Debug)]
pub(crate) struct KindCost {
    pub(crate) kind: Name,
    /// In 1/256 ms (`PARTS`); 0 = none ended yet.
    pub(crate) mean: u64,
    pub(crate) dirty: bool,
}

impl Tenant {
    pub(crate) fn new(mut row: TenantRow) -> Self {
        let shares = std::mem::take(&mut row.shares);
        Self {
            row,
            shares: shares.into_iter().map(|row| Share { row, active: 0 }).collect(),
            gate: 0,
            running_slots: 0,
            charged: 0,
            live: LiveCounts::default(),
            bytes: 0,
            queues: BTreeMap::new(),
            jobs: BTreeMap::new(),
            places: Vec::new(),
            costs: Vec::new(),
            cost_of: BTreeMap::new(),
            paused_kinds: BTreeSet::new(),
            weighted: BTreeMap::new(),
            dirty: false,
        }
    }

    pub(crate) fn fresh(id: TenantId, name: Name, settings: TenantSettings) -> Self {
        Self::new(TenantRow {
            id,
            name,
            settings,
            shares: Vec::new(),
            totals: Totals::default(),
            enqueue_arrival: 0,
        })
    }

    /// As persisted.
    pub(crate) fn row(&self) -> TenantRow {
        TenantRow {
            shares: self.shares.iter().map(|share| share.row.clone()).collect(),
            ..self.row.clone()
        }
    }

    /// What it uses of its quota.
    pub(crate) fn quota_use(&self) -> QuotaUse {
        QuotaUse {
            jobs: self.live.total(),
            bytes: self.bytes,
            arrival: self.row.enqueue_arrival,
        }
    }

    /// Number of a kind's cost; kinds beyond the bound share `NO_COST`.
    pub(crate) fn cost_number(&mut self, kind: &Name) -> u32 {
        if let Some(number) = self.cost_of.get(kind) {
            return *number;
        }
        if self.costs.len() >= KINDS_MAX {
            return NO_COST;
        }
        let number = self.costs.len() as u32;
        self.costs.push(KindCost {
            kind: kind.clone(),
            mean: 0,
            dirty: false,
        });
        self.cost_of.insert(kind.clone(), number);
        number
    }

    /// Mean run time of a kind, if one of its attempts has ended.
    pub(crate) fn mean_run(&self, number: u32) -> Option<Millis> {
        let cost = self.costs.get(number as usize).filter(|cost| cost.mean > 0)?;
        Some((cost.mean / PARTS).max(1))
    }

    pub(crate) fn cost_row(&self, number: u32) -> Option<KindCostRow> {
        let cost = self.costs.get(number as usize)?;
        (cost.mean > 0).then(|| KindCostRow {
            tenant: self.row.id,
            kind: cost.kind.clone(),
            mean: cost.mean,
        })
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) tenant: u32,
    pub(crate) name: Name,
    pub(crate) paused: bool,
    pub(crate) note: Name,
    /// 0: none.
    pub(crate) weight: u32,
    pub(crate) live: LiveCounts,
    pub(crate) lanes: Vec<u32>,
    pub(crate) gate: u32,
    /// Ordering keys whose jobs wait for a dead one.
    pub(crate) held_orders: BTreeSet<Name>,
}

impl Queue {
    /// It lives also without jobs.
    pub(crate) fn kept(&self) -> bool {
        self.has_row() || !self.held_orders.is_empty()
    }

    /// There is something to remember of it: a row.
    pub(crate) fn has_row(&self) -> bool {
        self.paused || self.weight != 0
    }

    pub(crate) fn row(&self, tenant: TenantId) -> QueueRow {
        QueueRow {
            tenant,
            queue: self.name.clone(),
            paused: self.paused,
            note: self.note.clone(),
            weight: self.weight,
        }
    }
}

impl LiveCounts {
    pub(crate) fn of(&mut self, state: JobState) -> &mut u64 {
        match state {
            JobState::Blocked => &mut self.blocked,
            JobState::Available => &mut self.available,
            JobState::Running => &mut self.running,
            JobState::Retrying => &mut self.retrying,
            _ => &mut self.scheduled,
        }
    }
}

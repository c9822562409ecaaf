//! Tenants and queues as kept in memory.

use std::collections::BTreeMap;

use crate::command::TenantSettings;
use crate::ids::{JobId, Name, TenantId, Timestamp};
use crate::job::JobState;
use crate::query::LiveCounts;
use crate::row::{KindCostRow, QueueRow, TenantRow, Totals};

/// Most kinds of one tenant whose run times are remembered; further ones are charged the least.
pub(crate) const KINDS_MAX: usize = 1024;
/// Number of a kind whose run time is not remembered.
pub(crate) const NO_COST: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) row: TenantRow,
    /// Live jobs.
    pub(crate) live: LiveCounts,
    /// Queues with jobs or settings.
    pub(crate) queues: BTreeMap<Name, u32>,
    /// Live jobs by id, for lists.
    pub(crate) jobs: BTreeMap<JobId, u32>,
    /// Lanes with a job that may start, those of paused queues left out.
    pub(crate) waiting_lanes: u32,
    /// Classes that serve a waiting lane of this tenant.
    pub(crate) classes: Vec<u32>,
    pub(crate) costs: Vec<KindCost>,
    pub(crate) cost_of: BTreeMap<Name, u32>,
    pub(crate) dirty: bool,
}

/// Mean run time of one kind.
#[derive(Debug)]
pub(crate) struct KindCost {
    pub(crate) kind: Name,
    /// In 1/256 ms; 0 = none ended yet.
    pub(crate) mean: u64,
    pub(crate) dirty: bool,
}

impl Tenant {
    pub(crate) fn new(row: TenantRow) -> Self {
        Self {
            row,
            live: LiveCounts::default(),
            queues: BTreeMap::new(),
            jobs: BTreeMap::new(),
            waiting_lanes: 0,
            classes: Vec::new(),
            costs: Vec::new(),
            cost_of: BTreeMap::new(),
            dirty: false,
        }
    }

    pub(crate) fn fresh(id: TenantId, name: Name, settings: TenantSettings, virtual_time: u64) -> Self {
        Self::new(TenantRow {
            id,
            name,
            settings,
            virtual_time,
            rate_state: 0,
            parked_until: 0,
            totals: Totals::default(),
        })
    }

    /// No gate refuses it, as far as known: the rate is looked at when its turn comes.
    pub(crate) fn open(&self) -> bool {
        let most = u64::from(self.row.settings.concurrency_limit);
        self.row.parked_until == 0 && (most == 0 || self.live.running < most)
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

    pub(crate) fn cost_row(&self, number: u32) -> Option<KindCostRow> {
        let cost = self.costs.get(number as usize)?;
        (cost.mean > 0).then(|| KindCostRow {
            tenant: self.row.id,
            kind: cost.kind.clone(),
            mean: cost.mean,
        })
    }

    /// When its rate limit wakes it, if it is parked.
    pub(crate) fn wakes_at(&self) -> Option<Timestamp> {
        (self.row.parked_until > 0).then_some(self.row.parked_until)
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) tenant: u32,
    pub(crate) name: Name,
    pub(crate) paused: bool,
    pub(crate) note: Name,
    pub(crate) live: LiveCounts,
    pub(crate) lanes: Vec<u32>,
}

impl Queue {
    /// It has settings: a row, and life without jobs.
    pub(crate) fn kept(&self) -> bool {
        self.paused
    }

    pub(crate) fn row(&self, tenant: TenantId) -> QueueRow {
        QueueRow {
            tenant,
            queue: self.name.clone(),
            paused: self.paused,
            note: self.note.clone(),
        }
    }
}

impl LiveCounts {
    pub(crate) fn of(&mut self, state: JobState) -> &mut u64 {
        match state {
            JobState::Available => &mut self.available,
            JobState::Running => &mut self.running,
            JobState::Retrying => &mut self.retrying,
            _ => &mut self.scheduled,
        }
    }
}

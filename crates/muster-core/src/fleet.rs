//! Fleets: workers that serve the same tenants, queues and kinds, whatever their labels.
//!
//! Fair sharing is judged within a fleet: its virtual time is the start tag of the job started last, and each tenant has
//! a tag of its own in each fleet that it keeps busy. So what a tenant used of one fleet, or how fast that fleet is, says
//! nothing about its share of another.

use std::collections::BTreeSet;

use crate::command::WorkerClass;
use crate::ids::Millis;
use crate::row::{FleetKey, FleetRow};

/// Identity of a fleet, never reused.
pub(crate) type FleetId = u64;

/// How long a fleet without sessions is remembered, so that a restart of all its workers does not start the shares anew.
pub(crate) const KEPT_FOR: Millis = 3_600_000;
/// Most fleets without sessions that are remembered.
pub(crate) const KEPT_MAX: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) row: FleetRow,
    /// Classes of it.
    pub(crate) classes: BTreeSet<u32>,
    pub(crate) dirty: bool,
    pub(crate) written: bool,
}

impl FleetKey {
    pub(crate) fn of(class: &WorkerClass) -> Self {
        Self {
            tenants: class.tenants.clone(),
            queues: class.queues.clone(),
            kinds: class.kinds.clone(),
        }
    }
}

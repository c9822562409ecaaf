//! The last scan.

use muster_core::{JobFilter, JobRow};

use crate::history::{FinalJob, FinalNode, FinalQueue, FinalTenant, Record, Scanned, Totals, counts};
use crate::sim::world::World;

fn job(row: &JobRow) -> Record {
    Record::Job(FinalJob {
        job: row.spec.id.into(),
        tenant: row.spec.tenant.clone(),
        queue: row.spec.queue.clone(),
        key: row.spec.idempotency_key.clone(),
        state: row.state,
        attempts: row.attempts,
        failures: row.failures,
        crashes: row.crashes,
        max_attempts: row.spec.options.max_attempts,
        max_crashes: row.spec.options.max_crashes,
        ended_at: row.ended_at,
        redriven_from: row.redriven_from.map(Into::into),
    })
}

impl World<'_> {
    /// Writes down what is there.
    pub(crate) fn scan(&mut self) {
        let Some(leader) = self.leader.filter(|_| self.facts.is_some()) else {
            return;
        };
        let mut records = Vec::new();
        let mut ended: Vec<_> = self.ended.values().collect();
        // A revived job may have the place of the dead one.
        ended.sort_unstable_by_key(|row| (row.sequence, row.spec.id));
        records.extend(ended.into_iter().map(|row| job(row)));
        let core = &self.nodes[leader].core;
        for tenant in core.tenants() {
            let (live, _) = core.jobs(tenant.id, &JobFilter::default(), None, usize::MAX, usize::MAX);
            records.extend(live.iter().map(|row| job(row)));
            for queue in core.queues(tenant.id) {
                records.push(Record::Queue(FinalQueue {
                    tenant: tenant.name.clone(),
                    queue: queue.name.clone(),
                    live: counts(&queue.live),
                }));
            }
            let totals = tenant.totals;
            records.push(Record::Tenant(FinalTenant {
                tenant: tenant.name.clone(),
                live: counts(&tenant.live),
                totals: Some(Totals {
                    enqueued: totals.enqueued,
                    succeeded: totals.succeeded,
                    dead: totals.dead,
                    cancelled: totals.cancelled,
                    expired: totals.expired,
                }),
            }));
        }
        for (number, node) in self.nodes.iter().enumerate() {
            records.push(Record::Node(FinalNode {
                node: number as u64,
                index: node.applied(),
                hash: node.core.meta().hash,
            }));
        }
        for record in records {
            self.note(|_| record);
        }
        self.note(|at| Record::Scanned(Scanned { at, complete: true }));
    }
}

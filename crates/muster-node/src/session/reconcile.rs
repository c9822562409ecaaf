//! After the state was replaced as a whole, no events say what changed: sessions are compared with the state.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use muster_core::{Assignment, JobFilter, JobRow, JobState, SessionId};
use muster_failpoint::failpoint;

use super::link::Link;
use super::outbox::Delivery;
use crate::consensus::read;
use crate::context::Context;

/// Jobs looked at under one lock of the state.
const SCAN: usize = 2_000;

/// Closes sessions that the state does not have, hands out leases that their workers do not know, stops attempts whose
/// lease is gone. Entries applied meanwhile deliver as usual; each lease is handed out once all the same.
pub(crate) async fn reconcile(context: &Context) {
    failpoint!("session.reconcile.before");
    let links = context.hub.links();
    let links: HashMap<SessionId, Arc<Link>> = links
        .into_iter()
        .filter(|link| link.is_open())
        .map(|link| (link.id, link))
        .collect();
    // What they held before the scan: what they get during it is not in question.
    let mut held: HashMap<SessionId, Vec<_>> = links.iter().map(|(id, link)| (*id, link.held())).collect();
    let consensus = context.consensus.as_ref();
    let Some(open) = read(consensus, |core| {
        let sessions = core.sessions().into_iter();
        sessions.map(|view| view.row.spec.session).collect::<HashSet<_>>()
    }) else {
        return;
    };
    for (id, link) in &links {
        if !open.contains(id) {
            link.closed_by_state();
        }
    }
    let mut leased: HashMap<SessionId, Vec<Assignment>> = HashMap::new();
    let tenants = read(consensus, muster_core::Core::tenants).unwrap_or_default();
    for tenant in tenants.iter().filter(|tenant| tenant.live.running > 0) {
        let filter = JobFilter {
            states: vec![JobState::Running],
            ..JobFilter::default()
        };
        let mut before = None;
        loop {
            let page = read(consensus, |core| core.jobs(tenant.id, &filter, before, SCAN, SCAN));
            let Some((rows, next)) = page else { return };
            for row in rows {
                let assignment = assignment(&row, context.options.node);
                if let Some(assignment) = assignment.filter(|job| links.contains_key(&job.session)) {
                    leased.entry(assignment.session).or_default().push(assignment);
                }
            }
            if next.is_none() {
                break;
            }
            before = next;
            tokio::task::yield_now().await;
        }
    }
    for (id, link) in links {
        let jobs = leased.remove(&id).unwrap_or_default();
        let in_force: HashSet<_> = jobs.iter().map(|job| job.lease).collect();
        let mut gone = held.remove(&id).unwrap_or_default();
        gone.retain(|(lease, _)| !in_force.contains(lease));
        link.deliver(Delivery {
            jobs,
            ..Delivery::default()
        });
        link.revoke(gone);
    }
}

fn assignment(row: &JobRow, node: muster_core::NodeId) -> Option<Assignment> {
    let lease = row.lease?;
    Some(Assignment {
        session: lease.session,
        node,
        lease: lease.id,
        deadline: lease.deadline,
        attempt: row.attempts,
        available_at: row.available_at,
        sequence: row.sequence,
        spec: Arc::clone(&row.spec),
    })
}

//! Where the apply path meets the actors: routes what an entry brought about to those on this node whom it concerns.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use muster_core::{Event, JobId, JobState, NodeId, SessionId, Timestamp};
use muster_failpoint::failpoint;
use muster_raft::{AppliedEntry, ApplySink};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::desk::Desk;
use crate::mailbox::Mailbox;
use crate::metrics::{self, EntryCounts};
use crate::scheduler::SchedulerMsg;
use crate::session::{Delivery, Link, Stop, StopReason};
use crate::sessions::SessionsMsg;
use crate::watch::{JobChange, JobWatch, JobWatches};

/// Hears every applied entry on the raft thread and passes on, per session and entry once, what concerns this node.
///
/// Made before Raft starts, as replay already speaks to it; see [`crate::Node::start`].
#[derive(Debug, Default)]
pub struct NodeHub {
    /// This node, once it is known.
    own: OnceLock<NodeId>,
    /// Whether this node is drained.
    drained: watch::Sender<bool>,
    links: RwLock<HashMap<SessionId, Arc<Link>>>,
    watches: Arc<JobWatches>,
    pub(crate) desk: Desk,
    pub(crate) scheduler: Mailbox<SchedulerMsg>,
    pub(crate) sessions: Mailbox<SessionsMsg>,
}

impl NodeHub {
    /// A hub with nobody to talk to yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// From here on it is heard whether this node is drained; the caller looks once at what was before.
    pub(crate) fn listen_as(&self, node: NodeId) {
        let _already = self.own.set(node);
    }

    pub(crate) fn set_drained(&self, drained: bool) {
        self.drained
            .send_if_modified(|known| std::mem::replace(known, drained) != drained);
    }

    pub(crate) fn is_drained(&self) -> bool {
        *self.drained.borrow()
    }

    /// Whether this node is drained, as it changes.
    pub(crate) fn drained(&self) -> watch::Receiver<bool> {
        self.drained.subscribe()
    }

    fn hear_of_drain(&self, events: &[Event]) {
        let Some(own) = self.own.get() else { return };
        for event in events {
            match event {
                Event::NodeChanged { node, drained, .. } if node == own => self.set_drained(*drained),
                _ => {}
            }
        }
    }

    pub(crate) fn watch_job(&self, job: JobId) -> JobWatch {
        self.watches.watch(job)
    }

    pub(crate) fn stop_watches(&self) {
        self.watches.close();
    }

    /// False when the node holds `max` sessions already.
    pub(crate) fn register(&self, link: Arc<Link>, max: usize) -> bool {
        let mut links = self.links.write();
        if links.len() >= max {
            return false;
        }
        links.insert(link.id, link);
        metrics::sessions(links.len());
        true
    }

    pub(crate) fn unregister(&self, session: SessionId) {
        let mut links = self.links.write();
        links.remove(&session);
        metrics::sessions(links.len());
    }

    pub(crate) fn link(&self, session: SessionId) -> Option<Arc<Link>> {
        self.links.read().get(&session).cloned()
    }

    /// All sessions of this node, also such as are being opened.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.links.read().values().cloned().collect()
    }

    fn deliver(&self, now: Timestamp, events: &[Event]) {
        let links = self.links.read();
        if links.is_empty() {
            return;
        }
        let mut deliveries: HashMap<SessionId, Delivery> = HashMap::new();
        let mut to = |session: &SessionId, add: &mut dyn FnMut(&mut Delivery)| {
            if links.contains_key(session) {
                add(deliveries.entry(*session).or_default());
            }
        };
        for event in events {
            match event {
                Event::Assigned(job) => {
                    to(&job.session, &mut |delivery| delivery.jobs.push((**job).clone()));
                }
                Event::CancelAsked { session, job, lease } => to(session, &mut |delivery| {
                    delivery.stops.push(Stop {
                        job: *job,
                        lease: *lease,
                        reason: StopReason::Cancel,
                    });
                }),
                Event::LeaseRevoked { session, job, lease } => to(session, &mut |delivery| {
                    delivery.stops.push(Stop {
                        job: *job,
                        lease: *lease,
                        reason: StopReason::LeaseLost,
                    });
                }),
                Event::SessionClosed { session, .. } => to(session, &mut |delivery| delivery.closed = true),
                Event::JobChanged { .. }
                | Event::PriorityChanged { .. }
                | Event::JobEnded(_)
                | Event::LimitClosed { .. }
                | Event::OrderHeld { .. }
                | Event::OrderReleased { .. }
                | Event::NodeChanged { .. }
                | Event::MembershipChange
                | Event::SessionOpened { .. } => {}
            }
        }
        for (session, delivery) in deliveries {
            if let Some(link) = links.get(&session) {
                let waits = delivery.jobs.iter().map(|job| now.saturating_sub(job.available_at));
                metrics::waited(waits);
                failpoint!("lease.deliver.before");
                link.deliver(delivery);
                failpoint!("lease.deliver.after");
            }
        }
    }

    fn notify_watches(&self, events: &[Event]) {
        if self.watches.is_idle() {
            return;
        }
        for event in events {
            match event {
                Event::JobChanged {
                    job, state, attempts, ..
                }
                | Event::PriorityChanged {
                    job, state, attempts, ..
                } => self.watches.notify(*job, || JobChange::State {
                    state: *state,
                    attempts: *attempts,
                }),
                Event::JobEnded(row) => self.watches.notify(row.spec.id, || JobChange::Ended(Arc::clone(row))),
                _ => {}
            }
        }
    }
}

/// Counts what the leader counts.
fn count(events: &[Event]) {
    let mut counts = EntryCounts::default();
    let mut lost: HashSet<JobId> = HashSet::new();
    for event in events {
        match event {
            Event::JobEnded(row) => counts.ended(row.state),
            Event::LimitClosed { level, throttled, .. } => counts.limit_closed(*level, *throttled),
            Event::OrderHeld { queue, key, job, .. } => {
                tracing::warn!(%job, %queue, %key, "a dead job holds up the jobs of its ordering key; redrive it or release the key");
                counts.orders_held += 1;
            }
            Event::LeaseRevoked { job, .. } => {
                counts.leases_lost += 1;
                lost.insert(*job);
            }
            Event::JobChanged {
                job,
                state: JobState::Retrying,
                ..
            } => {
                if lost.contains(job) {
                    counts.retried_lost += 1;
                } else {
                    counts.retried_failed += 1;
                }
            }
            _ => {}
        }
    }
    counts.publish();
}

impl ApplySink for NodeHub {
    fn applied(&self, applied: &AppliedEntry) {
        self.hear_of_drain(&applied.events);
        self.deliver(applied.now, &applied.events);
        self.notify_watches(&applied.events);
        let roster_changed = applied
            .events
            .iter()
            .any(|event| matches!(event, Event::SessionOpened { .. } | Event::SessionClosed { .. }));
        if self.desk.applied(applied.now, applied.next_due, roster_changed) {
            self.scheduler.cast(SchedulerMsg::Wake);
        }
        if self.desk.leads() {
            count(&applied.events);
        }
    }

    fn restored(&self) {
        self.watches.look_again();
        self.sessions.cast(SessionsMsg::Reconcile);
        self.desk.restored();
        self.scheduler.cast(SchedulerMsg::Wake);
    }

    fn vouched(&self, _from: NodeId, sessions: &[SessionId]) {
        self.scheduler.cast(SchedulerMsg::Vouched(sessions.to_vec()));
    }
}

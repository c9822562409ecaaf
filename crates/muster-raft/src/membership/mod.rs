//! Changes of the membership while the cluster runs.
//!
//! What is to change is replicated state ([`muster_core::ChangesRow`]); what the membership is, is Raft's. The leader
//! compares the two and takes one step after the other ([`driver`], [`step`]); a new leader finds both and goes on, so a
//! change that a leader left half-way is completed, or undone if it was given up. A joint membership is always completed.
//! Every node looks after its own place: [`place`] ends a node that was removed and keeps a drained one from leading.

mod driver;
mod handover;
mod place;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_core::NodeId;
use muster_store::Store;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use handover::HandOver;
pub(crate) use handover::{hand_over, leave_lead};

use crate::contact::Contact;
use crate::error::Error;
use crate::leadership::Lead;
use crate::options::{MemberConfig, RaftOptions};
use crate::peer::Channels;
use crate::proposer::Submitter;
use crate::role::Role;
use crate::storage::Applied;
use crate::types::{Address, OpenRaft, StoredMembership};

/// The membership as Raft has it on this node: the one in force, which may not be committed yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Log index of the entry that holds it.
    pub index: u64,
    /// Sets of voters: one; two while a change is half-way.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// All members by id, learners too.
    pub members: Vec<MemberConfig>,
}

impl Membership {
    /// It lies between two memberships.
    pub fn is_joint(&self) -> bool {
        self.voters.len() > 1
    }

    /// Whether a node votes.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.iter().any(|voters| voters.contains(&node))
    }
}

impl From<&StoredMembership> for Membership {
    fn from(stored: &StoredMembership) -> Self {
        let member = |(id, address): (&NodeId, &Address)| MemberConfig {
            id: *id,
            peer: address.peer.clone(),
            api: address.api.clone(),
        };
        Self {
            index: stored.log_id().map_or(0, |id| id.index),
            voters: stored.membership().get_joint_config().clone(),
            members: stored.membership().nodes().map(member).collect(),
        }
    }
}

/// What the tasks of this module work with.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) options: RaftOptions,
    pub(crate) raft: OpenRaft,
    pub(crate) store: Store,
    pub(crate) state: Arc<Mutex<Applied>>,
    pub(crate) channels: Channels,
    pub(crate) submitter: Submitter,
    pub(crate) role: watch::Receiver<Role>,
    pub(crate) lead: watch::Receiver<Lead>,
    /// Changes when what is replicated about nodes does.
    pub(crate) changed: watch::Receiver<u64>,
    pub(crate) contact: Contact,
    pub(crate) cluster: u128,
    pub(crate) fatal: Arc<watch::Sender<Option<Error>>>,
    /// What the change under way waits for, on the leader.
    pub(crate) stage: Arc<watch::Sender<Option<String>>>,
}

pub(crate) fn spawn(parts: &Parts, stop: &CancellationToken) {
    tokio::spawn(driver::run(parts.clone(), stop.clone()));
    tokio::spawn(place::run(parts.clone(), stop.clone()));
    tokio::spawn(follow(parts.clone(), stop.clone()));
}

/// Tells the connections where the members are, and notes it on the disk.
async fn follow(parts: Parts, stop: CancellationToken) {
    let mut server = parts.raft.server_metrics();
    loop {
        let members = addresses(&server.borrow_and_update().membership_config);
        parts.channels.set_members(members.clone());
        // While the node is being refilled, its log is at memberships that are long over.
        if !parts.store.refilling() {
            note(&parts.store, members).await;
        }
        tokio::select! {
            changed = server.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

fn addresses(stored: &StoredMembership) -> BTreeMap<NodeId, String> {
    let nodes = stored.membership().nodes();
    nodes.map(|(id, address)| (*id, address.peer.clone())).collect()
}

/// Notes on the disk where the members are now.
pub(crate) async fn note_members(raft: &OpenRaft, store: &Store) {
    let members = addresses(&raft.server_metrics().borrow_watched().membership_config);
    note(store, members).await;
}

async fn note(store: &Store, members: BTreeMap<NodeId, String>) {
    if members.is_empty() {
        return;
    }
    let store = store.clone();
    let noted = tokio::task::spawn_blocking(move || store.note_members(&members)).await;
    if let Ok(Err(error)) = noted {
        tracing::warn!(
            %error,
            "where the members are could not be noted; should this node's data be damaged, it asks those that its \
             configuration lists"
        );
    }
}

/// Time without any word of a leader after which a node asks whether it still belongs, or takes what it would not take
/// otherwise.
fn long_silence(options: &RaftOptions) -> Duration {
    options.election_max * 4
}

//! The types with which openraft is instantiated.

use std::fmt;

use bytes::Bytes;
use muster_core::Reply;
use openraft::raft::responder::Responder;
use openraft::{OptionalSend, RaftTypeConfig};
use serde::{Deserialize, Serialize};

use crate::storage::Machine;

/// An encoded batch of commands: encoded once by the proposer, the same bytes in the log, on the wire and on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommandBytes(pub Bytes);

impl fmt::Display for CommandBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Replies of one entry, one per command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replies(pub Vec<Reply>);

impl fmt::Display for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} replies", self.0.len())
    }
}

/// Where a member is. Its id is the key under which openraft keeps this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    /// For other nodes.
    pub(crate) peer: String,
    /// For clients.
    pub(crate) api: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.peer)
    }
}

/// A reply channel that is just a function; called where the entry is applied, so callers wake without a task between.
pub(crate) struct Callback<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Callback<T> {
    pub(crate) fn new(call: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(call))
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// openraft's parameters. Leader ids order by (term, node), so two candidates of one term need not split the vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = CommandBytes;
    type R = Replies;
    type NodeId = u64;
    type Node = Address;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = openraft::TokioRuntime;
    type Responder<T>
        = Callback<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type LogId = openraft::LogId<LeaderId>;
pub(crate) type Payload = openraft::EntryPayload<CommandBytes, u64, Address>;
pub(crate) type Entry = openraft::Entry<LeaderId, Payload>;
pub(crate) type Membership = openraft::Membership<u64, Address>;
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, u64, Address>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, Address>;
pub(crate) type OpenRaft = openraft::Raft<TypeConfig, Machine>;

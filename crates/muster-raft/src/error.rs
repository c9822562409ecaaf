//! What can go wrong, apart by what the caller may conclude.

use std::time::Duration;

use muster_core::NodeId;
use muster_failpoint::Injected;

/// The node cannot start or must stop.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Options contradict each other.
    #[error("raft options: {0}")]
    Options(String),
    /// This node's disk was lost or replaced: the cluster knows the node, the node does not know the cluster.
    #[error(
        "node {node} has no data, but node {peer} knows it as a member of cluster {cluster:032x}. A node that lost its \
         disk has forgotten its votes and acknowledged entries and must not return under its old id, or acknowledged \
         jobs could be lost. If the data directory was moved or not mounted, bring it back. Otherwise put a new node in \
         its place: muster cluster replace {node} {next} --api {api} --peer {peer_address}, then start that with the token which \
         it prints and an empty data directory"
    )]
    WipedNode {
        /// This node.
        node: NodeId,
        /// The member that knows it.
        peer: NodeId,
        /// Their cluster.
        cluster: u128,
        /// An id that was never used.
        next: NodeId,
        /// This node's address for clients.
        api: Box<str>,
        /// This node's address for other nodes.
        peer_address: Box<str>,
    },
    /// The node left the cluster.
    #[error(
        "node {node} was removed from cluster {cluster:032x} at log index {index}, and its id is never used again. To bring \
         this machine back as a new node: muster cluster add {next} --api {api} --peer {peer}, then start it under that \
         id with an empty data directory"
    )]
    Removed {
        /// This node.
        node: NodeId,
        /// Its cluster.
        cluster: u128,
        /// When it was removed.
        index: u64,
        /// An id that was never used.
        next: NodeId,
        /// Its address for other nodes.
        peer: Box<str>,
        /// Its address for clients.
        api: Box<str>,
    },
    /// The cluster knows the node at another address.
    #[error(
        "node {node} is configured with peer = {peer} and api = {api}, but the cluster knows it at {known_peer} and \
         {known_api}. If it moved: muster cluster set-address {node} --peer {peer} --api {api}, then start it again; \
         otherwise correct its configuration. If the whole cluster moved, see --moved"
    )]
    AddressDiffers {
        /// This node.
        node: NodeId,
        /// By configuration.
        peer: Box<str>,
        /// By configuration.
        api: Box<str>,
        /// By the cluster's word.
        known_peer: Box<str>,
        /// By the cluster's word.
        known_api: Box<str>,
    },
    /// A member refused the join token.
    #[error("node {node} may not join: {reason}. For another token: muster cluster token create --node {node}")]
    JoinRefused {
        /// This node.
        node: NodeId,
        /// The member's word.
        reason: String,
    },
    /// The token is for another cluster than that of the configured members.
    #[error(
        "the join token is for cluster {token:032x}, but node {peer} belongs to cluster {theirs:032x}; check the addresses in \
         the configuration, or have a token made there: muster cluster token create --node {node}"
    )]
    TokenOfOtherCluster {
        /// This node.
        node: NodeId,
        /// By the token.
        token: u128,
        /// The member asked.
        peer: NodeId,
        /// Its cluster.
        theirs: u128,
    },
    /// The data directory belongs to another node.
    #[error(
        "the data directory belongs to node {found}, but this node is configured as node {configured}. A node keeps its id: \
         start it with --node {found}, or give node {configured} a directory of its own"
    )]
    OtherNode {
        /// By configuration.
        configured: NodeId,
        /// On disk.
        found: NodeId,
    },
    /// A node at a configured address belongs to another cluster.
    #[error(
        "node {peer} belongs to cluster {theirs:032x}, this node to cluster {ours:032x}; check the addresses in the configuration"
    )]
    OtherCluster {
        /// The other node.
        peer: NodeId,
        /// Its cluster.
        theirs: u128,
        /// Ours.
        ours: u128,
    },
    /// The cluster was recovered without this node, after its majority had been given up for lost.
    #[error(
        "cluster {ours:032x} was recovered as cluster {theirs:032x} at node {peer}, without this node {node}. What this node \
         alone knows is not part of the new cluster, and it must not take part in either. Move its data directory away, keep \
         it until nobody misses a job, and add the machine as a new node with an id that was never used"
    )]
    Superseded {
        /// This node.
        node: NodeId,
        /// The member that belongs to the successor.
        peer: NodeId,
        /// The old cluster.
        ours: u128,
        /// The new one.
        theirs: u128,
    },
    /// The log on disk belongs to another cluster than the identity beside it.
    #[error("the state in the data directory belongs to cluster {state:032x}, its identity file says {identity:032x}")]
    MixedData {
        /// By the replicated state.
        state: u128,
        /// By the identity file.
        identity: u128,
    },
    /// The whole data directory is older than what this node told another: a copy was brought back.
    #[error(
        "the data directory of node {node} is an older copy: node {peer} has seen {seen}, the directory has {found}. What this \
         node voted for since then is forgotten, so it must not return under its id. If the right directory still exists, \
         bring it back; otherwise replace the node, with an id that was never used: muster cluster replace {node} NEW_ID"
    )]
    RolledBack {
        /// This node.
        node: NodeId,
        /// The node that knows better.
        peer: NodeId,
        /// What it has seen of this node.
        seen: String,
        /// What is on disk.
        found: String,
    },
    /// The state of this node differs from that of a majority.
    #[error(
        "the state of node {node} at log index {index} has hash {own:016x}, a majority has {majority:016x}: this node is wrong, by a \
         defect or by damage that no checksum shows. It must be rebuilt: muster node rebuild --node {node}"
    )]
    Diverged {
        /// This node.
        node: NodeId,
        /// Where they were compared.
        index: u64,
        /// Hash of this node's state.
        own: u64,
        /// Hash of the others'.
        majority: u64,
    },
    /// An entry of the log needs a newer program than this one.
    #[error(
        "log entry {index} needs a program that understands feature level {needed}, this one understands levels up to {newest}; start \
         node {node} with a newer program"
    )]
    LevelTooHigh {
        /// This node.
        node: NodeId,
        /// The entry.
        index: u64,
        /// What it needs.
        needed: u32,
        /// What this program understands.
        newest: u32,
    },
    /// An entry of the log cannot be understood at all.
    #[error(
        "log entry {index} cannot be understood by this program: {detail}; is it older than the leader's? Node {node} did not apply it"
    )]
    NotUnderstood {
        /// This node.
        node: NodeId,
        /// The entry.
        index: u64,
        /// What is wrong.
        detail: String,
    },
    /// Damaged data of a cluster of one: there is nobody to bring it again.
    #[error(
        "the data of node {node} is damaged ({reason}), and no other node is configured that could bring it again; restore \
         a backup"
    )]
    NobodyToRefillFrom {
        /// This node.
        node: NodeId,
        /// What is damaged.
        reason: String,
    },
    /// Stored data turned out to be damaged while the node ran. The process must end; its next start refills it.
    #[error("{0}; the next start of this node refills it from the others")]
    Damaged(String),
    /// The cluster exists, and this node is not a member.
    #[error(
        "node {node} is not a member of cluster {cluster:032x}, whose members are {members:?}. To add it: muster cluster add \
         {node} --api {api} --peer {peer}, then start it with the token which that prints"
    )]
    NotMember {
        /// This node.
        node: NodeId,
        /// The cluster found at the configured addresses.
        cluster: u128,
        /// Its members.
        members: Box<[NodeId]>,
        /// This node's address for clients.
        api: Box<str>,
        /// This node's address for other nodes.
        peer: Box<str>,
    },
    /// Nodes that should form a cluster are configured with different members.
    #[error(
        "node {node} is configured with members {ours:?}, node {peer} with {theirs:?}; a new cluster needs the same list on all nodes"
    )]
    MembersDiffer {
        /// This node.
        node: NodeId,
        /// Members in its configuration.
        ours: Vec<NodeId>,
        /// The other node.
        peer: NodeId,
        /// Members in its configuration.
        theirs: Vec<NodeId>,
    },
    /// Another node answers at the address of a member.
    #[error("at the configured address of node {expected} answers node {actual}")]
    WrongNode {
        /// By configuration.
        expected: NodeId,
        /// By its own word.
        actual: NodeId,
    },
    /// The storage failed; the process must end, since what is on disk is not known.
    #[error("storage: {0}")]
    Storage(String),
    /// Raft stopped of itself.
    #[error("raft stopped: {0}")]
    Raft(String),
    /// The peer server or the thread could not be started.
    #[error("starting the raft thread: {0}")]
    Start(String),
    /// `shutdown` was called.
    #[error("raft is shut down")]
    Stopped,
}

impl From<muster_store::Error> for Error {
    fn from(error: muster_store::Error) -> Self {
        if error.is_damage() {
            Self::Damaged(error.to_string())
        } else {
            Self::Storage(error.to_string())
        }
    }
}

impl Error {
    /// What a failpoint returns: as if the storage had failed.
    pub(crate) fn injected(injected: Injected) -> Self {
        Self::Storage(injected.to_string())
    }
}

/// A command got no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Certainly no effect, now or later.
    #[error("not done: {reason}")]
    NotDone {
        /// Why.
        reason: String,
    },
    /// The deadline passed while the command may still take effect. Repeating the same command is safe.
    #[error("outcome unknown: {reason}")]
    Unknown {
        /// What was waited for.
        reason: String,
    },
    /// Too much is waiting; no effect.
    #[error("overloaded: {value} {what} wait already, at most {limit} may, retry after {retry_after:?}")]
    Overloaded {
        /// What is counted.
        what: Waits,
        /// How much of it waits.
        value: u64,
        /// How much of it may wait.
        limit: u64,
        /// A wait that should help.
        retry_after: Duration,
    },
    /// The disks of a majority are full; no effect. It goes on by itself when there is room again.
    #[error("the disks of a majority of the nodes are full, retry after {retry_after:?}")]
    DiskFull {
        /// When to look again.
        retry_after: Duration,
    },
    /// Live jobs take all the memory that they may; no effect. It goes on by itself when some have ended.
    #[error("live jobs take {used} of the {limit} bytes of memory that they may, retry after {retry_after:?}")]
    MemoryFull {
        /// Bytes that they take, about.
        used: u64,
        /// Bytes that they may take.
        limit: u64,
        /// When to look again.
        retry_after: Duration,
    },
    /// Commands wait too long for their turn on the leader, so that it takes no new jobs; no effect.
    #[error(
        "commands wait {waited:?} for their turn on the leader, longer than lag_max of {lag_max:?}, retry after {retry_after:?}"
    )]
    Late {
        /// How long the first one waits.
        waited: Duration,
        /// How long they may wait.
        lag_max: Duration,
        /// When to look again.
        retry_after: Duration,
    },
    /// This node is shutting down. Commands already handed over may still take effect.
    #[error("the node is shutting down")]
    Stopped,
}

/// What is counted of the commands that wait for their reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Their number.
    Commands,
    /// Their size.
    Bytes,
}

impl Waits {
    /// For people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Bytes => "bytes of commands",
        }
    }
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A read could not be made linearizable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed the read before the deadline.
    #[error("no confirmation by a leader in time: {reason}")]
    Unconfirmed {
        /// The last obstacle.
        reason: String,
    },
    /// Confirmed, but this node did not catch up before the deadline.
    #[error("this node has applied up to {applied}, the read needs {needed}")]
    Behind {
        /// Applied here.
        applied: u64,
        /// Needed.
        needed: u64,
    },
    /// This node is shutting down.
    #[error("the node is shutting down")]
    Stopped,
}

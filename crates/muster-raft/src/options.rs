//! What a node must be told, and what can be tuned.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::NodeId;

use crate::error::Error;
use crate::join::JoinToken;
use crate::memory::LIMIT_MIN;
use crate::proposer::for_jobs;

/// A node of the cluster as the configuration names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberConfig {
    /// Identity, from 1. Never reused, also not after the node's disk was lost.
    pub id: NodeId,
    /// Address for other nodes, `host:port`.
    pub peer: String,
    /// Address for clients, `host:port`.
    pub api: String,
}

/// Options of the replicated log on one node.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    /// This node; one of `members`.
    pub node: NodeId,
    /// All nodes of the configuration, this one too. At the first start they become the membership; later the log
    /// holds the membership and this list only says where to ask.
    pub members: Vec<MemberConfig>,
    /// Where this node reaches others that it does not reach at their `peer` address: through a tunnel or proxy of its
    /// own machine. Default: none.
    pub dial: BTreeMap<NodeId, String>,
    /// With which a new node joins a cluster that is there, instead of beginning one with `members`. Of no effect once
    /// it has joined. Default: none.
    pub join: Option<JoinToken>,
    /// Start although the cluster knows this node at another address, and reach the others where `members` says that they
    /// are. For a cluster that moved as a whole, until its addresses are set anew. Default: false.
    pub moved: bool,
    /// Interval of the leader's heartbeats. Default 100 ms.
    pub heartbeat: Duration,
    /// Least silence of the leader after which a follower stands for election; in effect never less than half of
    /// `election_max` and two heartbeats, the time a vote may take. Default 500 ms, so in effect 650 ms.
    pub election_min: Duration,
    /// Greatest such silence; each node draws anew between the two. Default 900 ms.
    pub election_max: Duration,
    /// Log kept for members that were away, in bytes. More is dropped as soon as the state is flushed; a member that needs
    /// it gets a snapshot. Default 256 MiB, at least 1 MiB.
    pub log_keep_bytes: u64,
    /// Older entries are dropped even if the log is small. Default 1 hour, at least 1 minute.
    pub log_keep: Duration,
    /// Entries that are not archived yet ([`crate::Raft::archived`]) are kept until the log has so many bytes; 0: nothing
    /// waits for an archive. Default 0.
    pub log_hold_bytes: u64,
    /// Entries between two hashes of the state that the nodes compare. Default 4,096, from 1.
    pub state_hash_every: u64,
    /// Highest feature level that this program is to understand. Default [`muster_core::LEVEL_MAX`]; lower ones make it behave
    /// as an older program.
    pub level_max: u32,
    /// Most commands in one log entry. Default 4,096.
    pub entry_commands_max: usize,
    /// Encoded size from which an entry takes no further command, in bytes. Default 512 KiB. A larger command
    /// travels alone.
    pub entry_bytes: usize,
    /// Largest single command in bytes. Default 20 MiB; larger ones are refused.
    pub command_bytes_max: usize,
    /// Most entries of this leader that are proposed but not applied, 1–16. Default 4; beyond the second only full
    /// ones are proposed, so few callers see the latency of one.
    pub entries_in_flight_max: usize,
    /// Most commands waiting on this node before callers are refused. Default 65,536.
    pub waiting_commands_max: usize,
    /// Most bytes waiting on this node before callers are refused. Default 128 MiB.
    pub waiting_bytes_max: usize,
    /// On the leader: new jobs are refused while commands wait longer than this for their turn. Default 1 s, from 100 ms.
    pub lag_max: Duration,
    /// Memory that live jobs may take, in bytes; the least of all members counts. At least 16 MiB; 0: not bounded. Default 0.
    pub jobs_memory: u64,
}

impl RaftOptions {
    /// Defaults for node `node` of `members`.
    pub fn new(node: NodeId, members: Vec<MemberConfig>) -> Self {
        Self {
            node,
            members,
            dial: BTreeMap::new(),
            join: None,
            moved: false,
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(900),
            log_keep_bytes: 256 << 20,
            log_keep: Duration::from_hours(1),
            log_hold_bytes: 0,
            state_hash_every: 4_096,
            level_max: muster_core::LEVEL_MAX,
            entry_commands_max: 4_096,
            entry_bytes: 512 << 10,
            command_bytes_max: 20 << 20,
            entries_in_flight_max: 4,
            waiting_commands_max: 65_536,
            waiting_bytes_max: 128 << 20,
            lag_max: Duration::from_secs(1),
            jobs_memory: 0,
        }
    }

    /// Checks that the values fit together.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |text: String| Err(Error::Options(text));
        if !self.members.iter().any(|member| member.id == self.node) {
            return invalid(format!("node {} is not among the configured members", self.node));
        }
        let mut ids: Vec<_> = self.members.iter().map(|member| member.id).collect();
        ids.sort_unstable();
        if ids.contains(&0) || ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return invalid(format!("member ids must be distinct and above 0, they are {ids:?}"));
        }
        if let Some(token) = self.join.as_ref().filter(|token| token.node != self.node) {
            return invalid(format!(
                "the join token is for node {}, this is node {}",
                token.node, self.node
            ));
        }
        if self.join.is_some() && self.members.len() < 2 {
            return invalid(format!(
                "node {} is to join, but no member of the cluster is configured: name one that it can ask",
                self.node
            ));
        }
        if self.election_min < self.heartbeat * 3 {
            return invalid(format!(
                "election_min is {:?}, must be at least three heartbeats of {:?}",
                self.election_min, self.heartbeat
            ));
        }
        if self.election_max <= self.election_min {
            return invalid(format!(
                "election_max is {:?}, must be above election_min of {:?}",
                self.election_max, self.election_min
            ));
        }
        if self.election_max < self.heartbeat * 5 {
            return invalid(format!(
                "election_max is {:?}, must be at least five heartbeats of {:?}",
                self.election_max, self.heartbeat
            ));
        }
        if self.log_keep_bytes < 1 << 20 {
            return invalid(format!(
                "log_keep_bytes is {} bytes, must be at least 1 MiB",
                self.log_keep_bytes
            ));
        }
        if self.log_keep < Duration::from_mins(1) {
            return invalid(format!("log_keep is {:?}, must be at least 1 minute", self.log_keep));
        }
        if self.log_hold_bytes != 0 && self.log_hold_bytes < self.log_keep_bytes {
            return invalid(format!(
                "log_hold_bytes is {} bytes, must be 0 or at least log_keep_bytes of {} bytes",
                self.log_hold_bytes, self.log_keep_bytes
            ));
        }
        if self.state_hash_every == 0 {
            return invalid("state_hash_every is 0, must be from 1".to_owned());
        }
        if !(1..=16).contains(&self.entries_in_flight_max) || self.entry_commands_max == 0 {
            return invalid("entries_in_flight_max must be 1 to 16, entry_commands_max above 0".to_owned());
        }
        if self.command_bytes_max > 20 << 20 || self.entry_bytes > self.command_bytes_max {
            return invalid("command_bytes_max must be at most 20 MiB and at least entry_bytes".to_owned());
        }
        if for_jobs(self.waiting_bytes_max) < self.command_bytes_max
            || for_jobs(self.waiting_commands_max) < self.entry_commands_max
        {
            return invalid("the waiting limits must admit at least one full entry".to_owned());
        }
        if self.lag_max < Duration::from_millis(100) {
            return invalid(format!("lag_max is {:?}, must be at least 100ms", self.lag_max));
        }
        if (1..LIMIT_MIN).contains(&self.jobs_memory) {
            return invalid(format!(
                "jobs_memory is {} bytes, must be 0 or at least 16 MiB",
                self.jobs_memory
            ));
        }
        Ok(())
    }

    /// openraft's least and greatest election timeout. It lets a follower wait for the leader's lease, which is as long
    /// as the greatest timeout, and for a timeout drawn between the two; the sum is the silence of our options.
    pub(crate) fn election_timeouts(&self) -> (Duration, Duration) {
        let lease = self.election_max / 2;
        let least = self.election_min.saturating_sub(lease).max(self.heartbeat * 2);
        (least, lease)
    }

    /// The configured member with this id.
    pub(crate) fn member(&self, id: NodeId) -> Option<&MemberConfig> {
        self.members.iter().find(|member| member.id == id)
    }

    /// This node as it is configured.
    pub(crate) fn own(&self) -> MemberConfig {
        self.member(self.node).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_silence_before_an_election_is_as_configured() {
        let member = MemberConfig {
            id: 1,
            ..MemberConfig::default()
        };
        let mut options = RaftOptions::new(1, vec![member]);
        for (min, max, expected) in [
            (500, 900, (200, 450)),
            (800, 1_000, (300, 500)),
            (1_000, 3_000, (200, 1_500)),
        ] {
            options.election_min = Duration::from_millis(min);
            options.election_max = Duration::from_millis(max);
            assert!(options.validate().is_ok());
            let (least, lease) = options.election_timeouts();
            assert_eq!((least.as_millis(), lease.as_millis()), expected, "{min}-{max}");
            assert!(least < lease);
        }
    }
}

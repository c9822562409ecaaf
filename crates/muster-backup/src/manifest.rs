//! What a backup says of itself.

use jiff::Timestamp;
use muster_core::LiveCounts;
use muster_raft::StateFacts;
use muster_store::LogPosition;
use serde::{Deserialize, Serialize};

use crate::hex;
use crate::sealed::FORMAT;

/// A position in the replicated log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Term of the leader that proposed the entry.
    pub term: u64,
    /// That leader.
    pub node: u64,
    /// Index of the entry.
    pub index: u64,
}

impl From<LogPosition> for Position {
    fn from(LogPosition { term, node, index }: LogPosition) -> Self {
        Self { term, node, index }
    }
}

impl From<Position> for LogPosition {
    fn from(Position { term, node, index }: Position) -> Self {
        Self { term, node, index }
    }
}

/// A member of the cluster at the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Identity.
    pub id: u64,
    /// Address for the other nodes.
    pub peer: String,
    /// Address for clients.
    pub api: String,
    /// It votes.
    pub voter: bool,
}

/// Live jobs by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    /// Waiting for their time.
    pub scheduled: u64,
    /// May start.
    pub available: u64,
    /// Leased.
    pub running: u64,
    /// Waiting for their backoff.
    pub retrying: u64,
}

impl From<LiveCounts> for Jobs {
    fn from(live: LiveCounts) -> Self {
        Self {
            scheduled: live.scheduled,
            available: live.available,
            running: live.running,
            retrying: live.retrying,
        }
    }
}

/// A file of the state store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its name there.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// BLAKE3 of its content, by which the location has it.
    #[serde(with = "hex::digest")]
    pub blake3: [u8; 32],
}

/// A whole backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of the backup.
    pub format: u32,
    /// Name of the backup.
    pub id: String,
    /// The cluster.
    #[serde(with = "hex::id")]
    pub cluster: u128,
    /// The node whose files these are.
    pub node: u64,
    /// Version of the program that wrote it.
    pub version: String,
    /// Format of the data directory.
    pub store_format: u32,
    /// The last log entry contained.
    pub position: Position,
    /// When it was written, by the node's clock.
    pub created: Timestamp,
    /// Replicated time of the state, in milliseconds since the Unix epoch.
    pub replicated_time_ms: u64,
    /// Rolling hash of the state.
    #[serde(with = "hex::word")]
    pub state_hash: u64,
    /// Members at the time.
    pub members: Vec<Member>,
    /// Live jobs.
    pub jobs: Jobs,
    /// Length of all files.
    pub bytes: u64,
    /// The files, by name.
    pub files: Vec<ManifestFile>,
}

impl Manifest {
    pub(crate) fn new(id: String, node: u64, facts: &StateFacts, files: Vec<ManifestFile>) -> Self {
        let member = |member: &muster_raft::MemberConfig| Member {
            id: member.id,
            peer: member.peer.clone(),
            api: member.api.clone(),
            voter: facts.voters.contains(&member.id),
        };
        Self {
            format: FORMAT,
            id,
            cluster: facts.cluster,
            node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store_format: muster_store::FORMAT,
            position: facts.position.into(),
            created: Timestamp::now(),
            replicated_time_ms: facts.now,
            state_hash: facts.state_hash,
            members: facts.members.iter().map(member).collect(),
            jobs: facts.live.into(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            files,
        }
    }

    /// Whether the state has what the manifest says of it.
    pub(crate) fn fits(&self, facts: &StateFacts) -> Result<(), String> {
        let check = |what: &str, found: String, expected: String| {
            if found == expected {
                return Ok(());
            }
            Err(format!("{what} is {found}, its manifest says {expected}"))
        };
        check(
            "the position",
            format!("{:?}", Position::from(facts.position)),
            format!("{:?}", self.position),
        )?;
        check(
            "the cluster",
            format!("{:032x}", facts.cluster),
            format!("{:032x}", self.cluster),
        )?;
        check(
            "the state hash",
            format!("{:016x}", facts.state_hash),
            format!("{:016x}", self.state_hash),
        )?;
        check(
            "the replicated time",
            facts.now.to_string(),
            self.replicated_time_ms.to_string(),
        )?;
        check(
            "the number of live jobs",
            format!("{:?}", Jobs::from(facts.live)),
            format!("{:?}", self.jobs),
        )
    }
}

/// Replicated time for people.
pub(crate) fn time(ms: u64) -> String {
    let time = i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| format!("{ms} ms"), |time| time.to_string())
}

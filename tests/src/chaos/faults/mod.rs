//! Faults: which there are, when they come, and whether they did anything.

mod clock;
mod deck;
mod disk;
mod members;
mod network;
mod node;
mod places;
mod schedule;
mod workers;

use std::fmt;
use std::str::FromStr;

use muster_sim::history::FaultKind;

pub(crate) use clock::Clock;
pub(crate) use disk::{Disk, lacking};
pub(in crate::chaos) use members::Operator;
pub(in crate::chaos) use places::{BACK, REFUSED};
pub(crate) use schedule::{Injector, Log};
pub(in crate::chaos) use workers::inject as trouble_workers;

/// What can be done to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// SIGKILL of one node, the leader more often than not, and a restart.
    Kill,
    /// SIGKILL of two nodes, one after the other.
    KillTwo,
    /// SIGKILL of all nodes at once.
    KillAll,
    /// SIGKILL of a node that is just starting, several times.
    KillStart,
    /// SIGSTOP and SIGCONT of a node.
    Pause,
    /// One node cut off from all others.
    Partition,
    /// A majority cut off from a minority.
    Split,
    /// Bytes from one node to one or all others held back, not those the other way.
    OneWay,
    /// Two groups that reach each other only through one node.
    Bridge,
    /// A node cut off and let in again every 100 ms.
    Flap,
    /// All bytes of some links arrive later.
    Delay,
    /// Connections cut in the middle of what they carry.
    Cut,
    /// Links slowed.
    Throttle,
    /// A worker of the client library killed.
    WorkerKill,
    /// A worker's connection dropped with jobs running, and all it knew forgotten.
    WorkerDrop,
    /// A worker silent for longer than its session lives, then going on.
    WorkerHang,
    /// Reports sent twice.
    DoubleReport,
    /// Reports sent after their leases were lost.
    LateReport,
    /// A node killed, its log or state damaged on disk, and started again.
    Damage,
    /// A node's disk without room, then with room again. Needs root.
    DiskFull,
    /// One node or all at once lose what they had not synced, and their power. Needs root.
    PowerCut,
    /// A node's wall clock wrong for a while, by up to half a minute. Needs libfaketime.
    ClockJump,
    /// A node joins; now and then its join is given up half-way.
    AddNode,
    /// A node is taken out, the leader more often than not, and its process must end.
    RemoveNode,
    /// A node's disk is lost for good, and a new node takes its place.
    ReplaceNode,
    /// The lead is handed to a node of one's choice.
    TransferLeader,
    /// A node gives up its sessions and the lead for a while.
    DrainNode,
}

/// What faults act on: one of each sort at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sort {
    /// Which nodes there are.
    Members,
    /// Processes of nodes.
    Node,
    /// Links between them.
    Network,
    /// Workers.
    Worker,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Kill,
        Self::KillTwo,
        Self::KillAll,
        Self::KillStart,
        Self::Pause,
        Self::Partition,
        Self::Split,
        Self::OneWay,
        Self::Bridge,
        Self::Flap,
        Self::Delay,
        Self::Cut,
        Self::Throttle,
        Self::WorkerKill,
        Self::WorkerDrop,
        Self::WorkerHang,
        Self::DoubleReport,
        Self::LateReport,
        Self::Damage,
        Self::DiskFull,
        Self::PowerCut,
        Self::ClockJump,
        Self::AddNode,
        Self::RemoveNode,
        Self::ReplaceNode,
        Self::TransferLeader,
        Self::DrainNode,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillTwo => "kill-two",
            Self::KillAll => "kill-all",
            Self::KillStart => "kill-start",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::Split => "split",
            Self::OneWay => "one-way",
            Self::Bridge => "bridge",
            Self::Flap => "flap",
            Self::Delay => "delay",
            Self::Cut => "cut",
            Self::Throttle => "throttle",
            Self::WorkerKill => "worker-kill",
            Self::WorkerDrop => "worker-drop",
            Self::WorkerHang => "worker-hang",
            Self::DoubleReport => "double-report",
            Self::LateReport => "late-report",
            Self::Damage => "damage",
            Self::DiskFull => "disk-full",
            Self::PowerCut => "power-cut",
            Self::ClockJump => "clock-jump",
            Self::AddNode => "add-node",
            Self::RemoveNode => "remove-node",
            Self::ReplaceNode => "replace-node",
            Self::TransferLeader => "transfer-leader",
            Self::DrainNode => "drain-node",
        }
    }

    /// Needs what not every machine has, and comes only if it is named.
    pub fn is_special(self) -> bool {
        self.needs_disks() || self == Self::ClockJump
    }

    /// Needs file systems that can be filled and cut, and so root.
    pub(crate) fn needs_disks(self) -> bool {
        matches!(self, Self::DiskFull | Self::PowerCut)
    }

    /// What it acts on.
    pub(crate) fn sort(self) -> Sort {
        match self {
            Self::Kill
            | Self::KillTwo
            | Self::KillAll
            | Self::KillStart
            | Self::Pause
            | Self::Damage
            | Self::DiskFull
            | Self::PowerCut
            | Self::ClockJump => Sort::Node,
            Self::Partition
            | Self::Split
            | Self::OneWay
            | Self::Bridge
            | Self::Flap
            | Self::Delay
            | Self::Cut
            | Self::Throttle => Sort::Network,
            Self::WorkerKill | Self::WorkerDrop | Self::WorkerHang | Self::DoubleReport | Self::LateReport => {
                Sort::Worker
            }
            Self::AddNode | Self::RemoveNode | Self::ReplaceNode | Self::TransferLeader | Self::DrainNode => {
                Sort::Members
            }
        }
    }

    /// As histories have it.
    pub(crate) fn kind(self) -> FaultKind {
        match self {
            Self::Kill | Self::KillTwo | Self::KillAll | Self::KillStart => FaultKind::Kill,
            Self::Pause => FaultKind::Pause,
            Self::Partition | Self::Split | Self::OneWay | Self::Bridge | Self::Flap => FaultKind::Partition,
            Self::Delay => FaultKind::Delay,
            Self::Cut => FaultKind::Drop,
            Self::Throttle => FaultKind::Slow,
            Self::WorkerKill => FaultKind::WorkerKill,
            Self::WorkerDrop => FaultKind::SessionLoss,
            Self::WorkerHang => FaultKind::WorkerHang,
            Self::DoubleReport => FaultKind::DoubleReport,
            Self::LateReport => FaultKind::LateReport,
            Self::Damage => FaultKind::Corruption,
            Self::DiskFull => FaultKind::DiskFull,
            Self::PowerCut => FaultKind::PowerCut,
            Self::ClockJump => FaultKind::ClockJump,
            Self::AddNode | Self::RemoveNode | Self::ReplaceNode | Self::DrainNode => FaultKind::Membership,
            Self::TransferLeader => FaultKind::LeaderChange,
        }
    }

    /// How often it comes in each round of the deck.
    pub(crate) fn weight(self) -> usize {
        match self {
            Self::Kill | Self::Pause => 3,
            Self::DiskFull | Self::PowerCut | Self::OneWay | Self::Partition => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|fault| fault.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is no fault; there are {names}")
        })
    }
}

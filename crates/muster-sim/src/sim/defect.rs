//! The bug that is put into the cluster, if any: into the core, or into the model of the replicated log, which stands
//! for what the store and Raft promise. Without the feature `seeded-bugs` there is none to choose.

use muster_core::Core;

/// A bug of the replicated log, of reads and of restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogDefect {
    /// An entry counts as committed when one node has it.
    AckBeforeQuorum,
    /// A node votes also for one that lacks entries it has itself.
    VoteIgnoresLog,
    /// A node answers reads from what it has applied, without asking the leader.
    ReadAtFollower,
    /// What a node wrote last is gone after a crash.
    SyncSkipped,
    /// A follower leaves out an entry now and then.
    EntrySkipped,
    /// The first entry after a restart is applied twice.
    AppliedTwice,
    /// A snapshot does not hold the jobs that ended lately.
    SnapshotWithoutEnded,
    /// A new leader does not begin a new term.
    TermNotRaised,
    /// Two callers of one entry get each other's replies.
    RepliesSwapped,
}

#[cfg(feature = "seeded-bugs")]
impl LogDefect {
    /// All of them.
    const ALL: [Self; 9] = [
        Self::AckBeforeQuorum,
        Self::VoteIgnoresLog,
        Self::ReadAtFollower,
        Self::SyncSkipped,
        Self::EntrySkipped,
        Self::AppliedTwice,
        Self::SnapshotWithoutEnded,
        Self::TermNotRaised,
        Self::RepliesSwapped,
    ];

    /// What it does.
    fn what(self) -> &'static str {
        match self {
            Self::AckBeforeQuorum => "An entry counts as committed when one node has it.",
            Self::VoteIgnoresLog => "A node votes also for one that lacks entries it has itself.",
            Self::ReadAtFollower => "A node answers reads from what it has applied, without asking the leader.",
            Self::SyncSkipped => "What a node wrote last is gone after a crash.",
            Self::EntrySkipped => "A follower leaves out an entry now and then.",
            Self::AppliedTwice => "The first entry after a restart is applied twice.",
            Self::SnapshotWithoutEnded => "A snapshot does not hold the jobs that ended lately.",
            Self::TermNotRaised => "A new leader does not begin a new term.",
            Self::RepliesSwapped => "Two callers of one entry get each other's replies.",
        }
    }
}

/// A bug, and on which nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chosen {
    #[cfg(feature = "seeded-bugs")]
    core: Option<muster_core::Defect>,
    log: Option<LogDefect>,
}

impl Chosen {
    /// Whether the model of the log has this bug.
    pub(crate) fn has(self, defect: LogDefect) -> bool {
        self.log == Some(defect)
    }
}

#[cfg(feature = "seeded-bugs")]
impl Chosen {
    /// All bugs that a history can show, one by one. The others are found by the property tests of the core.
    pub fn all() -> impl Iterator<Item = Self> {
        let core = muster_core::Defect::ALL.iter().filter(|defect| !defect.is_of_shares());
        let core = core.map(|defect| Self::of_core(*defect));
        let log = LogDefect::ALL.into_iter().map(|defect| Self {
            core: None,
            log: Some(defect),
        });
        core.chain(log)
    }

    /// A bug of the core.
    pub fn of_core(defect: muster_core::Defect) -> Self {
        Self {
            core: Some(defect),
            log: None,
        }
    }

    /// Its name.
    pub fn name(self) -> String {
        let core = self.core.map(|defect| format!("{defect:?}"));
        let log = self.log.map(|defect| format!("{defect:?}"));
        core.or(log).unwrap_or_default()
    }

    /// Where it sits.
    pub fn place(self) -> &'static str {
        if self.log.is_some() { "log" } else { "core" }
    }

    /// What it does.
    pub fn what(self) -> &'static str {
        let core = self.core.map(muster_core::Defect::what);
        core.or(self.log.map(LogDefect::what)).unwrap_or_default()
    }

    /// What of it is put into one node: some bugs are of one node only.
    pub(crate) fn for_node(self, number: usize) -> Self {
        let core = self.core.filter(|defect| number == 0 || !defect.of_one_node());
        Self { core, ..self }
    }
}

#[cfg(not(feature = "seeded-bugs"))]
impl Chosen {
    pub(crate) fn for_node(self, _number: usize) -> Self {
        self
    }
}

/// Puts the bug into a core.
#[cfg(feature = "seeded-bugs")]
pub(crate) fn arm(core: &mut Core, chosen: Chosen) {
    if let Some(defect) = chosen.core {
        core.set_defect(defect);
    }
}

/// Puts the bug into a core: there is none.
#[cfg(not(feature = "seeded-bugs"))]
pub(crate) fn arm(_core: &mut Core, _chosen: Chosen) {}

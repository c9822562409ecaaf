//! The bug that is put into the core, if any. Without the feature `seeded-bugs` there is none to choose.

use muster_core::Core;

/// A bug of the core, and on which nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chosen {
    #[cfg(feature = "seeded-bugs")]
    defect: Option<muster_core::Defect>,
}

#[cfg(feature = "seeded-bugs")]
impl Chosen {
    /// This bug.
    pub fn new(defect: muster_core::Defect) -> Self {
        Self { defect: Some(defect) }
    }

    /// What of it is put into one node: some bugs are of one node only.
    pub(crate) fn for_node(self, number: usize) -> Self {
        let defect = self.defect.filter(|defect| number == 0 || !defect.of_one_node());
        Self { defect }
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
    if let Some(defect) = chosen.defect {
        core.set_defect(defect);
    }
}

/// Puts the bug into a core: there is none.
#[cfg(not(feature = "seeded-bugs"))]
pub(crate) fn arm(_core: &mut Core, _chosen: Chosen) {}

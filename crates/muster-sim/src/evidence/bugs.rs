//! Bugs found in our own code: written by hand, since no program can tell what a failure meant.

use serde::{Deserialize, Serialize};

/// All of them, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bugs {
    /// The bugs.
    #[serde(default, rename = "bug")]
    pub bugs: Vec<Bug>,
}

/// A bug that was found in our own code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bug {
    /// Which look found it.
    pub found_by: String,
    /// What was wrong, and what it did.
    pub what: String,
    /// How it is now; empty: not mended.
    #[serde(default)]
    pub mended: String,
    /// The command that shows it on code without the mending, or guards against it now.
    pub again: String,
}

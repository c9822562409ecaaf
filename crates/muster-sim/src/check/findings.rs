//! What a checker found.

use serde::Serialize;

use crate::check::Checker;
use crate::facts::{Facts, Line};

/// Violations kept with their text; further ones are counted.
const KEPT: usize = 20;

/// A contradiction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// What contradicts what.
    pub text: String,
    /// Lines of the records that show it.
    pub lines: Vec<Line>,
}

/// Collects what one checker finds.
#[derive(Default)]
pub struct Findings {
    judged: u64,
    total: u64,
    violations: Vec<Violation>,
    not_judged: Option<&'static str>,
    note: Option<String>,
}

impl Findings {
    /// So many more things were looked at.
    pub fn judge(&mut self, things: u64) {
        self.judged += things;
    }

    /// Something contradicts the invariant.
    pub fn refuse<const N: usize>(&mut self, lines: [Line; N], text: impl FnOnce() -> String) {
        self.total += 1;
        if self.violations.len() < KEPT {
            self.violations.push(Violation {
                text: text(),
                lines: lines.to_vec(),
            });
        }
    }

    /// The history lacks what this (part of the) checker needs.
    pub fn skip(&mut self, why: &'static str) {
        self.not_judged = Some(why);
    }

    /// Something worth knowing that is no violation.
    pub fn note(&mut self, text: String) {
        self.note = Some(text);
    }

    /// True if nodes recorded effects; else says so.
    pub fn needs_server(&mut self, facts: &Facts) -> bool {
        let there = facts.entries.values().any(|entry| !entry.effects.is_empty());
        if !there {
            self.skip("no server records");
        }
        there
    }

    /// True if there was a complete last scan; else says so.
    pub fn needs_scan(&mut self, facts: &Facts) -> bool {
        if !facts.last.complete() {
            self.skip("no complete last scan");
        }
        facts.last.complete()
    }

    pub(crate) fn verdict(self, checker: &Checker) -> Verdict {
        Verdict {
            id: checker.id,
            title: checker.title,
            judged: self.judged,
            total: self.total,
            violations: self.violations,
            not_judged: self.not_judged.filter(|_| self.judged == 0),
            note: self.note,
        }
    }
}

/// What a checker says of a history.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Id of the invariant.
    pub id: &'static str,
    /// What holds.
    pub title: &'static str,
    /// Things looked at.
    pub judged: u64,
    /// Violations in total.
    pub total: u64,
    /// The first of them.
    pub violations: Vec<Violation>,
    /// Why nothing was judged.
    pub not_judged: Option<&'static str>,
    /// Something worth knowing that is no violation.
    pub note: Option<String>,
}

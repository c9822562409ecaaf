//! The facts of one history in tables, as checkers use them.
//!
//! Names and job ids become small numbers, calls and their completions one row, repeats of a report one attempt: a
//! history of a million operations fits into a few hundred megabytes, once, for all checkers.

mod gather;
mod intern;
mod tables;

use std::collections::{BTreeMap, HashMap};

pub use crate::facts::intern::{Fast, Numbers};
pub use crate::facts::tables::*;
use crate::history::{Applied, Fault, Header, Id, Leader, Micros, Name, Record};

/// Everything a history says.
pub struct Facts {
    /// What the run was.
    pub header: Header,
    /// Records read.
    pub records: u64,
    pub(crate) job_numbers: Numbers<Id>,
    pub(crate) name_numbers: Numbers<Name>,
    /// Calls in the order of their invocations.
    pub calls: Vec<Call>,
    /// Jobs asked for, by any call.
    pub asks: Vec<Ask>,
    /// Jobs looked at.
    pub reads: Vec<Read>,
    /// Cancels.
    pub cancels: Vec<Cancel>,
    /// Queues and kinds stopped or resumed.
    pub pauses: Vec<Pause>,
    /// Changes of the rule book of limits.
    pub rules: Vec<RuleChange>,
    /// Limit keys of jobs asked for, and what a start takes of each.
    pub limit_keys: Vec<(NameNo, u32)>,
    /// Attempts as workers saw them.
    pub attempts: Vec<Attempt>,
    /// Uses of the fenced resource.
    pub writes: Vec<Write>,
    /// Watches.
    pub watches: Vec<Watch>,
    /// Deliveries of watches.
    pub watched: Vec<Delivery>,
    /// Takeovers of the lead.
    pub leaders: Vec<(Line, Leader)>,
    /// What nodes applied, without effects.
    pub applied: Vec<(Line, Applied)>,
    /// Effects by log index, each index once. Empty: the history has no server side.
    pub entries: BTreeMap<u64, Entry>,
    /// Effects of a second node that differ from the first's: both lines.
    pub disputed: Vec<(Line, Line)>,
    /// Faults.
    pub faults: Vec<(Line, Fault)>,
    /// When the last fault was over, if the run said so.
    pub healed: Option<Micros>,
    /// The last scan.
    pub last: Last,
    open: HashMap<(u32, u32), u32, Fast>,
    attempt_of: HashMap<(u64, u32), u32, Fast>,
}

impl Facts {
    /// Nothing yet.
    pub fn new(header: Header) -> Self {
        Self {
            header,
            records: 0,
            job_numbers: Numbers::default(),
            name_numbers: Numbers::default(),
            calls: Vec::new(),
            asks: Vec::new(),
            reads: Vec::new(),
            cancels: Vec::new(),
            pauses: Vec::new(),
            rules: Vec::new(),
            limit_keys: Vec::new(),
            attempts: Vec::new(),
            writes: Vec::new(),
            watches: Vec::new(),
            watched: Vec::new(),
            leaders: Vec::new(),
            applied: Vec::new(),
            entries: BTreeMap::new(),
            disputed: Vec::new(),
            faults: Vec::new(),
            healed: None,
            last: Last::default(),
            open: HashMap::default(),
            attempt_of: HashMap::default(),
        }
    }

    /// The facts of records in memory; the first stands on line 2.
    pub fn of(header: Header, records: impl IntoIterator<Item = Record>) -> Self {
        let mut facts = Self::new(header);
        for (at, record) in records.into_iter().enumerate() {
            facts.see(at as Line + 2, record);
        }
        facts
    }

    /// How many jobs the history knows; they are numbered from 0.
    pub fn jobs(&self) -> usize {
        self.job_numbers.len()
    }

    /// Id of a job by its number.
    pub fn id(&self, job: JobNo) -> Id {
        self.job_numbers.get(job).copied().unwrap_or_default()
    }

    /// Number of a job, if the history knows it.
    pub fn job(&self, id: Id) -> Option<JobNo> {
        self.job_numbers.find(&id)
    }

    /// A name by its number.
    pub fn name(&self, name: NameNo) -> &str {
        self.name_numbers.get(name).map_or("", |name| name)
    }

    /// What was asked of each job, by its number. One that revives a dead job is what that one was.
    pub fn ask_of_jobs(&self) -> Vec<Option<&Ask>> {
        let mut of: Vec<Option<&Ask>> = vec![None; self.jobs()];
        for ask in &self.asks {
            let first = &mut of[ask.job as usize];
            if first.is_none() {
                *first = Some(ask);
            }
        }
        // A revived job may die and be revived again; a chain has no more links than there are asks.
        for job in 0..of.len() {
            let mut ask = of[job];
            for _ in 0..self.asks.len() {
                match ask.and_then(|ask| ask.redrives) {
                    Some(from) => ask = of[from as usize],
                    None => break,
                }
            }
            of[job] = ask.filter(|ask| ask.redrives.is_none());
        }
        of
    }

    /// The call a row belongs to.
    pub fn call(&self, call: u32) -> &Call {
        &self.calls[call as usize]
    }

    /// Clocks of nodes were moved: replicated time says nothing about the recording clock.
    pub fn clocks_moved(&self) -> bool {
        let moved = |fault: &Fault| fault.kind == crate::history::FaultKind::ClockJump;
        self.faults.iter().any(|(_, fault)| moved(fault))
    }

    /// Number of the row of an attempt.
    pub fn attempt(&self, job: JobNo, fence: u64) -> Option<&Attempt> {
        self.attempt_of
            .get(&(fence, job))
            .map(|at| &self.attempts[*at as usize])
    }
}

//! Memory of lately ended jobs, so that a repeated call or report is recognised without a look at the disk.

use std::collections::VecDeque;

use crate::ids::{LogIndex, Millis, Timestamp};
use crate::row::{EndedJob, EndedRow};

/// How long an ended job is remembered at least, unless there are too many.
pub(crate) const KEPT_FOR: Millis = 60_000;
/// How many are remembered at most (more only until the next entry).
pub(crate) const KEPT_MAX: usize = 200_000;

const NUMBERS: u32 = 0x7fff_ffff;

/// Ended jobs in the order of their ends, under numbers of 31 bits that wrap.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    rows: VecDeque<Head>,
    jobs: VecDeque<EndedJob>,
    /// Number of the oldest job.
    base: u32,
    /// Rows up to this index have been taken for writing.
    taken: LogIndex,
    /// Rows not yet taken.
    fresh: usize,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    index: LogIndex,
    at: Timestamp,
    jobs: usize,
}

impl Ring {
    /// Remembers a job; returns its number.
    pub(crate) fn push(&mut self, index: LogIndex, at: Timestamp, job: EndedJob) -> u32 {
        match self.rows.back_mut() {
            Some(row) if row.index == index => row.jobs += 1,
            _ => {
                self.rows.push_back(Head { index, at, jobs: 1 });
                self.fresh += 1;
            }
        }
        let number = self.base.wrapping_add(self.jobs.len() as u32) & NUMBERS;
        self.jobs.push_back(job);
        number
    }

    pub(crate) fn get(&self, number: u32) -> Option<&EndedJob> {
        self.jobs.get((number.wrapping_sub(self.base) & NUMBERS) as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether the oldest row is to be forgotten at `now`.
    pub(crate) fn overdue(&self, now: Timestamp) -> bool {
        self.jobs.len() > KEPT_MAX
            || self
                .rows
                .front()
                .is_some_and(|row| row.at.saturating_add(KEPT_FOR) < now)
    }

    /// Takes out the oldest row: its index, its jobs, and whether it had been taken for writing.
    pub(crate) fn forget_oldest(&mut self) -> Option<(LogIndex, Vec<EndedJob>, bool)> {
        let row = self.rows.pop_front()?;
        let jobs: Vec<EndedJob> = self.jobs.drain(..row.jobs.min(self.jobs.len())).collect();
        self.base = self.base.wrapping_add(jobs.len() as u32) & NUMBERS;
        let written = row.index <= self.taken;
        if !written {
            self.fresh -= 1;
        }
        Some((row.index, jobs, written))
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = EndedRow> {
        let mut from = 0;
        self.rows.iter().map(move |row| {
            let jobs = self.jobs.range(from..from + row.jobs).cloned().collect();
            from += row.jobs;
            EndedRow {
                index: row.index,
                at: row.at,
                jobs,
            }
        })
    }

    /// Rows not yet taken.
    pub(crate) fn fresh(&self) -> usize {
        self.fresh
    }

    /// The rows not yet taken, which are the newest.
    pub(crate) fn take_fresh(&mut self) -> Vec<EndedRow> {
        let mut rows = Vec::with_capacity(self.fresh);
        let mut end = self.jobs.len();
        for row in self.rows.iter().rev().take(self.fresh) {
            let jobs = self.jobs.range(end - row.jobs..end).cloned().collect();
            end -= row.jobs;
            rows.push(EndedRow {
                index: row.index,
                at: row.at,
                jobs,
            });
        }
        self.fresh = 0;
        if let Some(row) = self.rows.back() {
            self.taken = row.index;
        }
        rows
    }

    /// All jobs with their numbers.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u32, &EndedJob)> {
        self.jobs
            .iter()
            .enumerate()
            .map(|(i, job)| (self.base.wrapping_add(i as u32) & NUMBERS, job))
    }
}

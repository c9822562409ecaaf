//! Worker sessions as kept in memory.

use std::cmp::Reverse;

use crate::class::Ready;
use crate::row::SessionRow;

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) row: SessionRow,
    pub(crate) class: u32,
    /// Jobs it runs, in no order.
    pub(crate) leases: Vec<u32>,
    /// Slots that they take.
    pub(crate) held: u64,
    pub(crate) dirty: bool,
    pub(crate) written: bool,
}

impl Session {
    /// Slots that may yet be granted.
    pub(crate) fn free(&self) -> u64 {
        if self.row.quiet {
            0
        } else {
            self.row.credit_total.saturating_sub(self.row.granted_total)
        }
    }

    /// Slots that it has free once all that it runs has ended and been made room for again.
    pub(crate) fn reach(&self) -> u64 {
        if self.row.quiet { 0 } else { self.free() + self.held }
    }

    /// Its place among the ready ones, if it has room and does not gather it.
    pub(crate) fn ready(&self, number: u32) -> Option<Ready> {
        let free = self.free();
        (free > 0 && self.row.gathers.is_none()).then_some((
            Reverse(free),
            self.row.granted_total,
            self.row.spec.session,
            number,
        ))
    }
}

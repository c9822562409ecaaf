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
    pub(crate) dirty: bool,
    pub(crate) written: bool,
}

impl Session {
    /// Attempts it may yet be granted.
    pub(crate) fn free(&self) -> u64 {
        if self.row.quiet {
            0
        } else {
            self.row.credit_total.saturating_sub(self.row.granted_total)
        }
    }

    /// Its place among the ready ones, if it has room.
    pub(crate) fn ready(&self, number: u32) -> Option<Ready> {
        let free = self.free();
        (free > 0).then_some((Reverse(free), self.row.granted_total, self.row.spec.session, number))
    }
}

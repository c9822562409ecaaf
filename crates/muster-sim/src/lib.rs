//! Recorded histories of a cluster, the checkers that judge them, and a deterministic simulator that makes them.
//!
//! [`history`] is what a run wrote down: calls, attempts, faults, the last scan and, where recorded, the applied log.
//! [`facts`] brings the records of one history into order; [`check`] holds one checker per invariant over these facts.
//! [`evidence`] keeps what campaigns came to and makes a page of it.
//! [`sim`] runs the queue core on a modelled log under faults decided by a seed, and judges what it recorded.

pub mod check;
pub mod evidence;
pub mod facts;
pub mod generate;
pub mod sim;
mod tally;

pub use crate::tally::{Tally, judge_file};
pub use muster_record as history;

//! Real clusters under real faults: processes killed and frozen, links cut, held and slowed, workers that hang and lie,
//! with real clients meanwhile. What everybody saw is written to a history, and the checkers of `muster-sim` judge it.

mod applied;
mod end;
mod evidence;
pub mod failpoints;
mod faults;
mod load;
mod net;
mod observer;
mod options;
mod report;
mod run;
mod work;
mod world;

pub use evidence::campaign;
pub use faults::Fault;
pub use options::Options;
pub use report::{FaultCount, Report};
pub use run::run;

/// What a fault needs that this machine lacks; `None`: it can be injected.
pub fn lacking(fault: Fault) -> Option<&'static str> {
    faults::lacking(fault)
}

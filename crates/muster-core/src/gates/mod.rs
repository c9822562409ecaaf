//! Gates in the state: refusing, parking, opening, and how long they live.
//!
//! A start needs every gate of its lane to admit it, all at once. The first gate that refuses, for now, is where the lane
//! waits, so that it costs nothing until that gate opens: at a time (rate, a worker's report), or when an attempt ends
//! (concurrency). Nothing is polled, and no lane waits for another key than its own.
//!
//! A gate whose rate refuses is *shut* until the time at which it would have admitted that start, for all: so nothing
//! cheaper overtakes it for ever. Of several rates that refuse, the one that admits last is shut and no other.
//!
//! Which lanes are parked is not persisted. It need not be: a lane is parked only if it would be refused without any
//! further effect, or if a shown one has its turn before it; so a restored core, which parks just those that are refused,
//! decides the same. Whoever reads more into a lane that is shown than that it may be tried must try it first (`gather.rs`).

mod close;
mod life;
mod park;
mod refuse;

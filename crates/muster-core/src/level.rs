//! Feature levels: which behaviour is in force is decided by the log, not by the program.
//!
//! Every program understands the levels up to [`LEVEL_MAX`]. New behaviour begins at a level of its own, is asked for by
//! `core.level()`, and comes into force at one log index on all replicas, by [`crate::Command::SetLevel`]. A program never
//! applies an entry of a level that it does not understand: the shell sees to that.

/// The level of a log that never set one.
pub const LEVEL_MIN: u32 = 1;
/// The highest level that this program understands.
pub const LEVEL_MAX: u32 = 2;

/// From this level on the state hash covers what callers are told, too: replicas that answer differently differ.
pub(crate) const ANSWERS_IN_HASH: u32 = 2;

/// What a level brought, for people.
pub fn level_means(level: u32) -> &'static str {
    match level {
        0 | LEVEL_MIN => "the first release",
        ANSWERS_IN_HASH => "the state hash covers the answers to callers",
        _ => "not known to this program",
    }
}

//! Exit codes, stable for scripts.

/// Done.
pub const OK: u8 = 0;
/// Refused by the cluster, or failed.
pub const FAILED: u8 = 1;
/// An argument is wrong; nothing was done. Also clap's code.
pub const USAGE: u8 = 2;
/// No such job, queue or tenant for this tenant.
pub const NOT_FOUND: u8 = 3;
/// No node answered, or there is no leader. Certainly nothing was done.
pub const UNAVAILABLE: u8 = 4;
/// No answer in time: it may have been done. Repeating with the same id is safe.
pub const UNKNOWN: u8 = 5;
/// The job waited for ended otherwise than by success.
pub const NOT_SUCCEEDED: u8 = 6;

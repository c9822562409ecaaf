//! Backups of a real node in this process, over real stores and real locations.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod archive;
mod bed;
mod create;
mod refusals;
mod restore;

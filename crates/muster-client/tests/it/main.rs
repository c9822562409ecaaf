//! The client against servers that do as the tests tell them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod fake;
mod producer;
mod worker;

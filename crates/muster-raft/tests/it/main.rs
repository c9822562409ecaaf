//! Tests of whole nodes of the consensus layer, in one binary: each of its own would be compiled and linked for itself.

mod bootstrap;
mod cluster;
mod common;
mod membership;
mod overload;
mod refill;

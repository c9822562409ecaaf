//! The node as a whole, over a stand-in for Raft and over Raft itself.

mod crash;
mod drain;
mod http;
mod life;
mod local;
mod outage;
mod real;
mod silence;

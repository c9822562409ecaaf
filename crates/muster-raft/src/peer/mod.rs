//! The transport between nodes.

mod channels;
mod client;
mod forwarded;
mod hello;
mod joins;
mod server;
mod transfer;

pub(crate) use channels::{Channels, Client, Lane};
pub(crate) use client::Network;
pub(crate) use hello::{ASK, Hello, Standing, hello};
pub(crate) use joins::{ask_hand_over, ask_progress, own_progress};
pub(crate) use server::{PeerServer, Running, session_out};

/// Largest message between nodes: one entry with the largest command, and some room.
pub(crate) const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// The one Raft group of today.
pub(crate) const GROUP: u32 = 1;

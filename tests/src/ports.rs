//! Ports that stay a node's own while it is down.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the system picks ports for outgoing connections: one of those could take the place of a
/// node that is being restarted.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// So many ports on which nobody listens now.
pub fn free_ports(count: usize) -> Vec<u16> {
    // Test processes that run side by side begin at different places.
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    let mut held = Vec::new();
    while held.len() < count {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(step < COUNT, "no free ports from {FIRST} on");
        let port = FIRST + (start + step) % COUNT;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
    }
    held.into_iter().map(|(port, _)| port).collect()
}

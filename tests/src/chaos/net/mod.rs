//! The network between the nodes: a TCP proxy for each ordered pair, all in this process.
//!
//! A node's configuration says that it reaches the others at the proxies. Bytes from node `a` to node `b` pass one [`Flow`],
//! whichever of the two opened the connection, so that a one-way cut is one: requests of `a` and answers of `a` stay away
//! from `b`, and `b` still reaches `a`.
//!
//! Where a proxy listens follows from its pair alone, so that a node knows from its start on how to reach those that join
//! later. All of 127.0.0.0/8 is this machine.

mod flow;
mod link;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;

pub(crate) use flow::{Flow, Met, Mode};

/// Highest id for which there is an address.
pub(crate) const IDS: u64 = 250;

/// All links of a cluster.
pub(crate) struct Net {
    /// Of all proxies.
    port: u16,
    links: Mutex<Links>,
}

#[derive(Default)]
struct Links {
    /// Nodes that take part, and their real ports.
    nodes: BTreeMap<u64, u16>,
    /// Also of nodes that are gone.
    flows: BTreeMap<(u64, u64), Arc<Flow>>,
    proxies: BTreeMap<(u64, u64), JoinHandle<()>>,
}

impl Net {
    /// Opens a proxy for each ordered pair of these nodes: id and real peer port. The proxies' own port must be free on
    /// all addresses.
    pub(crate) async fn start(port: u16, nodes: &[(u64, u16)]) -> std::io::Result<Self> {
        let net = Self {
            port,
            links: Mutex::default(),
        };
        for (id, port) in nodes {
            net.open(*id, *port).await?;
        }
        Ok(net)
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens proxies between a node and all that take part already.
    pub(crate) async fn open(&self, id: u64, port: u16) -> std::io::Result<()> {
        let others = self.links().nodes.clone();
        for (other, other_port) in others {
            for (from, to, port) in [(id, other, other_port), (other, id, port)] {
                let (there, back) = {
                    let mut links = self.links();
                    let mut flow = |pair| Arc::clone(links.flows.entry(pair).or_default());
                    (flow((from, to)), flow((to, from)))
                };
                let proxy = link::open(self.address(from, to), port, there, back).await?;
                self.links().proxies.insert((from, to), proxy);
            }
        }
        self.links().nodes.insert(id, port);
        Ok(())
    }

    /// Closes the proxies of a node that is gone.
    pub(crate) fn close(&self, id: u64) {
        let mut links = self.links();
        links.nodes.remove(&id);
        links.proxies.retain(|(from, to), proxy| {
            let stays = *from != id && *to != id;
            if !stays {
                proxy.abort();
            }
            stays
        });
        for ((from, to), flow) in &links.flows {
            if *from == id || *to == id {
                flow.cut();
            }
        }
    }

    /// Where node `from` finds node `to`, if both take part.
    pub(crate) fn address(&self, from: u64, to: u64) -> SocketAddr {
        let address = Ipv4Addr::new(127, 1, from as u8, to as u8);
        SocketAddr::new(IpAddr::V4(address), self.port)
    }

    /// Where node `from` finds all others that there may ever be.
    pub(crate) fn addresses(&self, from: u64) -> Vec<(u64, String)> {
        let others = (1..=IDS).filter(|to| *to != from);
        others.map(|to| (to, self.address(from, to).to_string())).collect()
    }

    /// Ids of all nodes that take part.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.links().nodes.keys().copied().collect()
    }

    /// Bytes from one node to another.
    pub(crate) fn flow(&self, from: u64, to: u64) -> Arc<Flow> {
        Arc::clone(self.links().flows.entry((from, to)).or_default())
    }

    /// All pairs in which the first is in one group and the second in the other, both ways.
    pub(crate) fn between(one: &[u64], other: &[u64]) -> Vec<(u64, u64)> {
        let mut pairs = Vec::new();
        for a in one {
            for b in other.iter().filter(|b| *b != a) {
                pairs.extend([(*a, *b), (*b, *a)]);
            }
        }
        pairs
    }

    /// Sets the mode of some flows.
    pub(crate) fn set(&self, pairs: &[(u64, u64)], mode: Mode) {
        for (from, to) in pairs {
            self.flow(*from, *to).set(mode);
        }
    }

    /// What some flows did to traffic so far.
    pub(crate) fn met(&self, pairs: &[(u64, u64)]) -> Met {
        pairs.iter().map(|(from, to)| self.flow(*from, *to).met()).sum()
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        for flow in self.links().flows.values() {
            flow.set(Mode::default());
        }
    }
}

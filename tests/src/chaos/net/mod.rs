//! The network between the nodes: a TCP proxy for each ordered pair, all in this process.
//!
//! A node's configuration names the proxies as its peers' addresses. Bytes from node `a` to node `b` pass one [`Flow`],
//! whichever of the two opened the connection, so that a one-way cut is one: requests of `a` and answers of `a` stay away
//! from `b`, and `b` still reaches `a`.

mod flow;
mod link;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) use flow::{Flow, Met, Mode};

/// All links of a cluster.
pub(crate) struct Net {
    ids: Vec<u64>,
    flows: BTreeMap<(u64, u64), Arc<Flow>>,
    addresses: BTreeMap<(u64, u64), SocketAddr>,
}

impl Net {
    /// Opens a proxy for each ordered pair of these nodes: id and real peer port.
    pub(crate) async fn start(nodes: &[(u64, u16)]) -> std::io::Result<Self> {
        let mut flows = BTreeMap::new();
        for (from, _) in nodes {
            for (to, _) in nodes.iter().filter(|(to, _)| to != from) {
                flows.insert((*from, *to), Arc::new(Flow::default()));
            }
        }
        let mut addresses = BTreeMap::new();
        for ((from, to), there) in &flows {
            let port = nodes.iter().find(|(id, _)| id == to).map_or(0, |(_, port)| *port);
            let back = Arc::clone(&flows[&(*to, *from)]);
            let address = link::open(port, Arc::clone(there), back).await?;
            addresses.insert((*from, *to), address);
        }
        Ok(Self {
            ids: nodes.iter().map(|(id, _)| *id).collect(),
            flows,
            addresses,
        })
    }

    /// Where node `from` finds node `to`.
    pub(crate) fn address(&self, from: u64, to: u64) -> SocketAddr {
        self.addresses[&(from, to)]
    }

    /// Ids of all nodes.
    pub(crate) fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Bytes from one node to another.
    pub(crate) fn flow(&self, from: u64, to: u64) -> &Flow {
        &self.flows[&(from, to)]
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
        for flow in self.flows.values() {
            flow.set(Mode::default());
        }
    }
}

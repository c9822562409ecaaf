//! Nodes that come later, and nodes that go.

use std::time::Duration;

use super::{Cluster, Exit, NodePorts, START};
use crate::wait::eventually;

impl Cluster {
    /// Directory and configuration of one more node, which is not started. Its file names itself and one member that
    /// runs, as an operator would write it.
    pub fn prepare_node(&mut self, id: u64) {
        let member = self.processes.iter().find(|process| process.child.is_some());
        let member = member.expect("a node that runs").ports;
        self.prepare_node_with(NodePorts::of(id), &[member], &[]);
    }

    /// The same with ports, the members it asks, and where it reaches others, if not at their addresses.
    pub fn prepare_node_with(&mut self, own: NodePorts, members: &[NodePorts], dial: &[(u64, String)]) {
        let mut nodes = members.to_vec();
        nodes.push(own);
        self.place(own, &nodes, dial);
    }

    /// Starts a node that joins by a token, which is in its environment from then on.
    pub fn start_joining(&mut self, id: u64, token: &str) {
        self.set_environment(id, "MUSTER_JOIN", token);
        self.start_node(id);
    }

    /// A node that does not run is none of this cluster's any more; its files stay.
    pub fn forget(&mut self, id: u64) {
        assert!(self.process(id).child.is_none(), "node {id} runs");
        self.processes.retain(|process| process.ports.id != id);
    }

    /// Gives a node other ports, for its next start; its file is written by the caller.
    pub fn move_node(&mut self, own: NodePorts) {
        self.process_mut(own.id).ports = own;
    }

    /// Ports of a node.
    pub fn ports(&self, id: u64) -> NodePorts {
        self.process(id).ports
    }

    /// Deletes the data of a node that does not run, as a lost disk does.
    pub fn wipe(&self, id: u64) {
        assert!(self.process(id).child.is_none(), "node {id} runs");
        std::fs::remove_dir_all(self.path.join(format!("node-{id}"))).expect("data that was there");
    }

    /// Waits until a node has ended by itself.
    pub async fn exit(&mut self, id: u64) -> Exit {
        self.exit_within(id, START).await
    }

    /// The same with a limit.
    pub async fn exit_within(&mut self, id: u64, limit: Duration) -> Exit {
        let what = format!("node {id} ends");
        let status = eventually(&what, limit, || {
            let ended = self.ended(id);
            async move { ended }
        })
        .await;
        let code = status.code();
        Exit {
            code,
            stderr: self.log(id),
        }
    }
}

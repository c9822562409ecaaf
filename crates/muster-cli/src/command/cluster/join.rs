//! `muster cluster add`, `muster cluster replace`: a token, the command for the new machine, and how the node joins.

use muster_client::NewNode;

use super::{Joining, Run, follow};
use crate::failure::Failure;

pub(super) async fn add(run: &Run, node: u64, joining: Joining, learner: bool) -> Result<(), Failure> {
    let new = NewNode {
        node_id: node,
        learner,
        ..describe(&joining)
    };
    join(run, new, joining, format!("add node {node}")).await
}

pub(super) async fn replace(run: &Run, old: u64, new: u64, joining: Joining) -> Result<(), Failure> {
    let node = NewNode {
        node_id: new,
        replaces: Some(old),
        ..describe(&joining)
    };
    join(run, node, joining, format!("replace node {old} by node {new}")).await
}

fn describe(joining: &Joining) -> NewNode {
    NewNode {
        ttl: joining.ttl,
        peer_address: joining.peer.clone(),
        api_address: joining.api.clone(),
        ..NewNode::default()
    }
}

async fn join(run: &Run, new: NewNode, joining: Joining, action: String) -> Result<(), Failure> {
    let node = new.node_id;
    let made = run.client.create_join_token(&new).await;
    let token = made.map_err(|error| Failure::new(&action, error).if_unknown("repeating the command is safe"))?;
    run.output.remark(&format!(
        "On its machine, in a cluster.toml that names a node of this cluster as well:

  [[node]]
  id = {node}
  api = \"{}\"
  peer = \"{}\"
  data = \"data/node-{node}\"

Start it there with its token, which is good once:

  MUSTER_JOIN={} muster server --config cluster.toml --node {node}
",
        joining.api, joining.peer, token.token
    ));
    if joining.wait.no_wait {
        let value = serde_json::json!({ "node_id": node, "token": token.token });
        run.output.text(value, "");
        return Ok(());
    }
    follow::join(run, &action, node, token.expires_at).await
}

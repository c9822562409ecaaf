//! Changes of the membership other than joins, drains, the lead.

use muster_client::Error;
use serde_json::json;

use super::{Run, Wait, follow};
use crate::failure::Failure;

fn failed(action: &str, error: Error) -> Failure {
    Failure::new(action, error).if_unknown("look at `muster cluster status` before you repeat it")
}

pub(super) async fn remove(run: &Run, node: u64, wait: Wait) -> Result<(), Failure> {
    let action = format!("remove node {node}");
    let begun = run.client.remove_node(node).await;
    follow(run, &action, begun, wait).await?;
    warn_of_few(run).await;
    Ok(())
}

pub(super) async fn promote(run: &Run, node: u64, wait: Wait) -> Result<(), Failure> {
    let begun = run.client.promote_node(node).await;
    follow(run, &format!("promote node {node}"), begun, wait).await
}

pub(super) async fn demote(run: &Run, node: u64, wait: Wait) -> Result<(), Failure> {
    let begun = run.client.demote_node(node).await;
    follow(run, &format!("demote node {node}"), begun, wait).await?;
    warn_of_few(run).await;
    Ok(())
}

pub(super) async fn set_address(run: &Run, node: u64, peer: &str, api: &str, wait: Wait) -> Result<(), Failure> {
    let begun = run.client.set_node_address(node, peer, api).await;
    follow(run, &format!("set the address of node {node}"), begun, wait).await
}

async fn follow(run: &Run, action: &str, begun: Result<u64, Error>, wait: Wait) -> Result<(), Failure> {
    let id = begun.map_err(|error| failed(action, error))?;
    match id {
        0 => run.output.text(json!({ "change_id": 0 }), "nothing to change"),
        id if wait.no_wait => run
            .output
            .text(json!({ "change_id": id }), &format!("change {id} has begun")),
        id => follow::change(run, action, id).await?,
    }
    Ok(())
}

pub(super) async fn abort(run: &Run, reason: &str, wait: Wait) -> Result<(), Failure> {
    let action = "give up the change under way";
    let status = run
        .client
        .cluster_status()
        .await
        .map_err(|error| failed(action, error))?;
    let id = status.change.map_or(0, |change| change.id);
    let asked = run.client.abort_change(id, reason).await;
    asked.map_err(|error| failed(action, error))?;
    if wait.no_wait {
        run.output
            .text(json!({ "change_id": id }), &format!("change {id} is to be given up"));
        return Ok(());
    }
    follow::end(run, action, id).await
}

pub(super) async fn drain(run: &Run, node: u64, note: &str, wait: Wait) -> Result<(), Failure> {
    let action = format!("drain node {node}");
    let drained = run.client.drain_node(node, note).await;
    drained.map_err(|error| Failure::new(&action, error).if_unknown("repeating the command is safe"))?;
    if !wait.no_wait {
        follow::drain(run, &action, node).await?;
    }
    let text = format!("node {node} is drained; it votes and stores on. To end it: muster cluster undrain {node}");
    run.output
        .text(json!({ "node_id": node, "drained": true, "note": note }), &text);
    Ok(())
}

pub(super) async fn undrain(run: &Run, node: u64) -> Result<(), Failure> {
    let undrained = run.client.undrain_node(node).await;
    undrained.map_err(|error| {
        Failure::new(format!("end the drain of node {node}"), error).if_unknown("repeating the command is safe")
    })?;
    let text = format!("node {node} takes worker sessions and may lead again");
    run.output.text(json!({ "node_id": node, "drained": false }), &text);
    Ok(())
}

pub(super) async fn transfer_leader(run: &Run, node: u64) -> Result<(), Failure> {
    let action = format!("have node {node} take the lead");
    let taken = run.client.transfer_leader(node).await;
    taken.map_err(|error| failed(&action, error))?;
    run.output
        .text(json!({ "leader_id": node }), &format!("node {node} leads"));
    Ok(())
}

/// What a small cluster does not survive any more should be said when it becomes small.
async fn warn_of_few(run: &Run) {
    let Ok(status) = run.client.cluster_status().await else {
        return;
    };
    let voters = status.members.iter().filter(|member| member.role != "learner").count();
    if voters < 3 {
        run.output.remark(&format!(
            "{voters} voters are left: the cluster stands still when one of them fails; three survive the loss of one"
        ));
    }
}

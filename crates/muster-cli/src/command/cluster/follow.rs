//! How a change goes: a line for each step, or one moving line on a terminal. It goes on without this command.

use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use muster_client::{ClusterStatus, MembershipChange};

use super::Run;
use crate::args::Format;
use crate::failure::Failure;
use crate::{human, json};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Tells people how it goes.
struct Teller<'a> {
    run: &'a Run,
    bar: Option<ProgressBar>,
    said: String,
}

impl<'a> Teller<'a> {
    fn new(run: &'a Run) -> Self {
        let moving = run.output.format == Format::Table && std::io::stderr().is_terminal();
        let bar = moving.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self {
            run,
            bar,
            said: String::new(),
        }
    }

    fn say(&mut self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
            return;
        }
        // Lines that differ in a number alone would only fill the screen.
        let begin = text.split(',').next().unwrap_or_default();
        if !begin.is_empty() && begin != self.said {
            begin.clone_into(&mut self.said);
            self.run.output.remark(text);
        }
    }
}

impl Drop for Teller<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

async fn look(run: &Run) -> Option<ClusterStatus> {
    // A change of leader is part of many changes; the next look finds the new one.
    run.client.cluster_status().await.ok()
}

/// Waits until a change is through, and shows what came of it.
pub(super) async fn change(run: &Run, action: &str, id: u64) -> Result<(), Failure> {
    let change = until_over(run, id).await;
    show(run, &change);
    if change.is_done() {
        return Ok(());
    }
    Err(Failure::undone(action, undone(&change)))
}

/// Waits until a change is over, whatever comes of it.
pub(super) async fn end(run: &Run, action: &str, id: u64) -> Result<(), Failure> {
    let change = until_over(run, id).await;
    show(run, &change);
    if change.is_done() {
        return Err(Failure::undone(
            action,
            "it had gone too far and was completed".to_owned(),
        ));
    }
    Ok(())
}

async fn until_over(run: &Run, id: u64) -> MembershipChange {
    let mut teller = Teller::new(run);
    loop {
        if let Some(status) = look(run).await {
            if let Some(ended) = status.last_change.filter(|ended| ended.id == id) {
                return ended;
            }
            match &status.change {
                Some(change) if change.id == id => teller.say(&change.stage),
                // Another one came and went since: this one is over, and only the last is remembered.
                Some(change) if change.id > id => {
                    return MembershipChange {
                        id,
                        outcome: "over",
                        ..MembershipChange::default()
                    };
                }
                _ => {}
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits for a new node: until it shows its token, and then until it belongs.
pub(super) async fn join(run: &Run, action: &str, node: u64, expires_at: Option<SystemTime>) -> Result<(), Failure> {
    let id = {
        let mut teller = Teller::new(run);
        teller.say(&format!("waiting for node {node} to show its token"));
        loop {
            if let Some(status) = look(run).await {
                let ours = |change: &&MembershipChange| {
                    change.node_id == node && (change.change.starts_with("add") || change.change.starts_with("replace"))
                };
                let begun = status.change.iter().chain(&status.last_change).find(ours);
                if let Some(change) = begun {
                    break change.id;
                }
                if status.members.iter().any(|member| member.node_id == node) {
                    break 0;
                }
            }
            // The cluster's clock may differ from this one: a while more.
            let late = |at: SystemTime| SystemTime::now() > at + Duration::from_mins(1);
            if expires_at.is_some_and(late) {
                let text = format!("node {node} did not show its token before that expired; make another one");
                return Err(Failure::undone(action, text));
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    if id == 0 {
        run.output.text(
            serde_json::json!({ "node_id": node }),
            &format!("node {node} is a member"),
        );
        return Ok(());
    }
    change(run, action, id).await
}

/// Waits until a drained node neither leads nor holds worker sessions.
pub(super) async fn drain(run: &Run, action: &str, node: u64) -> Result<(), Failure> {
    let mut teller = Teller::new(run);
    loop {
        if let Some(status) = look(run).await {
            let Some(member) = status.members.iter().find(|member| member.node_id == node) else {
                return Err(Failure::undone(action, format!("node {node} is no member any more")));
            };
            if !member.drained {
                return Err(Failure::undone(action, "somebody ended the drain".to_owned()));
            }
            match (member.role, member.worker_sessions) {
                ("leader", _) => teller.say("handing over the lead"),
                (_, 0) => return Ok(()),
                (_, sessions) => teller.say(&format!("waiting for worker sessions to leave, {sessions} are left")),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn undone(change: &MembershipChange) -> String {
    if change.outcome == "undone" {
        format!("it was undone: {}", change.reason)
    } else {
        "it is over, and what came of it is not remembered; see `muster cluster status`".to_owned()
    }
}

fn show(run: &Run, change: &MembershipChange) {
    let took = match (change.begun_at, change.ended_at) {
        (Some(from), Some(to)) => to.duration_since(from).ok(),
        _ => None,
    };
    let took = took
        .map(|took| format!(" in {}", human::duration(took)))
        .unwrap_or_default();
    run.output.text(
        json::change(change),
        &format!("{}: {}{took}", change.change, change.outcome),
    );
}

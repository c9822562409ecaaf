//! Nodes that come and go while everything else happens, and a lead that is handed over.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_client::{Client, ClusterStatus, Code, Error, MembershipChange, NewNode};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::Instant;

use super::Fault;
use super::schedule::{Effect, Injector};
use crate::NodePorts;
use crate::chaos::net::IDS;

/// Fewer voters never, so that the loss of one is borne.
const VOTERS_MIN: usize = 3;
/// More never: the machine has other things to do.
const VOTERS_MAX: usize = 5;
/// Longest wait for a change to be over, other faults going on.
const OVER: Duration = Duration::from_secs(100);
/// Longest wait for a member's answer to one call.
const CALL: Duration = Duration::from_secs(15);
/// Longest wait for a call to be taken.
const TAKEN: Duration = Duration::from_secs(40);
/// Longest time from the last fault until the membership is at rest.
const REST: Duration = Duration::from_mins(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// How often a join is given up half-way, in percent.
const ABORT: u32 = 25;
/// How often a node that lost its disk is tried under its old id, in percent.
const TRY_AGAIN: u32 = 40;
/// How often the leader is the one, in percent.
const LEADER: u32 = 50;

pub(super) async fn inject(injector: &Injector, fault: Fault, rng: &mut StdRng) -> Effect {
    let operator = Operator::new(injector);
    let done = match fault {
        Fault::AddNode => operator.add(rng).await,
        Fault::RemoveNode => operator.remove(rng).await,
        Fault::ReplaceNode => operator.replace(rng).await,
        Fault::TransferLeader => operator.transfer(rng).await,
        _ => operator.drain(rng).await,
    };
    match done {
        Ok(target) => Effect {
            target,
            took_effect: true,
        },
        Err(target) => Effect {
            target,
            took_effect: false,
        },
    }
}

/// What was done, or why not.
type Done = Result<String, String>;

/// Someone who changes the membership.
pub(in crate::chaos) struct Operator<'a> {
    injector: &'a Injector,
    pub(in crate::chaos) client: Client,
    /// The only member that new nodes know, if not some.
    pub(in crate::chaos) member: Option<u64>,
}

impl<'a> Operator<'a> {
    pub(in crate::chaos) fn new(injector: &'a Injector) -> Self {
        let client = Client::builder()
            .addresses(injector.world.addresses.all())
            .deadline(CALL)
            .attempt_timeout(Duration::from_secs(2));
        Self {
            injector,
            client: client.connect_lazy().expect("good addresses"),
            member: None,
        }
    }

    async fn status(&self) -> Option<ClusterStatus> {
        self.client.cluster_status().await.ok()
    }

    /// The leader's view of a membership that nobody is changing.
    async fn quiet(&self) -> Result<ClusterStatus, String> {
        let end = Instant::now() + CALL;
        while Instant::now() < end {
            if let Some(status) = self.status().await
                && status.leader_id == Some(status.node_id)
                && status.change.is_none()
                && !status.joint
            {
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
        Err("no leader without a change under way".into())
    }

    /// Repeats a call until it is known how it went.
    async fn known<T, F: Future<Output = Result<T, Error>>>(&self, call: impl Fn() -> F) -> Result<T, String> {
        let end = Instant::now() + TAKEN;
        loop {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let passing = matches!(error.code(), Some(Code::Unavailable | Code::DeadlineExceeded));
                    if Instant::now() >= end || !(passing || error.is_unknown()) {
                        return Err(error.to_string());
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a change of this node that begins with these words is over.
    async fn over(&self, node: u64, words: &str) -> Result<MembershipChange, String> {
        let end = Instant::now() + OVER;
        let mut stage = String::new();
        while Instant::now() < end {
            if let Some(status) = self.status().await {
                let ours = |change: &MembershipChange| change.node_id == node && change.change.starts_with(words);
                if let Some(change) = status.last_change.filter(ours) {
                    return Ok(change);
                }
                if let Some(change) = status.change {
                    stage = change.stage;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(format!("{words} {node} not over after {OVER:?}, last: {stage}"))
    }

    /// Makes room for a node, gives it a token, starts it.
    async fn bring(&self, replaces: Option<u64>, rng: &mut StdRng) -> Result<u64, String> {
        let injector = self.injector;
        let id = injector.next_id.fetch_add(1, Ordering::Relaxed);
        if id > IDS {
            return Err("no id is left".into());
        }
        let new = NewNode {
            node_id: id,
            replaces,
            ..NewNode::default()
        };
        let token = self.known(|| self.client.create_join_token(&new)).await?.token;
        if let Some(lost) = replaces {
            injector.lose(lost);
            if rng.random_range(0..100) < TRY_AGAIN {
                let refused = injector.is_refused(lost, Duration::from_secs(8)).await;
                if refused == Some(false) {
                    let what = format!("node {lost}, which lost its data, was not refused; see node-{lost}.log");
                    injector.world.complaints.add(what);
                }
            }
            injector.retire(lost);
        }
        let ids = injector.net.ids();
        let some = ids.choose_multiple(rng, 2).copied().collect();
        let asked: Vec<u64> = self.member.map_or(some, |member| vec![member]);
        injector
            .prepare(NodePorts::of(id), &asked)
            .await
            .map_err(|error| format!("proxies of node {id}: {error}"))?;
        injector.cluster().start_joining(id, &token);
        Ok(id)
    }

    /// Brings in a node. With this probability, in percent, the join is given up half-way.
    pub(in crate::chaos) async fn grow(&self, abort_percent: u32, rng: &mut StdRng) -> Done {
        let id = self.bring(None, rng).await?;
        let mut aborted = false;
        if rng.random_range(0..100) < abort_percent {
            self.injector.may_leave(id);
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..3_000))).await;
            aborted = self.abort(id).await;
        }
        let change = self.over(id, "add").await?;
        if change.is_done() {
            self.injector.stays_after_all(id);
            self.injector.welcome(id);
            return Ok(format!("node {id} joined"));
        }
        if !aborted {
            let reason = &change.reason;
            self.injector
                .world
                .complaints
                .add(format!("the join of node {id} was undone: {reason}"));
        }
        self.injector.has_left(id);
        Ok(format!("node {id} given up half-way"))
    }

    /// Gives up the join of this node, if it is under way.
    async fn abort(&self, node: u64) -> bool {
        let Some(status) = self.status().await else {
            return false;
        };
        let Some(change) = status.change.filter(|change| change.node_id == node) else {
            return false;
        };
        let asked = self.known(|| self.client.abort_change(change.id, "chaos")).await;
        asked.is_ok()
    }

    async fn shrink(&self, rng: &mut StdRng) -> Done {
        let ids = self.injector.net.ids();
        let leaving = self.injector.leaving();
        let mut stay: Vec<u64> = ids.into_iter().filter(|id| !leaving.contains(id)).collect();
        let leader = self.injector.observer.leader();
        if rng.random_range(0..100) < LEADER
            && let Some(leader) = leader.filter(|leader| stay.contains(leader))
        {
            stay = vec![leader];
        }
        let node = *stay.choose(rng).ok_or("no node is there")?;
        self.take_out(node).await
    }

    /// Has a node removed; its process must end by itself after.
    pub(in crate::chaos) async fn take_out(&self, node: u64) -> Done {
        self.injector.may_leave(node);
        // Not repeated by itself when unknown: it may have begun.
        match self.client.remove_node(node).await {
            Err(error) if !error.is_unknown() => {
                self.injector.stays_after_all(node);
                return Err(format!("node {node}: {error}"));
            }
            _ => {}
        }
        let change = self.over(node, "remove").await?;
        if change.is_done() {
            self.injector.has_left(node);
            Ok(format!("node {node} removed"))
        } else {
            self.injector.stays_after_all(node);
            Err(format!("node {node} stays: {}", change.reason))
        }
    }

    async fn add(&self, rng: &mut StdRng) -> Done {
        if voters(&self.quiet().await?) >= VOTERS_MAX {
            self.shrink(rng).await?;
        }
        self.grow(ABORT, rng).await
    }

    async fn remove(&self, rng: &mut StdRng) -> Done {
        if voters(&self.quiet().await?) <= VOTERS_MIN {
            self.grow(ABORT, rng).await?;
            if voters(&self.quiet().await?) <= VOTERS_MIN {
                return Err("too few voters".into());
            }
        }
        self.shrink(rng).await
    }

    async fn replace(&self, rng: &mut StdRng) -> Done {
        let held = self.injector.data.try_lock();
        let _held = held.map_err(|_| "the data of a node is damaged already")?;
        let status = self.quiet().await?;
        let leaving = self.injector.leaving();
        let voters: Vec<_> = status
            .members
            .iter()
            .filter(|member| member.role != "learner")
            .collect();
        // Of three copies one is about to go: the others must be there.
        if voters.len() < VOTERS_MIN || voters.iter().any(|member| member.reachable == Some(false)) {
            return Err("a node is away already".into());
        }
        let there: Vec<u64> = voters
            .iter()
            .map(|member| member.node_id)
            .filter(|id| !leaving.contains(id))
            .collect();
        let old = *there.choose(rng).ok_or("no node is there")?;
        let new = self.bring(Some(old), rng).await?;
        let change = self.over(new, "replace").await?;
        if !change.is_done() {
            let what = format!("node {new} did not take the place of node {old}: {}", change.reason);
            self.injector.world.complaints.add(what.clone());
            return Err(what);
        }
        self.injector.welcome(new);
        Ok(format!("node {new} in the place of node {old}"))
    }

    /// The follower that is named first may be down by another fault: an operator would name another one.
    async fn transfer(&self, rng: &mut StdRng) -> Done {
        let end = Instant::now() + TAKEN;
        loop {
            let done = self.hand_over(rng).await;
            if done.is_ok() || Instant::now() >= end {
                return done;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn hand_over(&self, rng: &mut StdRng) -> Done {
        let status = self.quiet().await?;
        let others = status.members.iter().filter(|member| member.role == "follower");
        let others: Vec<u64> = others.map(|member| member.node_id).collect();
        let node = *others.choose(rng).ok_or("no follower is there")?;
        let taken = self.client.transfer_leader(node).await;
        taken.map_err(|error| format!("node {node}: {error}"))?;
        Ok(format!("node {node} took the lead"))
    }

    async fn drain(&self, rng: &mut StdRng) -> Done {
        let node = self.injector.some_node(rng, LEADER);
        self.known(|| self.client.drain_node(node, "chaos")).await?;
        let drained = self.drained(node).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..3_000))).await;
        let undrained = self.known(|| self.client.undrain_node(node)).await;
        if drained? {
            undrained?;
            Ok(format!("node {node} drained for a while"))
        } else {
            Err(format!("node {node} kept the lead or sessions"))
        }
    }

    /// Whether a node has given up the lead and its sessions in time.
    async fn drained(&self, node: u64) -> Result<bool, String> {
        let end = Instant::now() + CALL;
        while Instant::now() < end {
            if let Some(status) = self.status().await {
                let member = status.members.iter().find(|member| member.node_id == node);
                let member = member.ok_or("it is no member any more")?;
                if member.drained && member.role != "leader" && member.worker_sessions == 0 {
                    return Ok(true);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(false)
    }
}

fn voters(status: &ClusterStatus) -> usize {
    status.members.iter().filter(|member| member.role != "learner").count()
}

impl Injector {
    /// After everything was healed: drains are ended, no change is under way, all nodes agree on who they are, and those
    /// that left have ended.
    pub(crate) async fn rest(&self) {
        let operator = Operator::new(self);
        let end = Instant::now() + REST;
        let mut unrest = "nobody answered".to_owned();
        while Instant::now() < end {
            match self.at_rest(&operator).await {
                Ok(()) => return,
                Err(what) => unrest = what,
            }
            tokio::time::sleep(LOOK).await;
        }
        let what = format!("the membership is not at rest {REST:?} after the last fault: {unrest}");
        self.world.complaints.add(what);
    }

    async fn at_rest(&self, operator: &Operator<'_>) -> Result<(), String> {
        let status = operator.quiet().await?;
        let members: Vec<u64> = status.members.iter().map(|member| member.node_id).collect();
        for member in status.members.iter().filter(|member| member.drained) {
            let undrained = operator.client.undrain_node(member.node_id).await;
            undrained.map_err(|error| error.to_string())?;
        }
        for node in self.leaving() {
            if members.contains(&node) {
                self.stays_after_all(node);
            } else {
                self.has_left(node);
            }
        }
        // A change that a fault did not see the end of.
        let watched = self.world.addresses.all();
        for member in &status.members {
            if !watched.contains(&format!("http://{}", member.api_address)) {
                self.welcome(member.node_id);
            }
        }
        self.look_after();
        if let Some(learner) = status.members.iter().find(|member| member.role == "learner") {
            return Err(format!("node {} is a learner", learner.node_id));
        }
        let ids = self.net.ids();
        if ids != members {
            return Err(format!("members {members:?}, nodes {ids:?}"));
        }
        for id in ids {
            let theirs = self
                .observer
                .ask(id)
                .await
                .ok_or(format!("node {id} does not answer"))?;
            let same = theirs
                .members
                .iter()
                .map(|member| member.node_id)
                .eq(members.iter().copied());
            if !same || theirs.joint || theirs.change.is_some() || theirs.membership_index != status.membership_index {
                return Err(format!("node {id} knows another membership"));
            }
        }
        Ok(())
    }
}

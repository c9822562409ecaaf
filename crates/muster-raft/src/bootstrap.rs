//! How a node finds out which cluster it belongs to, without ever making two.
//!
//! An empty node asks all configured members. If one of them already takes part and knows this node, the node was wiped
//! and must not return. If all are there and none takes part, the one with the lowest id chooses a cluster id (or takes
//! one that an interrupted earlier try left behind), writes it down, has every other node write it down, and only then
//! initialises raft. A crash in between leaves a state from which the same steps go on.

use std::time::Duration;

use muster_core::NodeId;
use muster_proto::peer as wire;
use muster_store::{Identity, Store};
use tokio::sync::watch;
use tonic::Request;

use crate::convert;
use crate::error::Error;
use crate::options::RaftOptions;
use crate::peer::{Channels, Lane};
use crate::succession::Ours;

/// One question to one node.
const ASK: Duration = Duration::from_secs(1);
/// Wait between rounds of questions.
const PAUSE: Duration = Duration::from_millis(100);
/// Rounds between two log lines about members that are missing.
const REMIND_EVERY: u32 = 50;

/// What another member says of itself.
#[derive(Clone, Debug)]
struct Answer {
    node: NodeId,
    cluster: Option<u128>,
    predecessor: Option<u128>,
    initialised: bool,
    members: Vec<NodeId>,
    configured: Vec<NodeId>,
}

/// What is known at the start and what the members are asked through.
pub(crate) struct Starter<'a> {
    pub(crate) options: &'a RaftOptions,
    pub(crate) store: &'a Store,
    pub(crate) channels: &'a Channels,
    /// The cluster of this node; the peer server sets it when another node binds this one.
    pub(crate) cluster: &'a watch::Sender<Option<u128>>,
}

impl Starter<'_> {
    /// The cluster of this node: from its identity, or found out. Returns when known.
    pub(crate) async fn identify(&self) -> Result<u128, Error> {
        let node = self.options.node;
        if let Some(identity) = self.store.identity() {
            if identity.node != node {
                return Err(Error::OtherNode {
                    configured: node,
                    found: identity.node,
                });
            }
            self.cluster.send_replace(Some(identity.cluster));
            for answer in self.ask_all().await? {
                let Some(theirs) = answer.cluster else { continue };
                let ours = Ours {
                    node,
                    cluster: identity.cluster,
                    predecessor: identity.predecessor,
                };
                ours.judge(answer.node, theirs, answer.predecessor)?;
            }
            return Ok(identity.cluster);
        }
        if self.store.log().bounds().last.is_some() {
            return Err(Error::LostIdentity { node });
        }
        self.find_cluster().await
    }

    /// Waits until all others are bound. True: this node is to initialise raft. False: that is not its task, or it
    /// was done before.
    pub(crate) async fn prepare_initialise(&self, cluster: u128) -> Result<bool, Error> {
        if !self.lowest() {
            return Ok(false);
        }
        let mut round = 0;
        loop {
            let answers = self.ask_all().await?;
            if answers.iter().any(|answer| answer.initialised) {
                // Another node has a log, so raft was initialised before: this node joins by replication.
                return Ok(false);
            }
            if self.complete(&answers)? && self.bind_all(cluster).await {
                return Ok(true);
            }
            self.wait(&mut round, &answers).await;
        }
    }

    async fn find_cluster(&self) -> Result<u128, Error> {
        let mut bound = self.cluster.subscribe();
        let mut round = 0;
        loop {
            let answers = self.ask_all().await?;
            // Asked first, looked second: a node is bound before any other is initialised, so one that is bound now
            // was not wiped, whatever the answers say.
            if let Some(cluster) = *bound.borrow_and_update() {
                return Ok(cluster);
            }
            self.refuse_wiped(&answers)?;
            if self.complete(&answers)? && self.lowest() {
                let cluster = choose(&answers);
                let identity = Identity::new(cluster, self.options.node);
                let store = self.store.clone();
                let saved = tokio::task::spawn_blocking(move || store.set_identity(identity)).await;
                saved.map_err(|err| Error::Start(err.to_string()))??;
                self.cluster.send_replace(Some(cluster));
                tracing::info!(node = self.options.node, "new cluster {cluster:032x}");
                return Ok(cluster);
            }
            tokio::select! {
                () = self.wait(&mut round, &answers) => {}
                changed = bound.wait_for(Option::is_some) => drop(changed),
            }
        }
    }

    fn lowest(&self) -> bool {
        self.options.members.iter().all(|member| member.id >= self.options.node)
    }

    /// All others answered, with the same list of members.
    fn complete(&self, answers: &[Answer]) -> Result<bool, Error> {
        let ours = self.configured();
        for answer in answers {
            if answer.configured != ours {
                return Err(Error::MembersDiffer {
                    node: self.options.node,
                    ours,
                    peer: answer.node,
                    theirs: answer.configured.clone(),
                });
            }
        }
        Ok(answers.len() + 1 == self.options.members.len())
    }

    fn configured(&self) -> Vec<NodeId> {
        configured(self.options)
    }

    fn refuse_wiped(&self, answers: &[Answer]) -> Result<(), Error> {
        let node = self.options.node;
        let Some(answer) = answers.iter().find(|answer| answer.initialised) else {
            return Ok(());
        };
        let cluster = answer.cluster.unwrap_or_default();
        // A node that voted but has no log yet: the membership will be its configuration.
        let members = if answer.members.is_empty() {
            &answer.configured
        } else {
            &answer.members
        };
        if members.contains(&node) {
            return Err(Error::WipedNode {
                node,
                peer: answer.node,
                cluster,
            });
        }
        Err(Error::NotMember {
            node,
            cluster,
            members: members.clone(),
        })
    }

    async fn wait(&self, round: &mut u32, answers: &[Answer]) {
        if (*round).is_multiple_of(REMIND_EVERY) {
            let here: Vec<_> = answers.iter().map(|answer| answer.node).collect();
            let missing: Vec<_> = self
                .configured()
                .into_iter()
                .filter(|id| *id != self.options.node && !here.contains(id))
                .collect();
            tracing::info!(
                node = self.options.node,
                ?missing,
                "waiting for the members of a new cluster"
            );
        }
        *round += 1;
        tokio::time::sleep(PAUSE).await;
    }

    async fn ask_all(&self) -> Result<Vec<Answer>, Error> {
        let others = self
            .options
            .members
            .iter()
            .filter(|member| member.id != self.options.node);
        let answers = futures::future::join_all(others.map(|member| self.ask(member.id))).await;
        answers.into_iter().filter_map(Result::transpose).collect()
    }

    /// `None` when it does not answer.
    async fn ask(&self, to: NodeId) -> Result<Option<Answer>, Error> {
        let Ok(mut client) = self.channels.client(to, None, Lane::Control) else {
            return Ok(None);
        };
        let request = wire::HelloRequest {
            from: self.options.node,
            to,
        };
        let Ok(Ok(reply)) = tokio::time::timeout(ASK, client.hello(Request::new(request))).await else {
            return Ok(None);
        };
        let reply = reply.into_inner();
        if reply.node != to {
            return Err(Error::WrongNode {
                expected: to,
                actual: reply.node,
            });
        }
        Ok(Some(Answer {
            node: to,
            cluster: reply.cluster.map(convert::cluster_in),
            predecessor: reply.predecessor.map(convert::cluster_in),
            initialised: reply.initialised,
            members: reply.members,
            configured: reply.configured,
        }))
    }

    /// True when every other member has written the cluster down.
    async fn bind_all(&self, cluster: u128) -> bool {
        let others = self
            .options
            .members
            .iter()
            .filter(|member| member.id != self.options.node);
        let bound = futures::future::join_all(others.map(|member| self.bind(member.id, cluster))).await;
        bound.into_iter().all(|bound| bound)
    }

    async fn bind(&self, to: NodeId, cluster: u128) -> bool {
        let Ok(mut client) = self.channels.client(to, None, Lane::Control) else {
            return false;
        };
        let request = wire::BootstrapRequest {
            cluster: Some(convert::cluster_out(cluster)),
            from: self.options.node,
            to,
        };
        match tokio::time::timeout(ASK * 5, client.bootstrap(Request::new(request))).await {
            Ok(Ok(_)) => true,
            Ok(Err(status)) => {
                tracing::warn!(to, %status, "a member did not accept the cluster id");
                false
            }
            Err(_) => false,
        }
    }
}

/// An id that an interrupted try left behind, or a new one.
fn choose(answers: &[Answer]) -> u128 {
    let found = answers.iter().find_map(|answer| answer.cluster);
    found.unwrap_or_else(rand::random)
}

/// Ids of the configured members, sorted.
pub(crate) fn configured(options: &RaftOptions) -> Vec<NodeId> {
    let mut ids: Vec<_> = options.members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    ids
}

//! How a node finds out which cluster it belongs to, without ever making two.
//!
//! An empty node asks all configured members. If one of them already takes part and knows this node, the node was wiped
//! and must not return. If all are there and none takes part, the one with the lowest id chooses a cluster id (or takes
//! one that an interrupted earlier try left behind), writes it down, has every other node write it down, and only then
//! initialises raft. A crash in between leaves a state from which the same steps go on.
//!
//! An empty node with a join token begins nothing: it writes down the cluster of its token, shows it to a member, and is
//! brought in by the leader. A node that has data asks whether it still belongs, and where the others think it is.

use std::time::Duration;

use muster_core::NodeId;
use muster_failpoint::failpoint;
use muster_proto::peer as wire;
use muster_store::{Identity, Store};
use tokio::sync::watch;
use tonic::Request;

use crate::convert;
use crate::error::Error;
use crate::join::{self, JoinToken};
use crate::options::{MemberConfig, RaftOptions};
use crate::peer::{ASK, Channels, Hello, Lane, Standing, hello};
use crate::succession::Ours;

/// Wait between rounds of questions.
const PAUSE: Duration = Duration::from_millis(100);
/// Rounds between two log lines about members that are missing.
const REMIND_EVERY: u32 = 50;

/// What is known at the start and what the members are asked through.
pub(crate) struct Starter<'a> {
    pub(crate) options: &'a RaftOptions,
    pub(crate) store: &'a Store,
    pub(crate) channels: &'a Channels,
    /// The cluster of this node; the peer server sets it when another node binds this one.
    pub(crate) cluster: &'a watch::Sender<Option<u128>>,
    /// Where the cluster knew this node when its state was last saved, if it did.
    pub(crate) known_at: Option<MemberConfig>,
}

/// Where this node belongs.
pub(crate) struct Belongs {
    pub(crate) cluster: u128,
    /// It is one of the cluster's first nodes, so it may be the one that begins it.
    pub(crate) founder: bool,
    /// Its address was compared with what the cluster knows.
    pub(crate) placed: bool,
}

impl Starter<'_> {
    /// The cluster of this node: from its identity, by its token, or found out. Returns when known.
    pub(crate) async fn identify(&self) -> Result<Belongs, Error> {
        let node = self.options.node;
        // A log that is being refilled is empty because it was put aside.
        let empty = self.store.log().bounds().last.is_none() && !self.store.refilling();
        if let Some(identity) = self.store.identity() {
            if identity.node != node {
                return Err(Error::OtherNode {
                    configured: node,
                    found: identity.node,
                });
            }
            return self.return_to(identity, empty).await;
        }
        if let Some(token) = &self.options.join {
            let identity = Identity {
                instance: rand::random(),
                ..Identity::new(token.cluster, node)
            };
            self.save(identity).await?;
            failpoint!("join.identity.saved", Error::injected);
            self.join(token, identity.instance).await?;
            failpoint!("join.token.accepted", Error::injected);
            return Ok(Belongs {
                cluster: token.cluster,
                founder: false,
                placed: true,
            });
        }
        let cluster = self.find_cluster().await?;
        Ok(Belongs {
            cluster,
            founder: true,
            placed: true,
        })
    }

    async fn save(&self, identity: Identity) -> Result<(), Error> {
        let store = self.store.clone();
        let saved = tokio::task::spawn_blocking(move || store.set_identity(identity)).await;
        saved.map_err(|err| Error::Start(err.to_string()))??;
        Ok(())
    }

    /// A node that was here before.
    async fn return_to(&self, identity: Identity, empty: bool) -> Result<Belongs, Error> {
        let mut belongs = Belongs {
            cluster: identity.cluster,
            founder: !identity.joins(),
            placed: false,
        };
        if let Some(token) = self.options.join.as_ref().filter(|_| identity.joins() && empty) {
            if token.cluster != identity.cluster {
                return Err(Error::TokenOfOtherCluster {
                    node: identity.node,
                    token: token.cluster,
                    peer: identity.node,
                    theirs: identity.cluster,
                });
            }
            self.join(token, identity.instance).await?;
            belongs.placed = true;
            return Ok(belongs);
        }
        self.cluster.send_replace(Some(identity.cluster));
        let ours = Ours {
            node: identity.node,
            cluster: identity.cluster,
            predecessor: identity.predecessor,
        };
        let mut round = 0;
        loop {
            let mut answers = self.ask_all().await;
            for answer in &answers {
                let Some(theirs) = answer.cluster else { continue };
                ours.judge(answer.node, theirs, answer.predecessor)?;
                if let Some(witness) = answer.witness {
                    witness.check(identity.node, answer.node, self.store)?;
                }
            }
            // What a node of the cluster that this one took the place of says of its members is over.
            answers.retain(|answer| answer.cluster.is_none_or(|theirs| theirs == identity.cluster));
            belongs.placed = self.check_standing(identity.cluster, &answers)?;
            let known = |answer: &Hello| matches!(answer.standing, Some(Standing::Belongs { .. }));
            if !identity.joins() || !empty || answers.iter().any(known) {
                return Ok(belongs);
            }
            // Its token may have been taken or not: that is for the members to say.
            if answers.iter().any(|answer| answer.standing == Some(Standing::Unknown)) {
                return Err(self.not_member(identity.cluster, &answers));
            }
            self.wait(&mut round, &answers).await;
        }
    }

    /// Refuses a node that left, and one that is not where the cluster thinks it is. False: nobody knows where it is.
    fn check_standing(&self, cluster: u128, answers: &[Hello]) -> Result<bool, Error> {
        let own = self.options.own();
        let mut places = Vec::new();
        for answer in answers {
            match &answer.standing {
                Some(Standing::Removed { index }) => {
                    return Err(Error::Removed {
                        node: own.id,
                        cluster,
                        index: *index,
                        next: answer.next_node,
                        peer: own.peer.into(),
                        api: own.api.into(),
                    });
                }
                Some(Standing::Belongs { peer, api }) => places.push(MemberConfig {
                    id: own.id,
                    peer: peer.clone(),
                    api: api.clone(),
                }),
                Some(Standing::Unknown) | None => {}
            }
        }
        // What is said now counts more than what was saved.
        if places.is_empty() {
            places.extend(self.known_at.clone());
        }
        // A member that lags may not have heard of a move yet.
        let checked = places.iter().map(|place| check_place(self.options, place));
        match checked.reduce(Result::or) {
            Some(checked) => checked.map(|()| true),
            None => Ok(false),
        }
    }

    /// Shows the token until it is taken.
    async fn join(&self, token: &JoinToken, instance: u128) -> Result<(), Error> {
        let own = self.options.own();
        let others: Vec<_> = self.others().map(|member| member.id).collect();
        self.cluster.send_replace(Some(token.cluster));
        self.channels.bind(token.cluster);
        join::join(self.channels, token, &own, instance, &others).await
    }

    /// Waits until all others are bound. True: this node is to initialise raft. False: that is not its task, or it
    /// was done before.
    pub(crate) async fn prepare_initialise(&self, cluster: u128) -> Result<bool, Error> {
        if !self.lowest() {
            return Ok(false);
        }
        let mut round = 0;
        loop {
            let answers = self.ask_founders().await?;
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
            let answers = self.ask_founders().await?;
            // Asked first, looked second: a node is bound before any other is initialised, so one that is bound now
            // was not wiped, whatever the answers say.
            if let Some(cluster) = *bound.borrow_and_update() {
                return Ok(cluster);
            }
            self.refuse_wiped(&answers)?;
            if self.complete(&answers)? && self.lowest() {
                let cluster = choose(&answers);
                self.save(Identity::new(cluster, self.options.node)).await?;
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
    fn complete(&self, answers: &[Hello]) -> Result<bool, Error> {
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

    fn refuse_wiped(&self, answers: &[Hello]) -> Result<(), Error> {
        let node = self.options.node;
        let Some(answer) = answers.iter().find(|answer| answer.initialised) else {
            return Ok(());
        };
        let cluster = answer.cluster.unwrap_or_default();
        self.check_standing(cluster, answers)?;
        // A node that voted but has no log yet: the membership will be its configuration.
        let members = if answer.members.is_empty() {
            &answer.configured
        } else {
            &answer.members
        };
        let known = answers
            .iter()
            .any(|answer| matches!(answer.standing, Some(Standing::Belongs { .. })));
        if known || members.contains(&node) {
            let own = self.options.own();
            return Err(Error::WipedNode {
                node,
                peer: answer.node,
                cluster,
                next: next_node(answers),
                api: own.api.into(),
                peer_address: own.peer.into(),
            });
        }
        Err(self.not_member(cluster, answers))
    }

    fn not_member(&self, cluster: u128, answers: &[Hello]) -> Error {
        let own = self.options.own();
        let members = answers.iter().map(|answer| &answer.members);
        Error::NotMember {
            node: own.id,
            cluster,
            members: members
                .max_by_key(|members| members.len())
                .cloned()
                .unwrap_or_default()
                .into(),
            api: own.api.into(),
            peer: own.peer.into(),
        }
    }

    async fn wait(&self, round: &mut u32, answers: &[Hello]) {
        if (*round).is_multiple_of(REMIND_EVERY) {
            let here: Vec<_> = answers.iter().map(|answer| answer.node).collect();
            let missing: Vec<_> = self
                .configured()
                .into_iter()
                .filter(|id| *id != self.options.node && !here.contains(id))
                .collect();
            tracing::info!(node = self.options.node, ?missing, "waiting for other nodes");
        }
        *round += 1;
        tokio::time::sleep(PAUSE).await;
    }

    fn others(&self) -> impl Iterator<Item = &MemberConfig> {
        let members = self.options.members.iter();
        members.filter(|member| member.id != self.options.node)
    }

    async fn ask(&self) -> Vec<Result<Option<Hello>, Error>> {
        let node = self.options.node;
        let known = self.channels.known().into_iter().filter(|other| *other != node);
        futures::future::join_all(known.map(|other| hello(self.channels, node, other))).await
    }

    /// Asks the configured nodes, all of which must be where they are configured before there is a cluster.
    async fn ask_founders(&self) -> Result<Vec<Hello>, Error> {
        let answers = self.ask().await.into_iter();
        answers.filter_map(Result::transpose).collect()
    }

    /// Asks the configured nodes and the members of which it knows. The configuration may be older than the membership:
    /// where it says a node is, there may be another by now.
    async fn ask_all(&self) -> Vec<Hello> {
        let answers = self.ask().await.into_iter();
        let answers = answers.filter_map(|answer| {
            answer
                .inspect_err(
                    |error| tracing::warn!(node = self.options.node, %error, "the configuration is out of date"),
                )
                .ok()
        });
        answers.flatten().collect()
    }

    /// True when every other member has written the cluster down.
    async fn bind_all(&self, cluster: u128) -> bool {
        let bound = futures::future::join_all(self.others().map(|member| self.bind(member.id, cluster))).await;
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

/// Refuses a node that is configured at another place than this one.
pub(crate) fn check_place(options: &RaftOptions, known: &MemberConfig) -> Result<(), Error> {
    let own = options.own();
    if options.moved || (known.peer == own.peer && known.api == own.api) {
        return Ok(());
    }
    Err(Error::AddressDiffers {
        node: own.id,
        peer: own.peer.into(),
        api: own.api.into(),
        known_peer: known.peer.as_str().into(),
        known_api: known.api.as_str().into(),
    })
}

/// An id that an interrupted try left behind, or a new one.
fn choose(answers: &[Hello]) -> u128 {
    let found = answers.iter().find_map(|answer| answer.cluster);
    found.unwrap_or_else(rand::random)
}

/// The lowest id that was never used, as far as the answers tell.
fn next_node(answers: &[Hello]) -> NodeId {
    answers.iter().map(|answer| answer.next_node).max().unwrap_or_default()
}

/// Ids of the configured members, sorted.
pub(crate) fn configured(options: &RaftOptions) -> Vec<NodeId> {
    let mut ids: Vec<_> = options.members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    ids
}

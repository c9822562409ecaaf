//! Changing the cluster: join tokens, the membership, drains, the lead.

use muster_core::{ClusterCommand, ClusterRefusal, Command, MembershipChange, Name, NodeId, Refusal, Reply};
use muster_proto::v1;
use muster_raft::{HandOver, JoinToken};
use tokio::time::Instant;

use crate::api::{Api, Caller, unexpected};
use crate::errors::Error;
use crate::limits::{NOTE_BYTES_MAX, TOKEN_TTL_DEFAULT, TOKEN_TTL_MAX, TOKEN_TTL_MIN};
use crate::{convert, validate};

impl Api {
    pub(crate) async fn create_join_token(
        &self,
        caller: Caller,
        request: v1::CreateJoinTokenRequest,
    ) -> Result<v1::CreateJoinTokenResponse, Error> {
        let node = validate::node("node_id", request.node_id)?;
        let ttl = request.ttl.as_ref();
        let token = JoinToken::mint(self.raft().status().cluster, node);
        let command = ClusterCommand::CreateJoinToken {
            node,
            hash: token.hash(),
            ttl: validate::span("ttl", ttl, TOKEN_TTL_MIN, TOKEN_TTL_MAX, TOKEN_TTL_DEFAULT)?,
            voter: !request.learner,
            replaces: request.replaces_node_id,
            peer: validate::optional_address("peer_address", &request.peer_address)?,
            api: validate::optional_address("api_address", &request.api_address)?,
        };
        // Not under the request's id: a repeat needs a token of its own, as the secret of the first is not kept.
        match self
            .propose(Command::Cluster(Box::new(command)), caller.deadline)
            .await?
        {
            Reply::JoinToken { expires_at } => Ok(v1::CreateJoinTokenResponse {
                token: token.to_string(),
                expires_at: convert::timestamp(expires_at),
            }),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn list_join_tokens(&self, caller: Caller) -> Result<v1::ListJoinTokensResponse, Error> {
        self.linearize(caller.deadline).await?;
        let now = self.raft().clock();
        let tokens = self.raft().read(|core| {
            let good = core.join_tokens().filter(|token| token.expires_at > now);
            good.map(convert::join_token).collect()
        });
        Ok(v1::ListJoinTokensResponse { tokens })
    }

    pub(crate) async fn revoke_join_token(
        &self,
        caller: Caller,
        request: v1::RevokeJoinTokenRequest,
    ) -> Result<v1::RevokeJoinTokenResponse, Error> {
        let node = validate::node("node_id", request.node_id)?;
        self.cluster_command(&caller, ClusterCommand::RevokeJoinToken { node })
            .await?;
        Ok(v1::RevokeJoinTokenResponse {})
    }

    pub(crate) async fn remove_node(
        &self,
        caller: Caller,
        request: v1::RemoveNodeRequest,
    ) -> Result<v1::RemoveNodeResponse, Error> {
        let node = validate::node("node_id", request.node_id)?;
        self.quorum_without(node, caller.deadline).await?;
        let change_id = self.change(&caller, MembershipChange::Remove { node }).await?;
        Ok(v1::RemoveNodeResponse { change_id })
    }

    pub(crate) async fn promote_node(
        &self,
        caller: Caller,
        request: v1::PromoteNodeRequest,
    ) -> Result<v1::PromoteNodeResponse, Error> {
        let node = validate::node("node_id", request.node_id)?;
        let change_id = self.change(&caller, MembershipChange::Promote { node }).await?;
        Ok(v1::PromoteNodeResponse { change_id })
    }

    pub(crate) async fn demote_node(
        &self,
        caller: Caller,
        request: v1::DemoteNodeRequest,
    ) -> Result<v1::DemoteNodeResponse, Error> {
        let node = validate::node("node_id", request.node_id)?;
        self.quorum_without(node, caller.deadline).await?;
        let change_id = self.change(&caller, MembershipChange::Demote { node }).await?;
        Ok(v1::DemoteNodeResponse { change_id })
    }

    pub(crate) async fn set_node_address(
        &self,
        caller: Caller,
        request: v1::SetNodeAddressRequest,
    ) -> Result<v1::SetNodeAddressResponse, Error> {
        let node = validate::node("node_id", request.node_id)?;
        let mut peer = validate::optional_address("peer_address", &request.peer_address)?;
        let mut api = validate::optional_address("api_address", &request.api_address)?;
        self.linearize(caller.deadline).await?;
        self.raft().read(|core| {
            if let Some(row) = core.node(node) {
                let as_it_is = |given: &mut Name, known: &Name| {
                    if given.is_empty() {
                        given.clone_from(known);
                    }
                };
                as_it_is(&mut peer, &row.peer);
                as_it_is(&mut api, &row.api);
            }
        });
        let change = MembershipChange::SetAddress { node, peer, api };
        let change_id = self.change(&caller, change).await?;
        Ok(v1::SetNodeAddressResponse { change_id })
    }

    pub(crate) async fn abort_change(
        &self,
        caller: Caller,
        request: v1::AbortChangeRequest,
    ) -> Result<v1::AbortChangeResponse, Error> {
        let reason = validate::text("reason", &request.reason, NOTE_BYTES_MAX)?;
        let mut change = request.change_id;
        if change == 0 {
            self.linearize(caller.deadline).await?;
            let current = |core: &muster_core::Core| core.membership_changes().current.as_ref().map(|row| row.id);
            change = self.raft().read(current).unwrap_or_default();
        }
        self.cluster_command(&caller, ClusterCommand::AbortChange { change, reason })
            .await?;
        Ok(v1::AbortChangeResponse {})
    }

    pub(crate) async fn drain_node(
        &self,
        caller: Caller,
        request: v1::DrainNodeRequest,
    ) -> Result<v1::DrainNodeResponse, Error> {
        let note = validate::text("note", &request.note, NOTE_BYTES_MAX)?;
        self.drain(&caller, request.node_id, true, note).await?;
        Ok(v1::DrainNodeResponse {})
    }

    pub(crate) async fn undrain_node(
        &self,
        caller: Caller,
        request: v1::UndrainNodeRequest,
    ) -> Result<v1::UndrainNodeResponse, Error> {
        self.drain(&caller, request.node_id, false, "".into()).await?;
        Ok(v1::UndrainNodeResponse {})
    }

    pub(crate) async fn transfer_leader(
        &self,
        caller: Caller,
        request: v1::TransferLeaderRequest,
    ) -> Result<v1::TransferLeaderResponse, Error> {
        let node = validate::node("node_id", request.node_id)?;
        let cannot = |why| Err(Error::CannotLead { node, why });
        match self.raft().hand_over(node, caller.deadline).await? {
            HandOver::Done => Ok(v1::TransferLeaderResponse {}),
            HandOver::UnknownNode => Err(Refusal::from(ClusterRefusal::UnknownNode { node }).into()),
            HandOver::Learner => cannot("it is a learner and has no vote"),
            HandOver::LeadsAlready => cannot("it leads already"),
            HandOver::Drained => cannot("it is drained"),
            HandOver::Unreachable => cannot("it does not answer"),
            HandOver::NotTaken { leader } => Err(Error::LeadNotTaken {
                node,
                now: leader.map_or_else(
                    || "no leader is known at the moment".to_owned(),
                    |leader| format!("node {leader} leads"),
                ),
            }),
        }
    }

    async fn drain(&self, caller: &Caller, node: u64, drained: bool, note: Name) -> Result<(), Error> {
        let node = validate::node("node_id", node)?;
        self.cluster_command(caller, ClusterCommand::Drain { node, drained, note })
            .await?;
        Ok(())
    }

    async fn change(&self, caller: &Caller, change: MembershipChange) -> Result<u64, Error> {
        match self.cluster_command(caller, ClusterCommand::Change(change)).await? {
            Reply::ChangeBegun { id } => Ok(id),
            other => Err(unexpected(&other)),
        }
    }

    async fn cluster_command(&self, caller: &Caller, command: ClusterCommand) -> Result<Reply, Error> {
        let command = Command::Cluster(Box::new(command));
        self.propose_once(caller.request, command, caller.deadline).await
    }

    /// Refuses to take a vote away if the voters that are left and answer are no majority of those that are left: the
    /// change would never be completed, or the cluster would stand still after it. There is no forcing it, since it
    /// could not come to an end; what does not answer has to go or to come back first.
    async fn quorum_without(&self, node: NodeId, deadline: Instant) -> Result<(), Error> {
        let membership = self.raft().membership();
        if !membership.is_voter(node) {
            return Ok(());
        }
        let progress = self.raft().progress(deadline).await?;
        let leader = self.raft().leader().map(|leader| leader.id);
        let voters: std::collections::BTreeSet<_> = membership.voters.iter().flatten().copied().collect();
        let left: Vec<NodeId> = voters.into_iter().filter(|voter| *voter != node).collect();
        let answers = |voter: &NodeId| Some(*voter) == leader || progress.answered.get(voter) == Some(&true);
        let (answering, silent): (Vec<NodeId>, Vec<NodeId>) = left.iter().partition(|voter| answers(voter));
        let needed = left.len() / 2 + 1;
        // That it is the last one is the core's to say.
        if left.is_empty() || answering.len() >= needed {
            return Ok(());
        }
        Err(Error::QuorumAtRisk {
            node,
            voters: left.len(),
            answering: answering.len(),
            needed,
            silent,
        })
    }
}

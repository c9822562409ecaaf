//! Feature levels: what the programs of the members understand, and bringing a level into force.

use muster_proto::v1;
use muster_proto::v1::cluster_service_client::ClusterServiceClient;
use serde::Serialize;

use crate::client::Client;
use crate::error::Result;

/// Feature levels of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UpgradeInfo {
    /// In force.
    pub level: u32,
    /// The highest that all members understand; `None` while one has not been heard of.
    pub level_possible: Option<u32>,
    /// What each member's program understands.
    pub members: Vec<MemberLevel>,
}

/// What the program of a member understands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemberLevel {
    /// The member.
    pub node_id: u64,
    /// Version of its program and the highest level it understands; `None`: it has not been heard of lately.
    pub understands: Option<(String, u32)>,
}

impl From<v1::GetUpgradeResponse> for UpgradeInfo {
    fn from(response: v1::GetUpgradeResponse) -> Self {
        let member = |member: v1::MemberLevel| MemberLevel {
            node_id: member.node_id,
            understands: (member.level_max > 0).then_some((member.version, member.level_max)),
        };
        Self {
            level: response.level,
            level_possible: (response.level_possible > 0).then_some(response.level_possible),
            members: response.members.into_iter().map(member).collect(),
        }
    }
}

impl Client {
    /// The feature level in force, and what the members' programs understand.
    pub async fn upgrade_info(&self) -> Result<UpgradeInfo> {
        let response = self
            .call(|channel, envelope| async move {
                ClusterServiceClient::new(channel)
                    .get_upgrade(envelope.wrap(v1::GetUpgradeRequest {}))
                    .await
            })
            .await?;
        Ok(response.into())
    }

    /// Brings a feature level into force, `None`: the highest that all members understand. Returns the level before and the
    /// one in force. A repeat is safe. There is no way back.
    pub async fn upgrade(&self, level: Option<u32>) -> Result<(u32, u32)> {
        let message = v1::UpgradeRequest {
            level: level.unwrap_or(0),
        };
        let response = self
            .call(|channel, envelope| {
                let request = envelope.wrap(message);
                async move { ClusterServiceClient::new(channel).upgrade(request).await }
            })
            .await?;
        Ok((response.level_before, response.level))
    }
}

//! Which feature levels the members understand, and bringing one into force.

use muster_core::{Command, Reply};
use muster_proto::v1;
use muster_raft::MemberLevel;

use crate::api::{Api, Caller, unexpected};
use crate::errors::Error;

impl Api {
    pub(crate) fn get_upgrade(&self) -> v1::GetUpgradeResponse {
        let members = self.raft().member_levels();
        v1::GetUpgradeResponse {
            level: self.raft().read(muster_core::Core::level),
            level_possible: possible(&members).unwrap_or(0),
            members: members.into_iter().map(member).collect(),
        }
    }

    pub(crate) async fn upgrade(
        &self,
        caller: Caller,
        request: v1::UpgradeRequest,
    ) -> Result<v1::UpgradeResponse, Error> {
        // So that the level before is not one of long ago.
        self.linearize(caller.deadline).await?;
        let level_before = self.raft().read(muster_core::Core::level);
        let level = allowed(&self.raft().member_levels(), request.level)?;
        match self.propose(Command::SetLevel { level }, caller.deadline).await? {
            Reply::Done => Ok(v1::UpgradeResponse { level, level_before }),
            other => Err(unexpected(&other)),
        }
    }
}

/// The highest level that all understand; `None` while one has not been heard of.
fn possible(members: &[MemberLevel]) -> Option<u32> {
    let levels: Option<Vec<u32>> = members
        .iter()
        .map(|member| Some(member.understands.as_ref()?.1))
        .collect();
    levels?.into_iter().min()
}

/// The level to bring into force, if every member understands it.
fn allowed(members: &[MemberLevel], asked: u32) -> Result<u32, Error> {
    let stands_against = |member: &MemberLevel| match &member.understands {
        None => Some(format!("node {} has not been heard of lately", member.node)),
        Some((version, level)) if asked > *level => Some(format!(
            "node {} runs version {version}, which understands levels up to {level}",
            member.node
        )),
        Some(_) => None,
    };
    let against: Vec<_> = members.iter().filter_map(stands_against).collect();
    match possible(members) {
        Some(level) if asked == 0 => Ok(level),
        _ if against.is_empty() => Ok(asked),
        _ => Err(Error::LevelUnsupported {
            level: asked,
            against: against.join("; "),
        }),
    }
}

fn member(member: MemberLevel) -> v1::MemberLevel {
    let (version, level_max) = member.understands.unwrap_or_default();
    v1::MemberLevel {
        node_id: member.node,
        version,
        level_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_needs_every_member() {
        let members = |levels: [Option<u32>; 3]| -> Vec<_> {
            let understands = |level: Option<u32>| level.map(|level| ("1.0".to_owned(), level));
            (1..)
                .zip(levels)
                .map(|(node, level)| MemberLevel {
                    node,
                    understands: understands(level),
                })
                .collect()
        };
        let all = members([Some(2), Some(3), Some(2)]);
        assert_eq!(
            (allowed(&all, 0).ok(), allowed(&all, 2).ok(), allowed(&all, 1).ok()),
            (Some(2), Some(2), Some(1))
        );
        let refused = allowed(&all, 3).unwrap_err().to_string();
        assert!(
            refused.contains("node 1 runs version 1.0") && !refused.contains("node 2"),
            "{refused}"
        );
        let silent = members([Some(2), None, Some(2)]);
        for asked in [0, 2] {
            let refused = allowed(&silent, asked).unwrap_err().to_string();
            assert!(refused.contains("node 2 has not been heard of"), "{refused}");
        }
    }
}

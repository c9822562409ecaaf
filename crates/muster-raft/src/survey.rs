//! Asking the nodes of a cluster who they are, without being one of them.

use std::time::Duration;

use muster_core::NodeId;
use muster_proto::peer as wire;
use muster_store::LogPosition;
use tokio::time::Instant;
use tonic::Request;

use crate::convert;
use crate::options::MemberConfig;
use crate::peer::{Channels, Lane};

/// One question.
const ASK: Duration = Duration::from_secs(1);
/// Wait before a node that did not answer is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAnswer {
    /// Its id.
    pub node: NodeId,
    /// Its cluster, if it belongs to one.
    pub cluster: Option<u128>,
    /// Last entry of its log.
    pub last_log: Option<LogPosition>,
    /// The leader it knows.
    pub leader: Option<NodeId>,
}

/// Asks each of these nodes until it answers or `patience` is over; `None`: it did not answer.
///
/// `from` is the node in whose name is asked. Call within a tokio runtime.
pub async fn survey(
    from: NodeId,
    members: &[MemberConfig],
    patience: Duration,
) -> Vec<(MemberConfig, Option<PeerAnswer>)> {
    let channels = Channels::outside(from, members);
    let until = Instant::now() + patience;
    let ask = |member: MemberConfig| {
        let channels = channels.clone();
        async move {
            loop {
                let answer = ask(&channels, from, &member).await;
                if answer.is_some() || Instant::now() + PAUSE >= until {
                    return (member, answer);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    futures::future::join_all(members.iter().cloned().map(ask)).await
}

async fn ask(channels: &Channels, from: NodeId, member: &MemberConfig) -> Option<PeerAnswer> {
    let mut client = channels.client(member.id, None, Lane::Control).ok()?;
    let question = Request::new(wire::HelloRequest { from, to: member.id });
    let answer = tokio::time::timeout(ASK, client.hello(question)).await.ok()?.ok()?;
    let answer = answer.into_inner();
    Some(PeerAnswer {
        node: answer.node,
        cluster: answer.cluster.map(convert::cluster_in),
        last_log: answer.last_log.map(|last| convert::position(convert::log_id_in(last))),
        leader: (answer.leader != 0).then_some(answer.leader),
    })
}

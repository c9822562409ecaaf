//! Joining a cluster that is there: the token, and the way of a new node in.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use muster_core::NodeId;
use muster_proto::peer as wire;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::Request;

use crate::convert;
use crate::error::Error;
use crate::options::MemberConfig;
use crate::peer::{Channels, Lane, hello};

/// Begin of every token; the number is that of its form.
const PREFIX: &str = "muster-join-1";
/// One question to one member; it proposes the join within this time.
const ASK: Duration = Duration::from_secs(8);
/// Wait between rounds.
const PAUSE: Duration = Duration::from_millis(300);
/// Time between two log lines about what is waited for.
const REMIND: Duration = Duration::from_secs(5);

/// The permission for one new node to join one cluster, once.
///
/// Its text, `muster-join-1.CLUSTER.NODE.SECRET`, is a secret: who has it can join in the node's place. The cluster keeps a
/// hash of it only.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster.
    pub cluster: u128,
    /// The node that may join.
    pub node: NodeId,
    secret: [u8; 32],
}

impl JoinToken {
    /// A new one, with a secret from the operating system's randomness.
    pub fn mint(cluster: u128, node: NodeId) -> Self {
        Self {
            cluster,
            node,
            secret: rand::random(),
        }
    }

    /// What the cluster keeps.
    pub fn hash(&self) -> [u8; 32] {
        hash(&self.secret)
    }
}

pub(crate) fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// With the secret.
impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{:032x}.{}.", self.cluster, self.node)?;
        self.secret.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Without the secret, so that it stays out of logs.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{:032x}.{}.…", self.cluster, self.node)
    }
}

/// A text that is no token. Says what is wrong and never shows the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a join token: {0}; a token looks like {PREFIX}.CLUSTER.NODE.SECRET, as `muster cluster token create` prints it"
)]
pub struct BadToken(&'static str);

impl FromStr for JoinToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let parts: Vec<_> = text.trim().split('.').collect();
        let [prefix, cluster, node, secret] = parts[..] else {
            return Err(BadToken("it does not have four parts"));
        };
        if prefix != PREFIX {
            return Err(BadToken("it begins otherwise"));
        }
        let cluster = u128::from_str_radix(cluster, 16).map_err(|_| BadToken("its cluster is no number"))?;
        let node = node.parse().map_err(|_| BadToken("its node is no number"))?;
        let digits = secret.as_bytes().chunks_exact(2);
        let bytes: Option<Vec<u8>> = digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        let secret = bytes
            .filter(|_| secret.len() == 64)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(BadToken("its secret is cut or damaged"))?;
        Ok(Self { cluster, node, secret })
    }
}

/// Shows the token to one member after the other until one has taken it. Waits while another change is under way, and
/// while no member can be reached.
pub(crate) async fn join(
    channels: &Channels,
    token: &JoinToken,
    own: &MemberConfig,
    instance: u128,
    members: &[NodeId],
) -> Result<(), Error> {
    let mut waits: BTreeMap<NodeId, String> = BTreeMap::new();
    let mut said_at: Option<Instant> = None;
    loop {
        for member in members {
            // A member of another cluster is told apart from a bad token.
            if let Ok(Some(answer)) = hello(channels, own.id, *member).await
                && let Some(theirs) = answer.cluster.filter(|theirs| *theirs != token.cluster)
            {
                return Err(Error::TokenOfOtherCluster {
                    node: own.id,
                    token: token.cluster,
                    peer: *member,
                    theirs,
                });
            }
            match ask(channels, token, own, instance, *member).await {
                Answer::Accepted => {
                    tracing::info!(
                        node = own.id,
                        member,
                        cluster = format!("{:032x}", token.cluster),
                        "the join was accepted"
                    );
                    return Ok(());
                }
                Answer::Refused(reason) => return Err(Error::JoinRefused { node: own.id, reason }),
                Answer::Wait(reason) => drop(waits.insert(*member, reason)),
            }
        }
        if said_at.is_none_or(|at| at.elapsed() >= REMIND) {
            said_at = Some(Instant::now());
            tracing::info!(node = own.id, ?waits, "waiting to join");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

enum Answer {
    Accepted,
    Refused(String),
    Wait(String),
}

async fn ask(channels: &Channels, token: &JoinToken, own: &MemberConfig, instance: u128, member: NodeId) -> Answer {
    let mut client = match channels.client(member, None, Lane::Control) {
        Ok(client) => client,
        Err(error) => return Answer::Wait(error.to_string()),
    };
    let mut request = Request::new(wire::JoinRequest {
        header: Some(channels.header(member)),
        secret: token.secret.to_vec().into(),
        instance: Some(convert::cluster_out(instance)),
        peer: own.peer.clone(),
        api: own.api.clone(),
    });
    request.set_timeout(ASK);
    let reply = match client.join(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Answer::Wait(status.message().to_owned()),
    };
    match reply.outcome {
        Some(wire::join_reply::Outcome::Accepted(_)) => Answer::Accepted,
        Some(wire::join_reply::Outcome::Refused(reason)) => Answer::Refused(reason),
        Some(wire::join_reply::Outcome::Wait(reason)) => Answer::Wait(reason),
        None => Answer::Wait("an answer without an outcome".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_and_hides_its_secret() {
        let token = JoinToken::mint(0xabc, 4);
        let text = token.to_string();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        assert_eq!(text.len(), PREFIX.len() + 1 + 32 + 1 + 1 + 1 + 64);
        assert!(!format!("{token:?}").contains(&text[text.len() - 64..]));
        assert_ne!(JoinToken::mint(0xabc, 4).hash(), token.hash());
    }

    #[test]
    fn a_damaged_token_is_refused_without_showing_it() {
        let text = JoinToken::mint(0xabc, 4).to_string();
        for (bad, wrong) in [
            (String::new(), "four parts"),
            (text.replace("join-1", "join-2"), "begins"),
            (text.replace(".4.", ".x."), "node"),
            (text[..text.len() - 1].to_owned(), "secret"),
            (format!("{text}0"), "secret"),
            (format!("{}zz", &text[..text.len() - 2]), "secret"),
            (format!("{}é", &text[..text.len() - 2]), "secret"),
        ] {
            let error = bad.parse::<JoinToken>().unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
            assert!(bad.len() < 80 || !error.contains(&bad[bad.len() - 20..]), "{error}");
        }
    }
}

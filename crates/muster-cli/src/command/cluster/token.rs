//! `muster cluster token …`

use std::time::{Duration, SystemTime};

use clap::Subcommand;
use muster_client::NewNode;
use serde_json::json;

use super::Run;
use crate::failure::Failure;
use crate::{json as show, parse, table};

/// What to do with join tokens.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Let one new node join, once; prints the token and nothing else
    Create {
        /// Id of the node that may join, never used before
        #[arg(long)]
        node: u64,
        /// Life of the token, 1m to 24h [default: 15m]
        #[arg(long, value_parser = parse::duration)]
        ttl: Option<Duration>,
        /// The node stays a learner
        #[arg(long)]
        learner: bool,
    },
    /// Tokens that can still be used, without their secrets
    List,
    /// Make all tokens for a node useless
    Revoke {
        /// The node
        #[arg(long)]
        node: u64,
    },
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create { node, ttl, learner } => {
            let new = NewNode {
                node_id: node,
                ttl,
                learner,
                ..NewNode::default()
            };
            let made = run.client.create_join_token(&new).await;
            let token = made.map_err(|error| {
                Failure::new(format!("make a join token for node {node}"), error)
                    .if_unknown("repeating the command is safe")
            })?;
            let expires_at = token.expires_at.and_then(show::rfc3339);
            run.output.text(
                json!({ "node_id": node, "token": token.token, "expires_at": expires_at }),
                &token.token,
            );
        }
        Verb::List => {
            let tokens = run.client.join_tokens().await;
            let tokens = tokens.map_err(|error| Failure::new("list the join tokens", error))?;
            let now = SystemTime::now();
            let rows = tokens.iter().map(|token| table::token(token, now)).collect();
            run.output
                .rows(tokens.iter().map(show::token).collect(), &table::TOKENS, rows);
        }
        Verb::Revoke { node } => {
            let action = format!("revoke the join tokens of node {node}");
            let revoked = run.client.revoke_join_token(node).await;
            revoked.map_err(|error| Failure::new(action, error).if_unknown("repeating the command is safe"))?;
            run.output
                .text(json!({ "node_id": node }), &format!("node {node} cannot join any more"));
        }
    }
    Ok(())
}

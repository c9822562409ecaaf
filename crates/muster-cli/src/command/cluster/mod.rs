//! `muster cluster …`

mod change;
mod follow;
mod join;
mod recover;
mod token;
mod upgrade;

use std::time::Duration;

use clap::{Args, Subcommand};

use super::Run;
use crate::args::Format;
use crate::failure::Failure;
use crate::{json, parse, table};

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Members, roles and positions, as the leader sees them if it can be reached
    Status,
    /// Add a node: prints the command that starts it, then shows how it joins
    Add {
        /// Its id, never used before; `cluster status` shows the next free one
        node: u64,
        #[command(flatten)]
        joining: Joining,
        /// Keep it a learner: it stores everything and serves reads, but does not vote
        #[arg(long)]
        learner: bool,
    },
    /// Put a new node in a voter's place, in one change; the old one may be gone
    Replace {
        /// The voter that goes
        old: u64,
        /// Id of the node that comes, never used before
        new: u64,
        #[command(flatten)]
        joining: Joining,
    },
    /// Take a member out: its worker sessions and the lead are handed over first. Its id is never used again
    Remove {
        /// The member
        node: u64,
        #[command(flatten)]
        wait: Wait,
    },
    /// Give a learner a vote
    Promote {
        /// The learner
        node: u64,
        #[command(flatten)]
        wait: Wait,
    },
    /// Take the vote from a voter: it stays as a learner
    Demote {
        /// The voter
        node: u64,
        #[command(flatten)]
        wait: Wait,
    },
    /// Say where a member is to be found
    SetAddress {
        /// The member
        node: u64,
        /// For other nodes, as `peer` in its configuration [default: as it is]
        #[arg(long, value_name = "HOST:PORT", required_unless_present = "api")]
        peer: Option<String>,
        /// For clients, as `api` in its configuration [default: as it is]
        #[arg(long, value_name = "HOST:PORT")]
        api: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Give up the change of the membership under way; what has gone too far is completed
    Abort {
        /// Why, for the next operator; at most 1 KiB
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Have a node hand over the lead and its worker sessions and take no new ones; it votes and stores on
    Drain {
        /// The node
        node: u64,
        /// Why, for the next operator; at most 1 KiB
        #[arg(long, default_value = "")]
        note: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// End a drain
    Undrain {
        /// The node
        node: u64,
    },
    /// Have another voter take the lead
    TransferLeader {
        /// The voter
        node: u64,
    },
    /// Tokens with which new nodes join
    Token {
        #[command(subcommand)]
        verb: token::Verb,
    },
    /// Make a cluster of one node out of what is left when a majority is gone for good
    Recover(recover::RecoverArgs),
    /// Bring the behaviour of a newer release into force, once every node runs a program that understands it
    Upgrade(upgrade::UpgradeArgs),
}

/// How a new node joins.
#[derive(Args, Clone, Debug)]
pub struct Joining {
    /// Where it serves clients, as `api` in its configuration
    #[arg(long, value_name = "HOST:PORT")]
    api: String,
    /// Where it serves the other nodes, as `peer` in its configuration
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    /// Life of its token [default: 15m]
    #[arg(long, value_parser = parse::duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    wait: Wait,
}

/// Whether to wait for the end.
#[derive(Args, Clone, Copy, Debug)]
pub struct Wait {
    /// Return when it has begun; `cluster status` shows how it goes
    #[arg(long)]
    no_wait: bool,
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Status => status(run).await,
        Verb::Add { node, joining, learner } => join::add(run, node, joining, learner).await,
        Verb::Replace { old, new, joining } => join::replace(run, old, new, joining).await,
        Verb::Remove { node, wait } => change::remove(run, node, wait).await,
        Verb::Promote { node, wait } => change::promote(run, node, wait).await,
        Verb::Demote { node, wait } => change::demote(run, node, wait).await,
        Verb::SetAddress { node, peer, api, wait } => {
            let (peer, api) = (peer.unwrap_or_default(), api.unwrap_or_default());
            change::set_address(run, node, &peer, &api, wait).await
        }
        Verb::Abort { reason, wait } => change::abort(run, &reason, wait).await,
        Verb::Drain { node, note, wait } => change::drain(run, node, &note, wait).await,
        Verb::Undrain { node } => change::undrain(run, node).await,
        Verb::TransferLeader { node } => change::transfer_leader(run, node).await,
        Verb::Token { verb } => token::run(run, verb).await,
        Verb::Recover(args) => recover::run(run, &args).await,
        Verb::Upgrade(args) => upgrade::run(run, args).await,
    }
}

async fn status(run: &Run) -> Result<(), Failure> {
    let status = run
        .client
        .cluster_status()
        .await
        .map_err(|error| Failure::new("get the cluster's status", error))?;
    if run.output.format == Format::Table {
        run.output.text(json::status(&status), &table::status(&status));
    }
    run.output
        .rows(json::status(&status), &table::MEMBERS, table::members(&status));
    Ok(())
}

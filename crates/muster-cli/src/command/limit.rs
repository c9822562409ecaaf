//! `muster limit …`

use std::time::SystemTime;

use clap::{Args, Subcommand};
use muster_client::{Limit, LimitLevel, LimitSelector, LimiterInfo, RateLimit};
use serde_json::{Value, json};

use super::Run;
use crate::failure::Failure;
use crate::limits;
use crate::parse;

/// What to do with limits.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Set a rule, or replace the one with the same level and patterns; it applies at once
    ///
    /// Every name that the rule matches has a limiter of its own: `limit set key '*' --concurrency 5` lets five jobs of
    /// each key run. Of the rules that match a name the most specific one applies, and it alone.
    Set {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        limits: Limits,
    },
    /// The rules that concern the tenant, with what goes on behind them
    List {
        /// Also rules that do not concern the tenant; sums over all tenants
        #[arg(long)]
        all_tenants: bool,
    },
    /// One name: which rule applies, what is left, who runs, who waits, when the next job may start
    Explain {
        /// cluster, tenant, queue, kind or key
        level: LimitLevel,
        /// The queue, kind or key; none for cluster and tenant
        #[arg(required_if_eq_any([("level", "queue"), ("level", "kind"), ("level", "key")]))]
        name: Option<String>,
    },
    /// Take a rule out of the book; the next most specific one applies
    Delete {
        #[command(flatten)]
        what: What,
    },
    /// Open a limit key that workers reported as throttled, before its time
    Open {
        /// The key
        key: String,
    },
}

/// What a rule is for.
#[derive(Args, Debug)]
pub struct What {
    /// cluster, tenant, queue, kind or key
    level: LimitLevel,
    /// A queue, kind or key, or the beginning of some and a `*`; none for cluster and tenant
    #[arg(required_if_eq_any([("level", "queue"), ("level", "kind"), ("level", "key")]))]
    names: Option<String>,
    /// For these tenants: a name, or the beginning of names and a `*` [default: --tenant]
    #[arg(long, value_name = "PATTERN")]
    tenants: Option<String>,
}

impl What {
    fn selector(self) -> LimitSelector {
        LimitSelector {
            level: self.level,
            tenants: self.tenants.unwrap_or_default(),
            names: self.names.unwrap_or_default(),
        }
    }
}

/// Rate and concurrency.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct Limits {
    /// Most tokens per period, e.g. 100/s, 30/m, 5/10s; a job takes one unless it says otherwise
    #[arg(long, value_parser = parse::rate, value_name = "COUNT/PERIOD")]
    rate: Option<RateLimit>,
    /// Tokens at once after a quiet time [default: the count of --rate]
    #[arg(long, requires = "rate", value_parser = clap::value_parser!(u32).range(1..))]
    burst: Option<u32>,
    /// Most jobs running at once
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: Option<u32>,
    /// No limit: exempts what the rule matches from broader rules
    #[arg(long, conflicts_with_all = ["rate", "concurrency"])]
    unlimited: bool,
    /// Why, for the next operator; at most 1 KiB
    #[arg(long, default_value = "")]
    note: String,
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Set { what, limits } => set(run, what, limits).await,
        Verb::List { all_tenants } => {
            let rules = run
                .client
                .limits(all_tenants)
                .await
                .map_err(|error| Failure::new("list the limits", error))?;
            let value = rules.iter().map(limits::info_json).collect::<Value>();
            run.output
                .rows(value, &limits::RULES, rules.iter().map(limits::info_row).collect());
            Ok(())
        }
        Verb::Explain { level, name } => {
            let name = name.unwrap_or_default();
            let action = format!("explain the limit of {}", named(level, &name));
            let explained = run
                .client
                .explain_limit(level, &name)
                .await
                .map_err(|error| Failure::new(action, error))?;
            show(run, level, &name, &explained);
            Ok(())
        }
        Verb::Delete { what } => {
            let selector = what.selector();
            let what = limits::selector(&selector);
            let action = format!("delete the limit of {what}");
            run.client.delete_limit(&selector).await.map_err(|error| {
                Failure::new(action, error)
                    .if_unknown("repeat the command: \"there is no limit\" then means that it was done")
            })?;
            run.output.text(
                json!({ "deleted": limits::selector_json(&selector) }),
                &format!("the limit of {what} is gone"),
            );
            Ok(())
        }
        Verb::Open { key } => {
            run.client
                .open_limit_key(&key)
                .await
                .map_err(|error| again(format!("open limit key {key:?}"), error))?;
            run.output
                .text(json!({ "key": key, "open": true }), &format!("limit key {key} is open"));
            Ok(())
        }
    }
}

async fn set(run: &Run, what: What, given: Limits) -> Result<(), Failure> {
    let mut limit = Limit::new(what.selector());
    limit.rate = given.rate.map(|rate| RateLimit {
        burst: given.burst.unwrap_or(0),
        ..rate
    });
    limit.concurrency = given.concurrency.unwrap_or(0);
    limit.note = given.note;
    let action = format!("set the limit of {}", limits::selector(&limit.selector));
    let limit = run
        .client
        .set_limit(&limit)
        .await
        .map_err(|error| again(action, error))?;
    run.output.text(limits::json(&limit), &limits::line(&limit));
    Ok(())
}

fn show(run: &Run, level: LimitLevel, name: &str, explained: &LimiterInfo) {
    let page = limits::page(&named(level, name), explained, SystemTime::now());
    run.output.text(limits::limiter_json(level, name, explained), &page);
}

fn named(level: LimitLevel, name: &str) -> String {
    match level {
        LimitLevel::Cluster => "the cluster".to_owned(),
        LimitLevel::Tenant => "the tenant".to_owned(),
        level => format!("{level} {name}"),
    }
}

fn again(action: String, error: muster_client::Error) -> Failure {
    Failure::new(action, error).if_unknown("repeating the command is safe")
}

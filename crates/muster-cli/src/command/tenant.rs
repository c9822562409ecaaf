//! `muster tenant …`

use clap::{ArgGroup, Args, Subcommand};
use muster_client::{NewTenant, RateLimit, TenantChange, TenantInfo};
use serde_json::Value;

use super::Run;
use crate::failure::Failure;
use crate::{json, parse, table};

/// What to do with tenants.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a tenant; what is not given has its default
    Create {
        /// [A-Za-z0-9._-]{1,128}; not beginning with `_`
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// All tenants with their settings and counts
    List,
    /// Change a tenant's share and limits; what is not given stays
    #[command(group(ArgGroup::new("change").required(true).multiple(true).args(["weight", "rate", "concurrency", "payload_max", "no_rate"])))]
    SetLimit {
        /// The tenant
        name: String,
        #[command(flatten)]
        settings: Settings,
        /// Remove the limit on starts
        #[arg(long, conflicts_with_all = ["rate", "burst"])]
        no_rate: bool,
    },
}

/// Share and limits of a tenant.
#[derive(Args, Debug)]
pub struct Settings {
    /// Share relative to other tenants, 1-10,000 [default: 100]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    weight: Option<u32>,
    /// Most starts per period, e.g. 100/s, 30/m, 5/10s [default: no limit]
    #[arg(long, value_parser = parse::rate, value_name = "COUNT/PERIOD")]
    rate: Option<RateLimit>,
    /// Starts allowed at once after a quiet time [default: the count of --rate]
    #[arg(long, requires = "rate", value_parser = clap::value_parser!(u32).range(1..))]
    burst: Option<u32>,
    /// Most jobs running at once; 0: no limit [default: 0]
    #[arg(long)]
    concurrency: Option<u32>,
    /// Largest payload, up to 8MiB [default: 1MiB]
    #[arg(long, value_parser = parse::size, value_name = "SIZE")]
    payload_max: Option<u32>,
}

impl Settings {
    fn rate_limit(&self) -> Option<RateLimit> {
        self.rate.map(|rate| RateLimit {
            burst: self.burst.unwrap_or(0),
            ..rate
        })
    }
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create { name, settings } => {
            let action = format!("create tenant {name:?}");
            let tenant = NewTenant {
                name,
                weight: settings.weight.unwrap_or(0),
                rate_limit: settings.rate_limit(),
                concurrency_limit: settings.concurrency.unwrap_or(0),
                payload_bytes_max: settings.payload_max.unwrap_or(0),
            };
            let tenant = run.client.create_tenant(tenant).await.map_err(|error| {
                Failure::new(action, error)
                    .if_unknown("repeat the command: \"exists already\" then means that it was done")
            })?;
            show(run, json::tenant(&tenant), &[tenant]);
        }
        Verb::SetLimit {
            name,
            settings,
            no_rate,
        } => {
            let change = TenantChange {
                weight: settings.weight,
                rate_limit: if no_rate {
                    Some(None)
                } else {
                    settings.rate_limit().map(Some)
                },
                concurrency_limit: settings.concurrency,
                payload_bytes_max: settings.payload_max,
            };
            let tenant = run.client.update_tenant(&name, change).await.map_err(|error| {
                Failure::new(format!("change tenant {name:?}"), error).if_unknown("repeating the command is safe")
            })?;
            show(run, json::tenant(&tenant), &[tenant]);
        }
        Verb::List => {
            let tenants = run
                .client
                .tenants()
                .await
                .map_err(|error| Failure::new("list the tenants", error))?;
            show(run, tenants.iter().map(json::tenant).collect(), &tenants);
        }
    }
    Ok(())
}

fn show(run: &Run, value: Value, tenants: &[TenantInfo]) {
    run.output
        .rows(value, &table::TENANTS, tenants.iter().map(table::tenant).collect());
}

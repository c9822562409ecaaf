//! `muster tenant …`

use clap::{ArgGroup, Args, Subcommand};
use muster_client::{NewTenant, TenantChange, TenantInfo};
use serde_json::Value;

use super::{Run, Stale};
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
    List {
        #[command(flatten)]
        stale: Stale,
    },
    /// Change a tenant's settings; what is not given stays
    #[command(group(ArgGroup::new("change").required(true).multiple(true).args(["weight", "payload_max"])))]
    Set {
        /// The tenant
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
}

/// Settings of a tenant.
#[derive(Args, Debug)]
pub struct Settings {
    /// Share relative to other tenants, 1-10,000 [default: 100]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    weight: Option<u32>,
    /// Largest payload, up to 8MiB [default: 1MiB]
    #[arg(long, value_parser = parse::size, value_name = "SIZE")]
    payload_max: Option<u32>,
}

pub(super) async fn run(run: &Run, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create { name, settings } => {
            let action = format!("create tenant {name:?}");
            let tenant = NewTenant {
                name,
                weight: settings.weight.unwrap_or(0),
                payload_bytes_max: settings.payload_max.unwrap_or(0),
            };
            let tenant = run.client.create_tenant(tenant).await.map_err(|error| {
                Failure::new(action, error)
                    .if_unknown("repeat the command: \"exists already\" then means that it was done")
            })?;
            show(run, json::tenant(&tenant), &[tenant]);
        }
        Verb::Set { name, settings } => {
            let change = TenantChange {
                weight: settings.weight,
                payload_bytes_max: settings.payload_max,
            };
            let tenant = run.client.update_tenant(&name, change).await.map_err(|error| {
                Failure::new(format!("change tenant {name:?}"), error).if_unknown("repeating the command is safe")
            })?;
            show(run, json::tenant(&tenant), &[tenant]);
        }
        Verb::List { stale } => {
            let failed = |error| Failure::new("list the tenants", error);
            let (tenants, stale) = if stale.stale {
                let (tenants, stale) = run.client.stale().tenants().await.map_err(failed)?.split();
                (tenants, Some(stale))
            } else {
                (run.client.tenants().await.map_err(failed)?, None)
            };
            let value = tenants.iter().map(json::tenant).collect();
            let rows = tenants.iter().map(table::tenant).collect();
            run.output.rows_of(value, &table::TENANTS, rows, stale.as_ref());
        }
    }
    Ok(())
}

fn show(run: &Run, value: Value, tenants: &[TenantInfo]) {
    run.output
        .rows(value, &table::TENANTS, tenants.iter().map(table::tenant).collect());
}

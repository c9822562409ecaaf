//! `muster tenant …`

use clap::{ArgGroup, Args, Subcommand};
use muster_client::{NewTenant, PriorityOrder, Quota, RateLimit, TenantChange, TenantInfo};
use serde_json::Value;

use super::{Run, Stale};
use crate::failure::Failure;
use crate::{json, parse, tenants};

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
    /// One tenant: settings, counts, what it uses of its quota
    Show {
        /// The tenant
        name: String,
        #[command(flatten)]
        stale: Stale,
    },
    /// Change a tenant's settings; what is not given stays
    ///
    /// A quota bounds what the tenant brings in: a job over it is refused, with the time after which it may fit. Set below what
    /// is there it takes nothing away. What may run at once is a limit: `limit set tenant --concurrency 50 --tenant NAME`.
    #[command(group(ArgGroup::new("change").required(true).multiple(true)
        .args(["weight", "payload_max", "jobs_max", "bytes_max", "enqueue_rate", "priority_order", "guaranteed_slots"])))]
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
    /// Quota: most live jobs, or none [default: none]
    #[arg(long, value_parser = parse::bound, value_name = "JOBS")]
    jobs_max: Option<u64>,
    /// Quota: most bytes of live jobs, e.g. 512MiB, or none [default: none]
    #[arg(long, value_parser = parse::bytes_bound, value_name = "SIZE")]
    bytes_max: Option<u64>,
    /// Quota: most jobs accepted per period, e.g. 100/s, or none [default: none]
    #[arg(long, value_parser = parse::rate_bound, value_name = "COUNT/PERIOD")]
    enqueue_rate: Option<RateLimit>,
    /// Jobs accepted at once after a quiet time [default: the count of --enqueue-rate]
    #[arg(long, requires = "enqueue_rate", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    enqueue_burst: Option<u32>,
    /// How jobs are ordered: strict, fifo, or how much waiting one priority level is worth [default: 30s]
    #[arg(long, value_parser = parse::priority_order, value_name = "strict|fifo|DURATION")]
    priority_order: Option<PriorityOrder>,
    /// Slots of workers that it has for sure while it has jobs for them, up to 1,000,000; others use what it does not; 0 is none
    /// [default: 0]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1_000_000), value_name = "SLOTS")]
    guaranteed_slots: Option<u32>,
}

impl Settings {
    fn enqueue_rate(&self) -> Option<RateLimit> {
        let rate = self.enqueue_rate?;
        Some(RateLimit {
            burst: self.enqueue_burst.unwrap_or(0),
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
                payload_bytes_max: settings.payload_max.unwrap_or(0),
                quota: Quota {
                    jobs_max: settings.jobs_max.unwrap_or(0),
                    bytes_max: settings.bytes_max.unwrap_or(0),
                    enqueue_rate: settings.enqueue_rate().filter(|rate| rate.count > 0),
                },
                priority_order: settings.priority_order,
                guaranteed_slots: settings.guaranteed_slots.unwrap_or(0),
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
                jobs_max: settings.jobs_max,
                bytes_max: settings.bytes_max,
                enqueue_rate: settings.enqueue_rate(),
                priority_order: settings.priority_order,
                guaranteed_slots: settings.guaranteed_slots,
            };
            let tenant = run.client.update_tenant(&name, change).await.map_err(|error| {
                Failure::new(format!("change tenant {name:?}"), error).if_unknown("repeating the command is safe")
            })?;
            show(run, json::tenant(&tenant), &[tenant]);
        }
        Verb::Show { name, stale } => {
            let failed = |error| Failure::new(format!("show tenant {name:?}"), error);
            if stale.stale {
                let found = run.client.stale().get_tenant(&name).await.map_err(failed)?;
                let page = tenants::page(&found.value);
                run.output.stale_text(json::tenant(&found.value), &page, &found);
            } else {
                let tenant = run.client.get_tenant(&name).await.map_err(failed)?;
                run.output.text(json::tenant(&tenant), &tenants::page(&tenant));
            }
        }
        Verb::List { stale } => {
            let failed = |error| Failure::new("list the tenants", error);
            let (found, stale) = if stale.stale {
                let (found, stale) = run.client.stale().tenants().await.map_err(failed)?.split();
                (found, Some(stale))
            } else {
                (run.client.tenants().await.map_err(failed)?, None)
            };
            let value = found.iter().map(json::tenant).collect();
            let rows = found.iter().map(tenants::row).collect();
            run.output.rows_of(value, &tenants::HEADINGS, rows, stale.as_ref());
        }
    }
    Ok(())
}

fn show(run: &Run, value: Value, changed: &[TenantInfo]) {
    run.output
        .rows(value, &tenants::HEADINGS, changed.iter().map(tenants::row).collect());
}

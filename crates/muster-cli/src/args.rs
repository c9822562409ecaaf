//! What all commands share: where the cluster is, for which tenant, and how to print.

use std::time::Duration;

use clap::{Args, ValueEnum};
use muster_client::Client;

use crate::failure::Failure;
use crate::parse;

/// Time for a call with all its retries, unless `--timeout` says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Options of all client commands.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// A node of the cluster, any will do; repeat it or separate with commas
    #[arg(
        long,
        short = 'a',
        global = true,
        env = "MUSTER_ADDRESS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7001",
        value_name = "URL"
    )]
    pub address: Vec<String>,
    /// The tenant to act for
    #[arg(
        long,
        short = 't',
        global = true,
        env = "MUSTER_TENANT",
        default_value = "default",
        value_name = "NAME"
    )]
    pub tenant: String,
    /// A table for people, or JSON for scripts
    #[arg(
        long,
        short = 'o',
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub output: Format,
    /// Time for the call with all its retries, e.g. 500ms, 10s, 2m [default: 10s; `job wait`: none]
    #[arg(long, global = true, value_parser = parse::duration, value_name = "DURATION")]
    pub timeout: Option<Duration>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

impl Global {
    /// A client that connects at its first call.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::builder()
            .addresses(
                self.address
                    .iter()
                    .map(|address| address.trim())
                    .filter(|address| !address.is_empty()),
            )
            .tenant(&self.tenant)
            .deadline(self.timeout.unwrap_or(DEFAULT_TIMEOUT))
            .connect_lazy()
            .map_err(|error| Failure::new("read the command line", error))
    }
}

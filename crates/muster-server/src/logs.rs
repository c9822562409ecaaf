//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::LogFormat;

/// What openraft calls errors there are messages that reach a node while it stops as it was told to.
const QUIET: &str = "openraft::raft::raft_inner=off";

/// Starts logging. The filter is `RUST_LOG`, else `default`. A second call changes nothing.
pub(crate) fn start(format: LogFormat, default: &str) {
    let default = format!("{default},{QUIET}");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // The error says that a subscriber is set already, by a program that embeds the server.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

//! The `muster` binary with failpoints, for tests alone: `docs/failpoints.md`.

use std::process::ExitCode;

#[path = "main.rs"]
mod muster;

fn main() -> ExitCode {
    muster_failpoint::arm();
    muster::main()
}

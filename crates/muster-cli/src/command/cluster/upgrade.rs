//! `muster cluster upgrade`.

use clap::Args;

use crate::args::Format;
use crate::command::Run;
use crate::failure::Failure;
use crate::{json, table};

/// Options of `upgrade`.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// The feature level to bring into force [default: the highest that all nodes understand]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(1..))]
    to: Option<u32>,
    /// Show what the nodes understand and change nothing
    #[arg(long)]
    check: bool,
}

/// Shows what the nodes understand, then switches.
pub(super) async fn run(run: &Run, args: UpgradeArgs) -> Result<(), Failure> {
    let failed = |error| Failure::new("raise the feature level", error);
    let before = run.client.upgrade_info().await.map_err(failed)?;
    if args.check || run.output.format == Format::Table {
        run.output
            .rows(json::upgrade(&before), &table::LEVELS, table::levels(&before));
    }
    if args.check {
        return Ok(());
    }
    let (was, level) = run.client.upgrade(args.to).await.map_err(failed)?;
    let text = if was == level {
        format!("feature level {level} is in force, as it was\n")
    } else {
        format!("feature level {level} is in force; it was {was}\n")
    };
    run.output.text(json::upgraded(was, level), &text);
    Ok(())
}

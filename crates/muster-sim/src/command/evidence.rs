//! `evidence`.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use muster_sim::evidence::{Campaign, Evidence, append};

use crate::args::{Evidence as Args, EvidenceAction};

pub fn evidence(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Some(EvidenceAction::Add) => add(&args.dir.join("campaigns.jsonl")),
        None => page(args),
    }
}

/// One record from standard input.
fn add(file: &Path) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("standard input")?;
    let campaign: Campaign = serde_json::from_str(&text).context("not a campaign")?;
    append(file, &campaign).with_context(|| file.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn page(args: &Args) -> anyhow::Result<ExitCode> {
    let made = Evidence::read(&args.dir)?.page();
    let file = args.dir.with_extension("md");
    if !args.check {
        std::fs::write(&file, made).with_context(|| file.display().to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let there = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    if there == made {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "{} is not what its records say; run: muster-sim evidence",
        file.display()
    );
    Ok(ExitCode::FAILURE)
}

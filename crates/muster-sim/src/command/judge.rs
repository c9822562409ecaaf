//! `judge` and `generate`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use muster_sim::history::OperationKind;
use muster_sim::{generate as synthetic, judge_file};

use crate::args::Judge;

pub fn judge(args: &Judge) -> anyhow::Result<ExitCode> {
    let mut least: Vec<(OperationKind, u64)> = Vec::new();
    for (kind, count) in &args.least {
        let kind =
            serde_json::from_value(kind.as_str().into()).with_context(|| format!("no kind of call is {kind:?}"))?;
        least.push((kind, *count));
    }
    let began = Instant::now();
    let tally = judge_file(&args.file, |header| header.demands.operations.extend(least))
        .with_context(|| args.file.display().to_string())?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&tally)?);
    } else {
        print!("{tally}");
        println!("judged in {:.1} s", began.elapsed().as_secs_f64());
    }
    Ok(ExitCode::from(u8::from(tally.violations() > 0)))
}

pub fn generate(file: &Path, calls: u64) -> anyhow::Result<ExitCode> {
    let mut output = BufWriter::with_capacity(1 << 20, File::create(file).context("creating the file")?);
    serde_json::to_writer(&mut output, &synthetic::header())?;
    output.write_all(b"\n")?;
    let written = synthetic::write(&mut output, calls)?;
    output.flush()?;
    println!("{written} calls");
    Ok(ExitCode::SUCCESS)
}

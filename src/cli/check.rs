//! `tieout check`: every problem of all files at once.

use std::io::{self, Write};

use clap::Args;

use super::{Fail, Files, colour, count};
use crate::config::{self, Need};

/// Check the configuration and all dataflows: every problem at once, with its place
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout check --config config.yaml
  tieout check --format json                         for editors and CI")]
pub struct Check {
    #[command(flatten)]
    files: Files,
    /// How problems are printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

pub fn check(args: &Check, out: &mut impl Write) -> Result<(), Fail> {
    let checked = config::check(&args.files.config, args.files.dataflows.as_deref(), Need::Connections);
    let problems = checked.problems;
    let holds = checked.plan.is_some() && (!args.strict || problems.is_empty());
    if args.format == Format::Json {
        writeln!(out, "{:#}", problems.json())?;
        return if holds { Ok(()) } else { Err(Fail::Configuration(problems.summary())) };
    }
    let Some(plan) = checked.plan.filter(|_| holds) else { return Err(Fail::Problems(problems)) };
    if !problems.is_empty() {
        io::stderr().write_all(problems.render(colour(&io::stderr())).as_bytes())?;
    }
    let parts = [
        count(plan.sources.len(), "source"),
        count(plan.targets.len(), "target"),
        count(plan.comparisons.len(), "comparison"),
        count(plan.outputs.len(), "output"),
        count(plan.tests.len(), "test"),
    ];
    Ok(writeln!(out, "{} holds: {}", args.files.config.display(), parts.join(", "))?)
}

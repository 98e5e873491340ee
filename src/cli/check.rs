//! `tieout check`: every problem of all files at once.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;

use super::{Fail, Files, colour, count};
use crate::config::{self, Need, Problems};

/// Check the configuration and all dataflows: every problem at once, with its place
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout check --config config.yaml
  tieout check --cluster cluster.yaml --process 0    the cluster file, too
  tieout check --format json                         for editors and CI")]
pub struct Check {
    #[command(flatten)]
    files: Files,
    /// Check this cluster file, too
    #[arg(long, value_name = "FILE", env = "TIEOUT_CLUSTER", hide_env_values = true)]
    cluster: Option<PathBuf>,
    /// Which of its processes this is, from 0, instead of the file's `index`
    #[arg(long, value_name = "N", requires = "cluster")]
    process: Option<usize>,
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
    let (cluster, of_cluster) = match args.cluster.as_deref().map(|file| config::load_cluster(file, args.process)).transpose() {
        Ok(cluster) => (cluster, Problems::default()),
        Err(problems) => (None, problems),
    };
    let (problems, plan) = (checked.problems.and(of_cluster), checked.plan);
    let holds = plan.is_some() && !problems.has_errors() && (!args.strict || problems.is_empty());
    if args.format == Format::Json {
        writeln!(out, "{:#}", problems.json())?;
        return if holds { Ok(()) } else { Err(Fail::Configuration(problems.summary())) };
    }
    let Some(plan) = plan.filter(|_| holds) else { return Err(Fail::Problems(problems)) };
    if !problems.is_empty() {
        io::stderr().write_all(problems.render(colour(&io::stderr())).as_bytes())?;
    }
    let parts = [
        count(plan.sources.len(), "source"),
        count(plan.targets.len(), "target"),
        count(plan.comparisons.len(), "comparison"),
        count(plan.outputs.len(), "output"),
        count(plan.tests.len(), "test"),
        cluster.map_or_else(String::new, |cluster| format!("process {} of {} of cluster `{}`", cluster.index, cluster.processes.len(), cluster.name)),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Ok(writeln!(out, "{} holds: {}", args.files.config.display(), parts.join(", "))?)
}

//! `tieout run`: the live view, for as long as it is wanted or once.

use std::{io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    Fail, Files, dry,
    progress::Progress,
    supervise::{self, Supervised},
};
use crate::{
    config::{Need, span},
    log::Until,
    pipeline::{self, Options, Outcome},
    signals,
};

/// Follow the sources, keep targets and differences, serve and write them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout run --config config.yaml
  tieout run --once --export out                     everything up to now, as files
  tieout run --once --fail-on confirmed              exit code 1 if a confirmed difference stands
  tieout run --processes 2 --restart                 two processes on this machine, started again when one is lost
  tieout run --cluster cluster.yaml --process 0      on one machine, and --process 1 on the next
  tieout run --dry-run --verbose                     nothing is written; samples and times are printed")]
pub struct Run {
    #[command(flatten)]
    files: Files,
    /// Read every log to its end as of the start, then exit; HTTP is not served
    #[arg(long)]
    once: bool,
    /// Read every log from where its source says, and let go of the checkpoints in `data_dir`
    #[arg(long, conflicts_with_all = ["once", "dry_run"])]
    fresh: bool,
    /// With --once: write differences, targets, totals, rejects and a summary to this folder
    #[arg(long, value_name = "DIR", requires = "once")]
    export: Option<PathBuf>,
    /// With --once: exit with 1 if such differences stand
    #[arg(long, value_name = "STATE", requires = "once")]
    fail_on: Option<FailOn>,
    /// Worker threads, instead of the configuration's `workers`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// How often a tick is sealed, from 1ms to 10s, instead of the configuration's `tick`
    #[arg(long, value_name = "SPAN", value_parser = tick)]
    tick: Option<Duration>,
    /// Where HTTP is served, instead of the configuration's `http.listen`; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Run as one process of a cluster: its file says which processes there are; all get the same flags
    #[arg(long, value_name = "FILE", env = "TIEOUT_CLUSTER", hide_env_values = true)]
    cluster: Option<PathBuf>,
    /// Which of its processes this is, from 0, instead of the file's `index`
    #[arg(long, value_name = "N", requires = "cluster")]
    process: Option<usize>,
    /// Run as so many processes on this machine, a cluster of their own; they serve HTTP on ports one after the other
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64), conflicts_with_all = ["process", "cluster"])]
    processes: Option<u16>,
    /// Start again what ended for a reason that may pass (exit code 75, or a signal), from the last checkpoint
    #[arg(long, conflicts_with_all = ["once", "dry_run", "fresh"])]
    restart: bool,
    /// Read to the end like --once, print what would be written, and write nothing
    #[arg(long, conflicts_with_all = ["export"])]
    dry_run: bool,
    /// With --dry-run: samples of rows on their way, and the time of each stage
    #[arg(long, short, requires = "dry_run")]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Differences whose actual side had its time
    Confirmed,
    /// All differences
    Any,
}

/// A tick's length.
pub(super) fn tick(text: &str) -> Result<Duration, String> {
    let tick = span::parse(text)?;
    let limits = Duration::from_millis(1)..=Duration::from_secs(10);
    if limits.contains(&tick) { Ok(tick) } else { Err("a tick is from 1ms to 10s".into()) }
}

pub fn run(args: &Run, out: &mut impl Write) -> Result<(), Fail> {
    let mut plan = args.files.load(Need::Connections)?;
    plan.workers = args.workers.map_or(plan.workers, usize::from);
    plan.tick = args.tick.unwrap_or(plan.tick);
    plan.listen = args.listen.unwrap_or(plan.listen);
    if args.restart || args.processes.is_some() {
        let (processes, name, listen) = (args.processes.map(usize::from), plan.name, plan.listen);
        return supervise::run(&Supervised { processes, name, restart: args.restart, listen });
    }
    supervise::end_with_supervisor();
    let once = args.once || args.dry_run;
    let options = Options {
        until: if once { Until::End } else { Until::Forever },
        export: args.export.clone(),
        serve: !once,
        write: match (args.dry_run, args.verbose) {
            (false, _) => pipeline::Write::Yes,
            (true, verbose) => pipeline::Write::Dry { samples: if verbose { 5 } else { 3 } },
        },
        fresh: args.fresh,
    };
    if options.serve {
        // Until there is a run to be ended in order: while others are waited for, and while it is found out what to go on from.
        signals::when_asked(|| std::process::exit(0)).map_err(pipeline::deaf)?;
    }
    let mesh = args.cluster.as_deref().map(|file| super::cluster::join(file, args.process, &mut plan)).transpose()?;
    let (shown, leads) = (plan.clone(), plan.process.leads());
    let mut progress = None;
    let outcome = pipeline::run(plan, &options, mesh, |live| {
        if let Some(address) = live.address {
            tracing::info!("serving http://{address}/");
        }
        progress = if leads { Progress::start(live, !once) } else { None };
    });
    drop(progress);
    let outcome = outcome?;
    if args.dry_run {
        dry::print(&shown, &outcome, args.verbose, out)?;
    }
    verdict(args.fail_on, &outcome)
}

fn verdict(fail_on: Option<FailOn>, outcome: &Outcome) -> Result<(), Fail> {
    let (count, what) = match fail_on {
        None => return Ok(()),
        Some(FailOn::Confirmed) => (outcome.confirmed, "confirmed differences"),
        Some(FailOn::Any) => (outcome.differences, "differences"),
    };
    if count == 0 {
        return Ok(());
    }
    let _ = writeln!(std::io::stderr(), "{count} {what} stand");
    Err(Fail::No)
}

//! `tieout demo`: two simulated departments, live, on embedded defaults.

use std::{io::Write, net::SocketAddr};

use clap::Args;

use super::{Fail, progress::Progress};
use crate::{
    config::{self, Need},
    log::Until,
    pipeline::{self, Options},
    plan::ConnectionKind,
};

const CONFIG: (&str, &str) = ("dataflows/demo/config.yaml", include_str!("../../dataflows/demo/config.yaml"));
const DATAFLOW: (&str, &str) = ("dataflows/demo/dataflows/sales.yaml", include_str!("../../dataflows/demo/dataflows/sales.yaml"));

/// Watch two simulated departments: differences appear, are in flight, heal or stay
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is needed: no broker, no database, no files. Open the address that is printed; stop with Ctrl-C.

Examples:
  tieout demo
  tieout demo --rate 2000 --workers 2
  tieout demo --listen 127.0.0.1:0                   on a free port")]
pub struct Demo {
    /// Where the page and the HTTP API are served; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7171")]
    listen: SocketAddr,
    /// Worker threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Changes in a second, all tables together
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// The same seed is the same world
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

pub fn demo(args: &Demo, out: &mut impl Write) -> Result<(), Fail> {
    let mut plan = config::load_texts(CONFIG, &[DATAFLOW], &|_| None, Need::Connections)?;
    plan.workers = usize::from(args.workers);
    plan.listen = args.listen;
    for connection in &mut plan.connections {
        connection.kind = ConnectionKind::Demo { seed: args.seed, rate: args.rate };
    }
    let options = Options { until: Until::Forever, export: None, serve: true, write: pipeline::Write::No, fresh: false };
    let mut progress = None;
    let mut said = Ok(());
    let outcome = pipeline::run(plan, &options, None, |live| {
        if let Some(address) = live.address {
            said = writeln!(out, "two departments are at work: open http://{address}/ (Ctrl-C stops)").and_then(|()| out.flush());
        }
        progress = Progress::standing(live);
    });
    drop(progress);
    outcome?;
    Ok(said?)
}

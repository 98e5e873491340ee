//! `tieout cluster`: do the processes of a cluster reach each other, and fit together?

use std::{io::Write, path::PathBuf, time::Duration};

use clap::Args;
use crossbeam_channel::bounded;

use super::{Fail, Files};
use crate::{
    checkpoint::manifest,
    cluster::{Alike, Mesh},
    config::{self, Need, span},
};

/// Join a cluster for a while, and run nothing: do all processes reach each other and fit together?
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout cluster --cluster cluster.yaml --process 0      on one machine,
  tieout cluster --cluster cluster.yaml --process 1      and on the other")]
pub struct Cluster {
    #[command(flatten)]
    files: Files,
    /// The cluster file: which processes there are, and what they know of each other
    #[arg(long, value_name = "FILE", env = "TIEOUT_CLUSTER", hide_env_values = true, default_value = "cluster.yaml")]
    cluster: PathBuf,
    /// Which of its processes this is, from 0, instead of the file's `index`
    #[arg(long, value_name = "N")]
    process: Option<usize>,
    /// How long to stay once all are there
    #[arg(long = "for", value_name = "SPAN", default_value = "5s", value_parser = span::parse)]
    stay: Duration,
}

pub fn cluster(args: &Cluster, out: &mut impl Write) -> Result<(), Fail> {
    let plan = args.files.load(Need::Connections)?;
    let cluster = config::load_cluster(&args.cluster, args.process)?;
    let alike = Alike { threads: plan.workers, plan: manifest::fingerprint(&plan) };
    let (said, lost) = bounded(1);
    let mesh = Mesh::connect(&cluster, &alike, move |lost| drop(said.send(lost))).map_err(|error| match error.retry {
        true => Fail::Retry(error.to_string()),
        false => Fail::Configuration(error.to_string()),
    })?;
    let run: String = mesh.run()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(out, "process {} of cluster `{}`: all {} are there and agree; run {run}", cluster.index, cluster.name, cluster.processes.len())?;
    out.flush()?;
    match lost.recv_timeout(args.stay) {
        Ok(lost) => Err(Fail::Retry(lost.to_string())),
        Err(_) => {
            mesh.leave();
            Ok(())
        }
    }
}

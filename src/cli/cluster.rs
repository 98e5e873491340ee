//! `tieout cluster`: do the processes of a cluster reach each other, and fit together?

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use crossbeam_channel::bounded;

use super::{Fail, Files};
use crate::{
    checkpoint::manifest,
    cluster::{Alike, Lost, Mesh},
    config::{self, Need, span},
    plan::{self, Plan, Process},
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
    let (said, lost) = bounded(1);
    let mesh = connect(&cluster, &plan, move |lost| drop(said.send(lost)))?;
    let run = crate::row::hex(&mesh.run()[..8]);
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

fn connect(cluster: &plan::cluster::Cluster, plan: &Plan, on_lost: impl FnOnce(Lost) + Send + 'static) -> Result<Mesh, Fail> {
    let alike = Alike { threads: plan.workers, plan: manifest::alike(plan) };
    Mesh::connect(cluster, &alike, on_lost).map_err(|error| match error.retry {
        true => Fail::Retry(error.to_string()),
        false => Fail::Configuration(error.to_string()),
    })
}

/// Joins the cluster of a file as the process `index`, or as the one that the file says, to run a plan together. When another
/// one is lost, this process ends at once: what it had not finished is made again by the next start of all of them.
pub(super) fn join(file: &Path, index: Option<usize>, plan: &mut Plan) -> Result<Mesh, Fail> {
    let cluster = config::load_cluster(file, index)?;
    plan.process = Process { index: cluster.index, of: cluster.processes.len() };
    tracing::info!(process = cluster.index, of = plan.process.of, "joins cluster `{}`", cluster.name);
    let mesh = connect(&cluster, plan, |lost| {
        match lost.exit {
            0 => tracing::info!("{lost}"),
            _ => tracing::error!("{lost}"),
        }
        std::process::exit(i32::from(lost.exit));
    })?;
    tracing::info!("all processes of the cluster are there");
    Ok(mesh)
}

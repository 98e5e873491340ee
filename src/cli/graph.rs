//! `tieout graph`: the dataflow as text, or as a picture's source.

use std::io::Write;

use clap::Args;

use super::{Fail, Files};
use crate::{config::Need, http::graph::Graph as Picture};

/// Print the dataflow: sources, mappings, targets, comparisons, outputs
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout graph
  tieout graph --dot | dot -Tsvg > dataflow.svg")]
pub struct Graph {
    #[command(flatten)]
    files: Files,
    /// In DOT, for Graphviz
    #[arg(long)]
    dot: bool,
}

pub fn graph(args: &Graph, out: &mut impl Write) -> Result<(), Fail> {
    let picture = Picture::of(&args.files.load(Need::Mappings)?);
    let text = if args.dot { picture.dot() } else { picture.text() };
    Ok(out.write_all(text.as_bytes())?)
}

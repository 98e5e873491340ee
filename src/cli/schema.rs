//! `tieout schema`: the JSON Schemas of all kinds of file, so that editors complete them.

use std::io::Write;

use clap::{Args, ValueEnum};

use super::Fail;
use crate::config::{self, Kind};

/// Print the JSON Schema of a kind of file, for editors
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout schema dataflow > dataflow.schema.json
  then, as the first line of a dataflow file:
  # yaml-language-server: $schema=dataflow.schema.json")]
pub struct Schema {
    /// The kind of file
    kind: Of,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Of {
    Config,
    Dataflow,
    Cluster,
}

pub fn schema(args: &Schema, out: &mut impl Write) -> Result<(), Fail> {
    let kind = match args.kind {
        Of::Config => Kind::Config,
        Of::Dataflow => Kind::Dataflow,
        Of::Cluster => Kind::Cluster,
    };
    Ok(writeln!(out, "{:#}", config::schema(kind))?)
}

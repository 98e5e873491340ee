//! `tieout audit`: what became of what was read.

use std::io::Write;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{Fail, checkpoint::Where, table::table};
use crate::{checkpoint::folder, ledger::write_csv, row::source_time_text};

/// Tell what became of every message that was read
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout audit counts                                as of the newest checkpoint in `data_dir`
  tieout audit counts --all --format csv             as of every checkpoint that is kept
Messages read = applied + filtered + rejected + suppressed, in every partition at every checkpoint; exit code 1 if not.
Nothing is suppressed as yet: a message that comes again is applied again, which changes nothing.
`GET /metrics` of a running tieout has the same counts as of now: tieout_partition_records_total.")]
pub struct Audit {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Messages by source and partition: read, applied, filtered, rejected, suppressed
    Counts(Counts),
}

#[derive(Debug, Args)]
struct Counts {
    #[command(flatten)]
    at: Where,
    /// Of every checkpoint that is kept, the newest first, instead of only the newest
    #[arg(long)]
    all: bool,
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Ndjson,
}

const COLUMNS: [&str; 11] = ["tick", "taken", "source", "partition", "next", "read", "applied", "filtered", "rejected", "suppressed", "adds_up"];

pub fn audit(args: &Audit, out: &mut impl Write) -> Result<(), Fail> {
    let What::Counts(args) = &args.what;
    let folder = args.at.folder()?;
    let (mut lines, mut sound) = (Vec::new(), true);
    let found = folder::list(&folder).map_err(|error| Fail::Configuration(error.to_string()))?;
    // A damaged one is `checkpoint verify`'s to tell; the newest that can be read counts.
    let kept = found.into_iter().filter_map(|found| found.manifest.ok()).take(if args.all { usize::MAX } else { 1 });
    for manifest in kept {
        for (shape, source) in manifest.sources.iter().zip(&manifest.ledger.sources) {
            for (partition, next) in &source.positions {
                let counts = source.counts.get(partition).copied().unwrap_or_default();
                sound &= counts.add_up();
                let mut line = vec![manifest.tick.to_string(), source_time_text(manifest.ledger.wall_ms), shape.name.clone()];
                line.extend([partition.to_string(), next.to_string()]);
                line.extend(counts.named().map(|(_, count)| count.to_string()));
                line.push(if counts.add_up() { "yes" } else { "NO" }.to_string());
                lines.push(line);
            }
        }
    }
    match args.format {
        Format::Table => write!(out, "{}", table(&COLUMNS, &lines))?,
        Format::Csv => {
            write_csv(out, COLUMNS.map(Some))?;
            for line in &lines {
                write_csv(out, line.iter().map(|cell| Some(cell.as_str())))?;
            }
        }
        Format::Ndjson => {
            for line in &lines {
                let number = |at: usize| line[at].parse::<i64>().unwrap_or_default();
                let mut object = json!({ "tick": number(0), "taken": line[1], "source": line[2], "adds_up": line[10] == "yes" });
                for at in 3..10 {
                    object[COLUMNS[at]] = number(at).into();
                }
                writeln!(out, "{object}")?;
            }
        }
    }
    if sound { Ok(()) } else { Err(Fail::No) }
}

//! `tieout checkpoint`: what a restart could go on from.

use std::{io::Write, path::PathBuf};

use clap::{Args, Subcommand};

use super::{Fail, Files, table::table};
use crate::{
    checkpoint::{self, folder},
    config::Need,
    row::source_time_text,
};

/// List the checkpoints in `data_dir`, or verify them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout checkpoint list
  tieout checkpoint verify --data-dir ./state        reads all of it; exit code 1 if something is damaged")]
pub struct Checkpoint {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The checkpoints, the newest first; their entries are not read
    List(Where),
    /// Reads every checkpoint whole and compares it with its checksums
    Verify(Where),
}

#[derive(Debug, Args)]
pub(super) struct Where {
    #[command(flatten)]
    files: Files,
    /// The folder of tieout's state, instead of the configuration's `data_dir`
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Where {
    pub(super) fn folder(&self) -> Result<PathBuf, Fail> {
        let data_dir = match &self.data_dir {
            Some(dir) => dir.clone(),
            None => self.files.load(Need::Connections)?.data_dir,
        };
        let folder = checkpoint::folder_of(&data_dir);
        match std::fs::read_dir(&folder) {
            Ok(_) => Ok(folder),
            Err(error) => {
                let remedy = "name the folder that `tieout run` keeps its state in with `--data-dir`";
                Err(Fail::Configuration(format!("there are no checkpoints in {}: {error}; {remedy}", data_dir.display())))
            }
        }
    }
}

pub fn checkpoint(args: &Checkpoint, out: &mut impl Write) -> Result<(), Fail> {
    let (of, verify) = match &args.what {
        What::List(of) => (of, false),
        What::Verify(of) => (of, true),
    };
    let folder = of.folder()?;
    let mut sound = true;
    let mut rows = Vec::new();
    let mut damages = Vec::new();
    for found in folder::list(&folder).map_err(|error| Fail::Configuration(error.to_string()))? {
        let tick = found.tick;
        match if verify { found.sound(&folder) } else { found.manifest } {
            Ok(manifest) => {
                let bytes: u64 = manifest.entries.iter().map(|file| file.bytes).sum();
                let messages: u64 = manifest.ledger.sources.iter().map(|source| source.counts().read).sum();
                rows.push(vec![
                    tick.to_string(),
                    source_time_text(manifest.ledger.wall_ms),
                    manifest.entries.len().to_string(),
                    bytes.to_string(),
                    messages.to_string(),
                    manifest.written_by,
                    if verify { "sound".into() } else { String::new() },
                ]);
            }
            // A tieout that runs let go of it meanwhile.
            Err(_) if folder::is_gone(&folder, tick) => {}
            Err(error) => {
                sound = false;
                let nothing = || "-".to_string();
                rows.push(vec![
                    tick.to_string(),
                    nothing(),
                    nothing(),
                    nothing(),
                    nothing(),
                    nothing(),
                    if error.code == "CHECKPOINT_NEWER" { "NEWER" } else { "DAMAGED" }.into(),
                ]);
                damages.push(error.message);
            }
        }
    }
    write!(out, "{}", table(&["tick", "taken", "files", "bytes", "messages", "by", ""], &rows))?;
    for damage in damages {
        writeln!(out, "{damage}")?;
    }
    if sound { Ok(()) } else { Err(Fail::No) }
}

//! `tieout reference`: the pages of `docs/reference`, made from the code.

use std::io::Write;

use clap::{Args, ValueEnum};

use super::Fail;
use crate::{config, reference};

/// Print a page of the reference, made from the code
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout reference settings > docs/reference/settings.md")]
pub struct Reference {
    /// The page
    page: Page,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Page {
    /// All settings of both kinds of file
    Settings,
    /// All metrics
    Metrics,
    /// All codes: exits, rejects, stops, problems over HTTP and of files
    Codes,
    /// All commands and their options
    Cli,
}

pub fn reference(args: &Reference, out: &mut impl Write) -> Result<(), Fail> {
    let text = match args.page {
        Page::Settings => config::reference(),
        Page::Metrics => reference::metrics(),
        Page::Codes => reference::codes(),
        Page::Cli => reference::cli(super::command()),
    };
    Ok(out.write_all(text.as_bytes())?)
}

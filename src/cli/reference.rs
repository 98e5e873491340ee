//! `tieout reference`: the pages of `docs/reference`, made from the code.

use std::{fmt::Write as _, io::Write};

use clap::{Args, ValueEnum};

use super::Fail;
use crate::{config, engine::table::change, telemetry};

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
    /// All codes of problems and rejects, and exit codes
    Codes,
    /// All commands and their options
    Cli,
}

pub fn reference(args: &Reference, out: &mut impl Write) -> Result<(), Fail> {
    let text = match args.page {
        Page::Settings => config::reference(),
        Page::Metrics => telemetry::reference(),
        Page::Codes => codes(),
        Page::Cli => cli(),
    };
    Ok(out.write_all(text.as_bytes())?)
}

/// Codes of problems, of rejects, and of exits.
pub fn codes() -> String {
    let mut text = String::from("# Codes\n\nMade from the code by `tieout reference codes`.\n\n## Problems of configurations (`tieout check`)\n\n| code | meaning |\n| --- | --- |\n");
    for (_, name, meaning) in config::codes::CODES {
        let _ = writeln!(text, "| `{name}` | {meaning} |");
    }
    text.push_str("\n## Rejects (`rejects.csv`, `/api/v1/rejects`)\n\n| code | meaning |\n| --- | --- |\n");
    for (name, meaning) in change::CODES {
        let _ = writeln!(text, "| `{name}` | {meaning} |");
    }
    text.push_str("\n## Exits\n\n| code | meaning |\n| --- | --- |\n");
    for (code, meaning) in [
        (0, "done"),
        (1, "differences with `--fail-on`, or failed tests"),
        (2, "wrong usage"),
        (70, "a bug in tieout"),
        (74, "output that can't be written"),
        (75, "a failure worth retrying"),
        (78, "a configuration that does not hold"),
    ] {
        let _ = writeln!(text, "| {code} | {meaning} |");
    }
    text
}

/// Every command with its options.
pub fn cli() -> String {
    let mut text = String::from("# Commands\n\nMade from the code by `tieout reference cli`.\n");
    let mut command = super::command();
    command.build();
    for name in super::help::GROUPS.iter().flat_map(|(_, names)| names.iter()) {
        if let Some(sub) = command.find_subcommand_mut(name) {
            let _ = write!(text, "\n## tieout {name}\n\n```text\n{}\n```\n", sub.render_long_help().to_string().trim_end());
        }
    }
    text
}

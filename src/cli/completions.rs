//! `tieout completions`: what a shell needs to complete commands.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use super::Fail;

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tieout completions bash > ~/.local/share/bash-completion/completions/tieout
  tieout completions zsh > \"${fpath[1]}/_tieout\"
  tieout completions fish > ~/.config/fish/completions/tieout.fish")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

pub fn completions(args: &Completions, out: &mut impl Write) -> Result<(), Fail> {
    // The generator panics on a closed pipe, so it writes to memory.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "tieout", &mut text);
    Ok(out.write_all(&text)?)
}

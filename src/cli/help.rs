//! The overview that `tieout --help` prints: commands in groups, then examples. The sentences are the commands' own.

use std::fmt::Write as _;

use clap::CommandFactory;

/// The groups of commands, in the order of somebody's first day. Every command is in one of them.
pub const GROUPS: [(&str, &[&str]); 5] = [
    ("Start here", &["demo", "run"]),
    ("Write dataflows", &["check", "test", "graph", "explain-plan", "schema"]),
    ("Look after one that runs", &["checkpoint", "audit", "sink", "cluster"]),
    ("Ask a running tieout", &["differences", "rows", "processes"]),
    ("About", &["reference", "completions", "version"]),
];

const EXAMPLES: &str = "\
Examples:
  tieout demo                                            two simulated departments, live on a page
  tieout check                                           every problem of ./config.yaml and ./dataflows
  tieout test                                            the tests inside the dataflow files
  tieout run                                             follow the sources, serve the live view
  tieout run --once --export out --fail-on confirmed     reconcile once, in a pipeline
  tieout run --dry-run --verbose                         what would be written, and where the time goes
  tieout differences orders_in_erp --state confirmed     from the tieout that runs on this machine

Exit codes: 0 done, 1 differences (--fail-on) or failed tests, 2 wrong usage, 70 a bug in tieout,
74 output that can't be written, 75 a failure worth retrying, 78 a configuration that does not hold.
";

/// The command line with its overview.
pub fn command() -> clap::Command {
    let command = super::Cli::command();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("{about}\n\nUsage: tieout [OPTIONS] COMMAND\n");
    for (group, names) in GROUPS {
        let _ = writeln!(text, "\n{group}:");
        for name in names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about).map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {name:<13} {about}");
        }
    }
    text.push_str(
        "
Options:
      --log FILTER         What is logged to stderr [env: TIEOUT_LOG]
      --log-format FORMAT  text or json [env: TIEOUT_LOG_FORMAT]
  -h, --help               This overview; `tieout COMMAND --help` says more of a command
  -V, --version            The version

",
    );
    text.push_str(EXAMPLES);
    command.override_help(text)
}

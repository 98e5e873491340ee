//! The command line: one file a command. Nothing is computed here; commands load a plan, run it, ask a running tieout, and
//! print.
//!
//! | file | commands |
//! | --- | --- |
//! | `run`, `demo` | the live view |
//! | `check`, `test`, `graph`, `explain` | what dataflow files say, before anything runs |
//! | `checkpoint` | what a restart could go on from |
//! | `audit` | what became of what was read |
//! | `sink` | transactions that were left open |
//! | `cluster` | whether the processes of a cluster reach each other |
//! | `ask` | `differences`, `rows`, `processes`: questions to a running tieout |
//! | `schema`, `reference`, `completions` | texts made from the code |
//! | `help` | the overview of commands |
//! | `supervise` | `run` in several processes of this machine, and again |
//! | `progress`, `dry` | what `run` shows on a terminal, and instead of writing |

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::{
    config::{self, Need, Problems},
    pipeline::{Blame, Failure},
    plan::Plan,
};

mod ask;
mod audit;
mod check;
mod checkpoint;
mod cluster;
mod completions;
mod demo;
mod dry;
mod explain;
mod graph;
mod help;
mod log;
mod progress;
mod reference;
mod run;
mod schema;
mod sink;
mod supervise;
mod table;
mod test;

pub use help::command;

/// tieout keeps two things live, from change streams: the tables that systems should hold, and the differences between those
/// and the tables that they do hold.
#[derive(Debug, Parser)]
#[command(name = "tieout", version, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    logging: Logging,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
struct Logging {
    /// What is logged to stderr: error, warn, info, debug, trace, or a filter such as `warn,tieout::log=debug`
    #[arg(long, global = true, value_name = "FILTER", env = "TIEOUT_LOG", hide_env_values = true)]
    log: Option<String>,
    /// How log lines are written
    #[arg(long, global = true, value_name = "FORMAT", env = "TIEOUT_LOG_FORMAT", hide_env_values = true, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Demo(demo::Demo),
    Check(check::Check),
    Test(test::Test),
    Checkpoint(checkpoint::Checkpoint),
    Audit(audit::Audit),
    Sink(sink::Sink),
    Cluster(cluster::Cluster),
    Graph(graph::Graph),
    ExplainPlan(explain::ExplainPlan),
    Differences(ask::Differences),
    Rows(ask::Rows),
    Processes(ask::Processes),
    Schema(schema::Schema),
    Reference(reference::Reference),
    Completions(completions::Completions),
    /// Prints the version
    Version,
}

/// Which files to read.
#[derive(Clone, Debug, Args)]
struct Files {
    /// The configuration: where tieout runs, and the systems it reaches
    #[arg(long, short, value_name = "FILE", env = "TIEOUT_CONFIG", hide_env_values = true, default_value = "config.yaml")]
    config: PathBuf,
    /// The folder of dataflow files [default: `dataflows/` beside the configuration]
    #[arg(long, value_name = "DIR")]
    dataflows: Option<PathBuf>,
}

impl Files {
    fn load(&self, need: Need) -> Result<Plan, Fail> {
        Ok(config::load(&self.config, self.dataflows.as_deref(), need)?)
    }
}

/// The exit code of what is worth trying again.
const RETRY: u8 = 75;

/// Why a command did not do what it should; each kind has its exit code.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The answer is no: differences with `--fail-on`, a failed test. What there is to say has been said.
    No,
    /// 2: the command line asks for what does not go.
    Usage(String),
    /// A process that this one started ended so, and has said why.
    Child(u8),
    /// 70: tieout itself is at fault.
    Internal(String),
    /// 75: worth trying again.
    Retry(String),
    /// 78: the configuration, or what it points to, does not hold.
    Configuration(String),
    /// 78.
    Problems(Problems),
    /// Output that could not be written; nobody listening is no error.
    Output(io::Error),
}

impl From<Problems> for Fail {
    fn from(problems: Problems) -> Fail {
        Fail::Problems(problems)
    }
}

impl From<io::Error> for Fail {
    fn from(error: io::Error) -> Fail {
        Fail::Output(error)
    }
}

impl From<Failure> for Fail {
    fn from(failure: Failure) -> Fail {
        match failure.blame {
            Blame::Configuration => Fail::Configuration(failure.message),
            Blame::Surroundings => Fail::Retry(failure.message),
            Blame::Tieout => Fail::Internal(failure.message),
        }
    }
}

impl Fail {
    /// Says what is wrong, and gives the exit code.
    fn report(self) -> u8 {
        let (code, text) = match self {
            Fail::No => return 1,
            Fail::Child(code) => return code,
            Fail::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
            Fail::Problems(problems) => {
                let _ = io::stderr().write_all(problems.render(colour(&io::stderr())).as_bytes());
                return 78;
            }
            Fail::Usage(text) => (2, text),
            Fail::Internal(text) => (70, text),
            Fail::Retry(text) => (RETRY, text),
            Fail::Configuration(text) => (78, text),
            Fail::Output(error) => (74, format!("the output can't be written: {error}")),
        };
        // Messages of parts are `what; remedy`, and the remedy has its own line here.
        let text = text.replacen("; ", "\n  help: ", 1);
        let _ = writeln!(io::stderr(), "error: {text}");
        code
    }
}

/// Whether to write in colour.
fn colour(to: &impl IsTerminal) -> bool {
    to.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// `1 row`, `2 rows`.
fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version go to stdout and are no error.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(2);
        }
    };
    if matches!(cli.command, Command::Run(_) | Command::Demo(_)) {
        thrifty();
    }
    let default = if matches!(cli.command, Command::Run(_)) { "info" } else { "warn" };
    let done = log_to_stderr(&cli.logging, default).and_then(|()| dispatch(cli.command));
    ExitCode::from(done.err().map_or(0, Fail::report))
}

/// Has the allocator commit its arenas piece by piece, so that what is given back is given back to the system, too: on the
/// reference workload 86 MB at the peak instead of 150 MB, at the same speed. mimalloc reads its options when the process
/// starts, before anything of ours runs, so the process replaces itself by the same program with the option set; where that
/// does not go, it goes on as it is.
fn thrifty() {
    const OPTION: &str = "MIMALLOC_ARENA_EAGER_COMMIT";
    #[cfg(unix)]
    if std::env::var_os(OPTION).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        use std::os::unix::process::CommandExt;
        let _ = std::process::Command::new(program).args(std::env::args_os().skip(1)).env(OPTION, "0").exec();
    }
}

fn dispatch(command: Command) -> Result<(), Fail> {
    let out = &mut io::stdout().lock();
    match command {
        Command::Run(args) => run::run(&args, out),
        Command::Demo(args) => demo::demo(&args, out),
        Command::Check(args) => check::check(&args, out),
        Command::Test(args) => test::test(&args, out),
        Command::Audit(args) => audit::audit(&args, out),
        Command::Checkpoint(args) => checkpoint::checkpoint(&args, out),
        Command::Cluster(args) => cluster::cluster(&args, out),
        Command::Sink(args) => sink::sink(&args, out),
        Command::Graph(args) => graph::graph(&args, out),
        Command::ExplainPlan(args) => explain::explain_plan(&args, out),
        Command::Differences(args) => ask::differences(&args, out),
        Command::Rows(args) => ask::rows(&args, out),
        Command::Processes(args) => ask::processes(&args, out),
        Command::Schema(args) => schema::schema(&args, out),
        Command::Reference(args) => reference::reference(&args, out),
        Command::Completions(args) => completions::completions(&args, out),
        Command::Version => Ok(writeln!(out, "tieout {}", env!("CARGO_PKG_VERSION"))?),
    }
}

fn log_to_stderr(logging: &Logging, default: &str) -> Result<(), Fail> {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = logging.log.as_deref().unwrap_or(default);
    let filter =
        EnvFilter::try_new(filter).map_err(|e| Fail::Usage(format!("`--log {filter}` is no filter: {e}; for example `info`, or `warn,tieout::log=debug`")))?;
    let to_stderr = fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    let process = supervise::number();
    match logging.log_format {
        LogFormat::Text => to_stderr.with_ansi(colour(&io::stderr())).map_event_format(|lines| log::Numbered { lines, process, json: false }).init(),
        LogFormat::Json => to_stderr.json().flatten_event(true).map_event_format(|lines| log::Numbered { lines, process, json: true }).init(),
    }
    Ok(())
}
